"""What Python runs first in each process of a rig that kills at named steps: this folder is in its PYTHONPATH."""

import os
from pathlib import Path

from tests.chaos.hooks import install

if folder := os.environ.get("CHAOS_POINTS"):
    install(Path(folder))
