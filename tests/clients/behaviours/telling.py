"""What a hook is told."""

from __future__ import annotations

from stillfresh.events import Event, Hit, Invalidated, Miss, NotStored, Revalidated, Stored
from stillfresh.testing import ManualClock
from tests.clients.behaviours.suite import Driver, Heard, Suite, fresh
from tests.origin import Origin, Reply


class Telling(Suite):
    def test_every_request_is_told_in_order(
        self, origin: Origin, client: Driver, clock: ManualClock, heard: Heard
    ) -> None:
        def told() -> list[type[Event]]:
            kinds = [type(event) for event in heard.events]
            heard.events.clear()
            return kinds

        url = origin.on(
            "/", fresh(etag='"1"'), Reply(304, {"Cache-Control": "max-age=60"}), Reply()
        )
        client.get(url)
        assert told() == [Miss, Stored]
        client.get(url)
        assert told() == [Hit]
        clock.advance(61)
        client.get(url)
        assert told() == [Revalidated]
        client.request("POST", url, body=b"x")
        assert told() == [Invalidated, NotStored, Miss]
        client.get(url)
        assert told() == [NotStored, Miss]
        client.get(url, {"Cache-Control": "only-if-cached"})
        assert told() == []

    def test_they_say_what_and_why(
        self, origin: Origin, client: Driver, clock: ManualClock, heard: Heard
    ) -> None:
        url = origin.on("/", fresh(b"12345"))
        client.get(url)
        clock.advance(10)
        client.get(url)
        (stored,) = heard.of(Stored)
        assert (stored.key, stored.method, stored.url, stored.size) == (url, "GET", url, 5)
        assert "RFC 9111 §3" in stored.why
        (hit,) = heard.of(Hit)
        assert (hit.age, hit.ttl) == (10, 50)
        assert "RFC 9111 §4.2" in hit.why
        (miss,) = heard.of(Miss)
        assert miss.status == 200

    def test_stored_is_told_when_the_body_is_there(
        self, origin: Origin, client: Driver, heard: Heard
    ) -> None:
        stream = client.stream(origin.on("/", fresh([b"a", b"b"])))
        assert not heard.of(Stored)
        assert not stream.head.info.stored
        stream.rest()
        stream.close()
        assert [event.size for event in heard.of(Stored)] == [2]
        assert stream.head.info.stored
