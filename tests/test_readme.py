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


EXAMPLES = {
    "requests": "CachedSession()",
    "httpx": "CachedClient()  # an httpx.Client",
    "httpx2": "AsyncCachedClient()",
    "aiohttp": "CacheMiddleware()",
    "urllib3": "CachedPoolManager()",
}


@pytest.mark.parametrize("client", EXAMPLES)
def test_the_same_lines_for_each_client_say_what_they_print(
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    client: str,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    origin.on("/", Reply(headers={"Cache-Control": "max-age=3600"}, body=b"hello"))
    names: dict[str, object] = {}
    block = block_with(EXAMPLES[client])
    exec(block.replace("https://example.org/", origin.url("/")), names)  # noqa: S102 - our own
    said = r"hit: fresh: max-age=3600, age \d+ \(RFC 9111 §4.2\)\n"
    assert re.fullmatch(said, capsys.readouterr().out)
    assert len(origin.received) == 1
    assert getattr(names.get("r"), "from_cache", True) is True
    for name in ("session", "client"):
        if name in names:
            names[name].close()  # type: ignore[attr-defined]
    if "http" in names:
        names["http"].clear()  # type: ignore[attr-defined]


def test_the_page_of_clients_shows_the_same_lines() -> None:
    page = (README.parent / "docs" / "clients.md").read_text("utf-8")
    for client, text in EXAMPLES.items():
        assert f"## {client}\n\n```python\n{block_with(text)}```" in page


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
