"""``python -m ptt`` is ``ptt``."""

from ptt.cli import main

main(prog_name="ptt")
