"""The documents say what the code does."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients import limits

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


@pytest.mark.parametrize(
    ("clients", "cannot"),
    [
        ("requests, urllib3", limits.OF_HTTP_CLIENT),
        ("httpx, httpx2", limits.OF_HTTPX),
        ("aiohttp", limits.OF_AIOHTTP),
    ],
)
def test_the_page_of_clients_says_what_each_cannot_do(clients: str, cannot: dict[str, str]) -> None:
    page = (ROOT / "docs" / "clients.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `test_")]
    expected = [f"| `{name}` | {clients} | {why} |" for name, why in cannot.items()]
    assert [row for row in rows if f"| {clients} |" in row] == expected
