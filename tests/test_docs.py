"""The documents say what the code does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stillfresh import (
    ConfigError,
    Content,
    EntryInfo,
    Explanation,
    MemoryCache,
    Stats,
    cache_from_url,
    explain,
)
from stillfresh.cli.documents import (
    entry_document,
    explanation_document,
    line_of,
    stats_document,
    variant_document,
)
from stillfresh.testing.conformance.tools import store
from tests.clients import limits
from tests.engine.world import legacy

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


def test_the_page_of_the_command_has_its_help_texts() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "command.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    written = (ROOT / "docs" / "command.md").read_text("utf-8")
    assert made.stdout == written, "make docs"
    _, _, listed = written.partition("Commands:\n")
    commands = re.findall(r"^  ([a-z]+) ", listed.partition("```")[0], re.MULTILINE)
    assert len(commands) >= 9
    shown = re.findall(r"^\$ stillfresh ([a-z]*) ?--help$", written, re.MULTILINE)
    assert sorted(shown) == sorted(["", *commands])


def test_the_page_of_the_command_has_the_names_in_its_documents() -> None:
    listed = EntryInfo("", "", 0, 0, 0.0, 0.0, None)
    page = (ROOT / "docs" / "command.md").read_text("utf-8").partition("\nOf an entry:\n")[2]
    of_entry, _, page = page.partition("\nOf all:\n")
    of_all, _, page = page.partition("\nOf a response, ")
    of_response, _, of_request = page.partition("\nOf a request, ")
    assert names_in_rows(of_entry) == list(json.loads(line_of(entry_document(listed, Content()))))
    assert names_in_rows(of_all) == list(json.loads(line_of(stats_document(Stats()))))
    told = told_of_a_response()
    assert told.stored is not None
    document = variant_document(told.stored, selected=True)
    assert names_in_rows(of_response) == list(json.loads(line_of(document)))
    assert names_in_rows(of_request) == list(json.loads(line_of(explanation_document(told))))


def told_of_a_response() -> Explanation:
    url = "http://a.example/"
    with MemoryCache() as cache:
        store(cache, url, legacy(b"body"), None)
        return explain(cache, url)


def names_in_rows(page: str) -> list[str]:
    first = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    return [name for cell in first for name in re.findall("`([a-z_]+)`", cell)]


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


@pytest.mark.parametrize(
    ("scheme", "named"), [("sqlite", "`sqlite:`"), ("file", "`file:`"), ("memory", "`memory:`")]
)
def test_the_page_of_caches_has_the_options_of_their_urls(scheme: str, named: str) -> None:
    place = "" if scheme == "memory" else "///path"
    assert options_in_the_page(named) == options_in_the_error(f"{scheme}:{place}?x=1")


def test_the_page_of_caches_has_the_options_of_urls_of_redis() -> None:
    assert options_in_the_page("Redis") == options_in_the_error("redis://localhost?x=1")


def options_in_the_page(named: str) -> set[str]:
    page = (ROOT / "docs" / "caches.md").read_text("utf-8").partition("Options stand")[2]
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    return {
        option
        for _, options, where, *_ in rows
        if named in where
        for option in re.findall("`([a-z_]+)`", options)
    }


def options_in_the_error(url: str) -> set[str]:
    with pytest.raises(ConfigError) as caught:
        cache_from_url(url)
    return set(re.findall("[a-z_]+", str(caught.value).partition("; there are ")[2])) - {"and"}
