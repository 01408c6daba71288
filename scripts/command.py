"""Print docs/command.md with the help texts that the command has now."""

import os
import re
import subprocess
import sys
from pathlib import Path

_PAGE = Path(__file__).parent.parent / "docs" / "command.md"
# A block that shows what `stillfresh --help`, or that of one of its commands, writes.
_BLOCK = re.compile(
    r"(?<=^```console\n)\$ stillfresh (?P<command>[a-z]* ?)--help\n.*?(?=^```$)",
    re.MULTILINE | re.DOTALL,
)


def page() -> str:
    """Return the text of the page."""
    return _BLOCK.sub(_shown, _PAGE.read_text("utf-8"))


def _shown(block: re.Match[str]) -> str:
    arguments = [*block["command"].split(), "--help"]
    written = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "stillfresh", *arguments],
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return f"$ stillfresh {' '.join(arguments)}\n{written.stdout}"


if __name__ == "__main__":
    sys.stdout.write(page())
