"""What Python runs first in each process of a rig that needs hooks: this folder is in its PYTHONPATH."""

import os
import sys
from pathlib import Path

from tests.chaos import hooks, poison

if folder := os.environ.get("CHAOS_POINTS"):
    hooks.install(Path(folder))
if flag := os.environ.get("CHAOS_POISON"):
    poison.install(hooks.find_role(sys.orig_argv), Path(flag))
