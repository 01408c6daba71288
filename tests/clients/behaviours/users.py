"""Nobody gets another user's answer, and no secret is written down (RFC 9111 §3.5, §7)."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from stillfresh import BaseCache, FileCache, MemoryCache, Policy, SeparateBodyFileCache
from stillfresh.events import Stored, log_event
from stillfresh.testing import ManualClock
from tests.clients.behaviours.suite import Driver, Heard, NewClient, Suite, fresh
from tests.origin import Document, Framing, Origin, Received, Reply

ALICE = {"Authorization": "Bearer alice-s3cret"}
BOB = {"Authorization": "Bearer bob-s3cret"}


def for_the_user(request: Received) -> Reply:
    return fresh((request.header("Authorization") or "nobody").encode(), etag='"same"')


class Users(Suite):
    def test_each_user_has_an_answer(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", for_the_user)
        for _ in range(3):
            assert client.get(url, ALICE).body == b"Bearer alice-s3cret"
            assert client.get(url).body == b"nobody"
            assert client.get(url, BOB).body == b"Bearer bob-s3cret"
        assert len(origin.received) == 3

    def test_each_host_of_an_address_has_an_answer(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", lambda request: fresh((request.header("Host") or "").encode()))
        own = client.get(url).body
        for _ in range(2):
            for host in ("alice.example", "bob.example:8080", "odd host/?#@"):
                assert client.get(url, {"Host": host}).body == host.encode()
            assert client.get(url, {"Host": own.decode()}).from_cache
            assert client.get(url).body == own
        assert len(origin.received) == 4

    def test_a_user_is_not_revalidated_into_another(
        self, origin: Origin, client: Driver, clock: ManualClock
    ) -> None:
        def answer(request: Received) -> Reply:
            # A server whose tags don't tell its users apart.
            whole = for_the_user(request)
            return Reply(304, whole.headers) if request.header("If-None-Match") else whole

        url = origin.on("/", answer)
        for headers in (ALICE, BOB, {}):
            client.get(url, headers)
        clock.advance(61)
        assert client.get(url, BOB).body == b"Bearer bob-s3cret"
        assert client.get(url).body == b"nobody"
        assert client.get(url, ALICE).body == b"Bearer alice-s3cret"

    def test_head_tells_nobody_about_another_users_response(
        self, origin: Origin, client: Driver
    ) -> None:
        url = origin.on("/", for_the_user)
        client.get(url, ALICE)
        assert client.head(url, BOB)["Content-Length"] == str(len("Bearer bob-s3cret"))
        assert client.head(url, ALICE).from_cache

    def test_only_if_cached_gives_nobody_anothers(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", for_the_user)
        client.get(url, ALICE)
        for headers in (BOB, {}):
            asked = {**headers, "Cache-Control": "only-if-cached"}
            assert client.get(url, asked).status == 504

    def test_users_of_two_clients(self, origin: Origin, new_client: NewClient) -> None:
        url = origin.on("/", for_the_user)
        new_client().get(url, ALICE)
        assert new_client().get(url, ALICE).from_cache
        assert not new_client().get(url, BOB).from_cache

    def test_a_private_response_belongs_to_a_cookie(self, origin: Origin, client: Driver) -> None:
        def answer(request: Received) -> Reply:
            body = (request.header("Cookie") or "none").encode()
            return Reply(headers={"Cache-Control": "private, max-age=60"}, body=body)

        url = origin.on("/", answer)
        for _ in range(2):
            for cookie in (b"id=1", b"id=2"):
                assert client.get(url, {"Cookie": cookie.decode()}).body == cookie
            assert client.get(url).body == b"none"
        assert len(origin.received) == 3

    def test_a_public_response_belongs_to_no_cookie(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", fresh())
        client.get(url, {"Cookie": "id=1"})
        assert client.get(url, {"Cookie": "id=2"}).from_cache

    def test_what_isolates_is_for_the_user_to_say(
        self, origin: Origin, new_client: NewClient
    ) -> None:
        client = new_client(Policy(isolate=frozenset({"X-Api-Key"})))
        url = origin.on("/", lambda request: fresh((request.header("X-Api-Key") or "-").encode()))
        for _ in range(2):
            for key in (b"a", b"b"):
                assert client.get(url, {"X-API-KEY": key.decode()}).body == key
            assert client.get(url).body == b"-"
        assert len(origin.received) == 3

    def test_an_unsafe_request_throws_out_every_users(self, origin: Origin, client: Driver) -> None:
        url = origin.on("/", for_the_user)
        client.get(url, ALICE)
        client.get(url, BOB)
        client.request("POST", url, BOB, body=b"x")
        for headers in (ALICE, BOB):
            assert not client.get(url, headers).from_cache

    def test_a_shared_cache_keeps_what_is_for_everybody(
        self, origin: Origin, new_client: NewClient
    ) -> None:
        client = new_client(Policy(shared=True))
        public = origin.on("/public", Reply(headers={"Cache-Control": "public, max-age=60"}))
        plain = origin.on("/plain", fresh())
        private = origin.on("/private", Reply(headers={"Cache-Control": "private, max-age=60"}))
        for url in (public, plain, private):
            client.get(url, ALICE)
        assert client.get(public, BOB).from_cache
        assert not client.get(plain, ALICE).from_cache
        assert not client.get(private, ALICE).from_cache


class Secrets(Suite):
    SECRET = b"a secret of all machines"

    def test_the_key_is_shared_through_the_cache(
        self, origin: Origin, new_client: NewClient, cache: BaseCache
    ) -> None:
        url = origin.on("/", for_the_user)
        new_client().get(url, ALICE)
        new_client().get(url, BOB)
        assert new_client().get(url, ALICE).from_cache

    def test_a_key_of_ones_own_is_shared_by_those_who_have_it(
        self, origin: Origin, new_client: NewClient
    ) -> None:
        url = origin.on("/", for_the_user)
        policy = Policy(secret=self.SECRET)
        new_client(policy).get(url, ALICE)
        assert new_client(policy).get(url, ALICE).from_cache
        for other in (None, Policy(secret=b"another secret, as long")):
            assert not new_client(other).get(url, ALICE).from_cache

    def test_a_key_of_ones_own_works_in_another_cache(
        self, origin: Origin, new_client: NewClient, clock: ManualClock
    ) -> None:
        """Entries of one machine serve another that has the same secret."""
        url = origin.on("/", for_the_user)
        policy = Policy(secret=self.SECRET)
        with MemoryCache(clock=clock) as here, MemoryCache(clock=clock) as there:
            new_client(policy, cache=here).get(url, ALICE)
            for info in here.entries():
                assert info.key is not None
                entry = here.open(info.key)
                assert entry is not None
                with entry, there.writer(info.key) as writer:
                    writer.write(entry.read())
                    writer.commit(entry.metadata)
            assert new_client(policy, cache=there).get(url, ALICE).from_cache
            assert not new_client(policy, cache=there).get(url, BOB).from_cache

    @pytest.mark.parametrize("kind", [FileCache, SeparateBodyFileCache])
    @pytest.mark.parametrize("secret", [None, SECRET], ids=["key in the cache", "key given"])
    def test_no_secret_is_in_any_file_event_or_log(
        self,
        origin: Origin,
        new_client: NewClient,
        clock: ManualClock,
        heard: Heard,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        kind: type[FileCache],
        secret: bytes | None,
    ) -> None:
        def hook(event: object) -> None:
            heard(event)  # type: ignore[arg-type]
            log_event(event)  # type: ignore[arg-type]

        caplog.set_level(logging.DEBUG, "stillfresh")
        basic = base64.b64encode(b"user:p4ssword-in-basic").decode()
        headers = {
            "Authorization": f"Basic {basic}",
            "Cookie": "session=c00kie-value; other=c00kie-two",
            "Proxy-Authorization": "Basic pr0xy-value",
            "X-Api-Key": "k3y-value",
        }
        said = {
            "Cache-Control": "private, max-age=60",
            "Vary": "Authorization, Cookie, Proxy-Authorization, Accept",
            "ETag": '"1"',
        }
        url = origin.on("/", Reply(headers=said, body=b"a" * 20_000), Reply(304), Reply(500))
        parts = urlsplit(url)
        userinfo = urlunsplit(parts._replace(netloc=f"us3r-name:us3rinfo@{parts.netloc}"))
        place = tmp_path / "files"
        policy = Policy(isolate=frozenset({"X-Api-Key"}), secret=secret)
        with kind(place, clock=clock) as cache:
            client = new_client(policy, cache=cache, hook=hook)
            assert not client.get(userinfo, headers).from_cache
            assert client.get(userinfo, headers).from_cache
            clock.advance(61)
            client.get(userinfo, headers)
            client.get(userinfo, headers | {"Cookie": "session=c00kie-three"})
            client.request("POST", userinfo, headers, body=b"x")
        written = b"".join(file.read_bytes() for file in place.rglob("*") if file.is_file())
        names = " ".join(str(file) for file in place.rglob("*"))
        told = repr(heard.events) + caplog.text
        assert heard.events
        assert caplog.records
        for needle in ("p4ssword", basic, "c00kie", "pr0xy", "k3y-value", "us3r"):
            assert needle.encode() not in written
            assert needle not in names
            assert needle not in told


MARKER = b"s3cret-marker"
MARKED = {"X-Secret": MARKER.decode(), "ETag": '"1"'}
SECRETS = b"".join(b"%d %s " % (number, MARKER) for number in range(20_000))


class Traces(Suite):
    """What may not be stored is nowhere: not in what is left, and not while it passes."""

    @pytest.fixture(params=[FileCache, SeparateBodyFileCache])
    def place(
        self, request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
    ) -> Iterator[FileCache]:
        with request.param(tmp_path / "files", clock=clock) as cache:
            yield cache

    def assert_nowhere(self, cache: FileCache) -> None:
        for file in Path(cache.directory).rglob("*"):
            assert MARKER.decode() not in file.name
            if file.is_file():
                assert MARKER not in file.read_bytes()

    @pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED], ids=lambda f: f.name)
    @pytest.mark.parametrize("said_by", ["request", "response"])
    @pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken off"])
    def test_of_no_store(
        self,
        origin: Origin,
        new_client: NewClient,
        heard: Heard,
        place: FileCache,
        framing: Framing,
        said_by: str,
        broken: bool,
    ) -> None:
        asked = {"Cache-Control": "no-store"} if said_by == "request" else {}
        said = {"Cache-Control": "max-age=60" if asked else "no-store, max-age=60"}
        document = Document(
            SECRETS,
            headers=MARKED | said,
            framing=framing,
            cuts=[200_000] * 2 if broken else [],
        )
        client = new_client(cache=place)
        url = origin.on("/", document)
        stream = client.stream(url, asked)
        # Some clients tell first that a connection broke, and keep what came before.
        with suppress(client.broken):
            assert SECRETS.startswith(stream.read())
        self.assert_nowhere(place)
        with pytest.raises(client.broken) if broken else nullcontext():
            stream.rest()
        stream.close()
        self.assert_nowhere(place)
        with pytest.raises(client.broken) if broken else nullcontext():
            client.get(url, asked)
        stream = client.stream(url, asked)
        with suppress(client.broken):
            stream.read()
        stream.close()
        client.get(url, asked | {"Range": "bytes=0-999"})
        client.head(url, asked)
        client.request("POST", url, asked, body=MARKER)
        self.assert_nowhere(place)
        assert not heard.of(Stored)

    def test_of_an_answer_to_what_was_asked_about(
        self, origin: Origin, new_client: NewClient, clock: ManualClock, place: FileCache
    ) -> None:
        secret = MARKED | {"Cache-Control": "no-store"}
        url = origin.on(
            "/",
            fresh(b"open", etag='"1"'),
            Reply(304, secret),
            Reply(200, secret, SECRETS),
        )
        client = new_client(cache=place)
        client.get(url)
        clock.advance(61)
        assert client.get(url).body == SECRETS
        self.assert_nowhere(place)
        assert client.get(url).body == SECRETS

    def test_of_a_rest(self, origin: Origin, new_client: NewClient, place: FileCache) -> None:
        """What may not be stored is no part of what is."""
        beginning = bytes(250_000)
        document = Document(beginning + SECRETS, cuts=[200_000])
        url = origin.on("/", document)
        client = new_client(cache=place)
        with pytest.raises(client.broken):
            client.get(url)
        document.headers |= {"X-Secret": MARKER.decode(), "Cache-Control": "no-store"}
        assert client.get(url).body == beginning + SECRETS
        self.assert_nowhere(place)
