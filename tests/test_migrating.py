"""What docs/migrating.md shows is run, before and after."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillfresh import Policy, SeparateBodyFileCache
from tests.origin import Document, Origin

PAGE = Path(__file__).parent.parent / "docs" / "migrating.md"
SECTIONS = {
    title: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(
        r"^##+ (.+?)\n(.*?)(?=^##|\Z)", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
}
# What an example needs that its library doesn't bring along.
EXTRAS = {"aiohttp_client_cache": ["aiosqlite"]}


@pytest.fixture
def url(origin: Origin) -> str:
    return origin.on("/", Document(b"hello", headers={"Date": "Thu, 01 Jan 2037 00:00:00 GMT"}))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with warnings.catch_warnings():
        # Other libraries are not asked to be without them.
        warnings.simplefilter("ignore")
        yield


def run(source: str, url: str = "") -> dict[str, Any]:
    """Run an example against our origin; skip it where the library that it is about isn't here."""
    for module in re.findall(r"^(?:import|from) ([\w.]+)", source, re.MULTILINE):
        for needed in (module, *EXTRAS.get(module, ())):
            pytest.importorskip(needed, exc_type=ImportError)
    names: dict[str, Any] = {}
    exec(source.replace("https://example.org/", url), names)  # noqa: S102 - our own page
    return names


def both(title: str) -> list[Any]:
    """Return the two examples of a section, to be run as they are."""
    before, after, *_ = SECTIONS[title]
    return [
        pytest.param(before, id=f"{title}: before"),
        pytest.param(after, id=f"{title}: after"),
    ]


@pytest.mark.parametrize(
    "source",
    [
        *both("One import"),
        pytest.param(SECTIONS["All of it"][0], id="All of it"),
        *both("requests-cache"),
        *both("hishel"),
        *both("aiohttp-client-cache"),
    ],
)
def test_the_second_time_the_origin_is_not_asked(origin: Origin, source: str, url: str) -> None:
    for _ in range(2):
        names = run(source, url)
        for name in ("session", "client"):
            if name in names:
                names[name].close()
    assert len(origin.received) == 1


def test_the_folder_of_cachecontrol_stays_warm(origin: Origin, url: str) -> None:
    before, after = SECTIONS["One import"]
    for source in (before, after, SECTIONS["All of it"][0]):
        session = run(source, url)["session"]
        assert session.get(url).from_cache
        session.close()
    assert len(origin.received) == 1


def test_the_heuristics_are_what_they_are_called() -> None:
    _, before, after = SECTIONS["All of it"]
    assert run(before)["heuristic"].delta.total_seconds() == 3600
    policy = run(after)["policy"]
    assert isinstance(policy, Policy)
    assert [rule.fresh_for for rule in policy.rules] == [3600, None]


def test_what_the_page_promises_of_closing_is_so(origin: Origin, url: str) -> None:
    run(SECTIONS["All of it"][0], url)["session"].close()
    with SeparateBodyFileCache(".web") as cache:
        assert cache.stats().entries == 1


@pytest.mark.parametrize(
    "expression",
    sorted(set(re.findall(r"`((?:Policy|Rule)\([^`]*\))`", PAGE.read_text("utf-8")))),
)
def test_the_counterparts_in_the_tables_can_be_made(expression: str) -> None:
    if "..." in expression:
        expression = re.sub(r"(?:statuses|methods)=\.\.\.", "statuses={200}", expression)
        expression = expression.replace("statuses={200}, statuses={200}", "statuses={200}")
        expression = expression.replace("key_without=...", "key_without={'a'}")
        expression = expression.replace("key_with_content=...", "key_with_content=True")
        expression = expression.replace("ExpiresAfter(...)", "ExpiresAfter(hours=1)")
        expression = expression.replace("=...", "=1")
    exec(f"from stillfresh import *\n{expression}", {})  # noqa: S102
