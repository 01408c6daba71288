"""What the README shows is run."""

import re
from pathlib import Path

import pytest
import requests

from stillfresh import Policy
from stillfresh.clients.requests import CacheAdapter, CachedSession
from tests.origin import Document, Origin, Reply

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


def block_with(text: str) -> str:
    [block] = [str(block) for block in BLOCKS if text in block]
    return block


def test_the_first_example_says_what_it_prints(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    origin.on("/", Reply(headers={"Cache-Control": "max-age=3600"}, body=b"hello"))
    names: dict[str, object] = {}
    source = block_with("CachedSession()").replace("https://example.org/", origin.url("/"))
    exec(source, names)  # noqa: S102 - our own README
    response, session = names["r"], names["session"]
    assert getattr(response, "from_cache") is True  # noqa: B009
    assert isinstance(session, CachedSession)
    session.close()


def test_an_adapter_is_mounted_on_a_session_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(block_with("session.mount"), names)  # noqa: S102
    session = names["session"]
    assert hasattr(session, "get_adapter")
    assert isinstance(session.get_adapter("https://example.org/"), CacheAdapter)


def test_cachecontrol_takes_our_cache(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    url = origin.on("/", Document(b"hello", headers={"Date": "Thu, 01 Jan 2037 00:00:00 GMT"}))
    names: dict[str, object] = {}
    exec(block_with("import CacheControl"), names)  # noqa: S102
    session = names["session"]
    assert isinstance(session, requests.Session)
    for _ in range(2):
        session.get(url)
    assert len(origin.received) == 1
    session.close()


def test_a_cache_on_redis_is_made_before_anybody_is_asked() -> None:
    names: dict[str, object] = {}
    exec(block_with("RedisCache(client"), names)  # noqa: S102
    session = names["session"]
    assert isinstance(session, CachedSession)
    session.close()


def test_the_policy_is_one() -> None:
    names: dict[str, object] = {}
    exec(block_with("stale_if_error"), names)  # noqa: S102
    assert isinstance(names["policy"], Policy)


def own_cache() -> dict[str, object]:
    """Run the example of a cache of one's own, and the test that goes with it."""
    names: dict[str, object] = {}
    exec(block_with("class Bucket"), names)  # noqa: S102
    exec(block_with("class TestBucket"), names)  # noqa: S102
    return names


TestBucket = own_cache()["TestBucket"]
"""The README's test of the README's cache."""
