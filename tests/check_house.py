"""Checks of the house that no linter knows: file size, RFC list, Lua files with a wrapper each.

Run by ``make check``; prints one line for each problem and exits 1 if there is any.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_LINES = 400
"""The wall for a file: what is longer has more than one reason to change."""
FOLDERS = ("ptt", "tests", "bench")


def list_problems() -> Iterator[str]:
    """Give one line for each problem."""
    listed = set(re.findall(r"RFC (\d+)", (ROOT / "docs/rfc.md").read_text()))
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text()
        name = path.relative_to(ROOT)
        if (lines := text.count("\n")) > MAX_LINES:
            yield f"{name}: {lines} lines, at most {MAX_LINES}"
        cited = set(re.findall(r"RFC (\d{3,5})", text)) if name.parts[0] == "ptt" else set()
        yield from (f"{name}: RFC {number} is not in docs/rfc.md" for number in sorted(cited - listed))
    source = "".join(path.read_text() for path in (ROOT / "ptt/store").glob("*.py"))
    for path in (ROOT / "ptt/store/lua").glob("*.lua"):
        if path.stem != "prelude" and f'"{path.stem}"' not in source:
            yield f"{path.relative_to(ROOT)}: no wrapper in ptt/store"


def main() -> int:
    """Print the problems and give the exit code."""
    problems = list(list_problems())
    for problem in problems:
        print(problem)
    print(f"house: {len(problems)} problems")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
