"""The documents say what the code does."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_page_of_decisions_is_the_one_that_the_code_makes() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "decisions.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    written = (ROOT / "docs" / "decisions.md").read_text("utf-8")
    assert made.stdout == written, "make docs"
