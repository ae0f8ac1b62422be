"""Long runs: ``make fuzz FUZZ="--target path --executions 1000000 --seed 7"``. Coverage guided, by atheris.

With ``--blind`` the inputs are changed seeds, as in the test suite, and nothing is watched: many times as fast.
Each target runs in a process of its own, because the engine does not come back. An input that breaks a rule is kept in
tests/data/fuzz/<target>/, where the test suite tries it from then on. Exits 1 if there was any.
"""

import argparse
import contextlib
import hashlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NoReturn

import atheris

from tests.fuzz.mutation import Mutator

SAVED = Path(__file__).parents[1] / "data/fuzz"
MAX_SAVED = 20
"""Inputs that one run keeps: each shows another place that failed."""
HANG_S = 30
"""An input that takes longer is a hang; the engine keeps it and ends the run."""


class Run:
    """One target for some time."""

    def __init__(self, name: str, executions: int, *, is_blind: bool) -> None:
        """Prepare; imports all that is watched."""
        # Nothing of ptt may be imported before: what is, is not watched.
        watched = ["nothing"] if is_blind else ["ptt"]
        with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=watched):
            from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - see above
        self.target = TARGETS[name]
        self._left = self._executions = executions
        self._places: set[str] = set()
        self._began_at = time.monotonic()

    def start(self, seed: int, folder: Path) -> None:
        """Run; ends the process.

        Args:
            seed: of the engine's chance.
            folder: empty, for the inputs that the engine collects.
        """
        for number, octets in enumerate(self.target.seeds):
            (folder / f"seed{number}").write_bytes(octets)
        words = folder.with_suffix(".words")
        words.write_text("".join(f'"{_escape(word)}"\n' for word in self.target.words))
        own = SAVED / self.target.name
        options = {
            "dict": words,
            "max_len": self.target.max_bytes,
            "seed": seed,
            "timeout": HANG_S,
            "artifact_prefix": f"{own}/",
            # Measured: three times as many inputs are taken by what reads them than with the defaults.
            "len_control": 0,
            "mutate_depth": 2,
            "reduce_inputs": 0,
            "handle_int": 0,
            "handle_term": 0,
            "verbosity": 0,
        }
        # The engine would end at once; like this the figures are told of what was done.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._end())
        settings = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *settings, str(folder), str(own)], self._try)
        atheris.Fuzz()

    def start_blind(self, seed: int) -> NoReturn:
        """Run without the engine; ends the process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._end())
        mutator = Mutator(self.target, seed)
        for octets in self.target.seeds:
            self._try(octets)
        while True:
            self._try(mutator.make())

    def _try(self, octets: bytes) -> None:
        try:
            self.target.check(octets)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            self._keep(octets, error)
        self._left -= 1
        if not self._left:
            self._end()

    def _keep(self, octets: bytes, error: Exception) -> None:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} {last.filename}:{last.lineno}"
        if place in self._places or len(self._places) >= MAX_SAVED:
            return
        self._places.add(place)
        path = SAVED / self.target.name / hashlib.sha256(octets).hexdigest()[:12]
        path.write_bytes(octets)
        traceback.print_exception(error)
        print(f"{self.target.name}: kept as {path.relative_to(Path.cwd())}")

    def _end(self) -> None:
        seconds = time.monotonic() - self._began_at
        done = self._executions - self._left
        print(f"{self.target.name}: {done} executions, {seconds:.0f} s, {len(self._places)} crashes")
        sys.stdout.flush()
        os._exit(bool(self._places))


def _escape(word: bytes) -> str:
    return "".join(f"\\x{octet:02X}" for octet in word)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="make fuzz FUZZ=", description="Fuzz the targets; all of them by default.")
    parser.add_argument("--target", action="append", help="may be repeated")
    parser.add_argument("--executions", type=int, default=100_000, help="of each target [100000]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="changed seeds, not guided by coverage")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        logging.getLogger().addHandler(logging.NullHandler())
        folder = Path(tempfile.mkdtemp())
        run = Run(arguments.child, arguments.executions, is_blind=arguments.blind)
        if arguments.blind:
            run.start_blind(arguments.seed)
        run.start(arguments.seed, folder)
    codes = [_run_child(name, arguments) for name in arguments.target or _list_names()]
    return int(any(codes))


def _run_child(name: str, arguments: argparse.Namespace) -> int:
    own = SAVED / name
    own.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "tests.fuzz.run", "--child", name]
    argv += ["--executions", str(arguments.executions), "--seed", str(arguments.seed)]
    argv += ["--blind"] if arguments.blind else []
    # The child's end is sudden: what it wrote is removed here.
    with tempfile.TemporaryDirectory(prefix="ptt-fuzz-") as folder:
        code = subprocess.run(argv, check=False, env={**os.environ, "TMPDIR": folder}).returncode
    if not any(own.iterdir()):
        own.rmdir()
    return code


def _list_names() -> list[str]:
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - not in the processes that watch it

    return list(TARGETS)


if __name__ == "__main__":
    sys.exit(main())
