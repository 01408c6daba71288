"""What the pages show passes a type checker.

It is as strict as it can be with examples that write no types. `tests/typing` is for who does.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/clients.md", "docs/migrating.md")
LENIENT = "# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls\n"


def blocks() -> Iterator[tuple[str, str]]:
    """Yield the examples, each with a name that says where it stands."""
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        for block in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
            line = text.count("\n", 0, block.start(1)) + 1
            yield f"{Path(page).stem}_{line}", block[1]


def examples() -> dict[str, str]:
    """Return the examples of ours, each as a module."""
    every = dict(blocks())
    [bucket] = [source for source in every.values() if "class Bucket" in source]
    return {
        name: bucket + source if "class TestBucket" in source else source
        for name, source in every.items()
        if "from stillfresh" in source
        # CacheControl's session is to checkers one of requests', whose responses lack it.
        and not ("from cachecontrol" in source and ".from_cache" in source)
    }


def test_the_examples_pass_a_type_checker(tmp_path: Path) -> None:
    for name, source in examples().items():
        (tmp_path / f"{name}.py").write_text(LENIENT + source, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
