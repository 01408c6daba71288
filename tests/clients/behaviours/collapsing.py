"""Many requests for the same at once: one goes to the origin, and nobody waits for nothing.

Where a test is about being let go, the policy would have everybody wait for ten minutes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from stillfresh import BaseCache, Outcome, Policy, Reason
from stillfresh.engine.flights import flights_for
from stillfresh.testing import ManualClock
from tests.clients.behaviours.stale import Held
from tests.clients.behaviours.suite import Answer, Driver, NewClient, Suite, fresh
from tests.clients.behaviours.variants import ENGLISH, GERMAN, in_the_language
from tests.origin import Document, Origin, Raw, Received, Reply

PATIENT = Policy(collapse_wait=600)
FRESH = {"Cache-Control": "max-age=60"}
MANY = 50


def soon(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "that doesn't come"
        time.sleep(0.001)


class Crowd:
    """Requests in threads of their own."""

    def __init__(self, pool: ThreadPoolExecutor, cache: BaseCache) -> None:
        self._pool = pool
        self._flights = flights_for(cache)

    def get(
        self, client: Driver, url: str, headers: Iterable[Mapping[str, str]]
    ) -> list[Future[Answer]]:
        return [self._pool.submit(client.get, url, each) for each in headers]

    def waits(self, number: int) -> None:
        """Wait until so many wait for another."""
        soon(lambda: self._flights.waiting == number)


def answers(futures: list[Future[Answer]]) -> list[Answer]:
    return [future.result(30) for future in futures]


class Collapsing(Suite):
    """RFC 9111 §4, RFC 9211 §2.6."""

    @pytest.fixture
    def patient(self, new_client: NewClient) -> Driver:
        return new_client(PATIENT)

    @pytest.fixture
    def crowd(self, cache: BaseCache) -> Iterator[Crowd]:
        with ThreadPoolExecutor(MANY) as pool:
            yield Crowd(pool, cache)

    def test_many_on_a_cold_url_make_one_request(
        self, origin: Origin, patient: Driver, crowd: Crowd
    ) -> None:
        held = Held(origin, fresh(b"hello"))
        url = origin.on("/", held)
        asked = crowd.get(patient, url, [{}] * MANY)
        crowd.waits(MANY - 1)
        held.let_go()
        got = answers(asked)
        assert len(origin.received) == 1
        assert {answer.body for answer in got} == {b"hello"}
        first = [answer for answer in got if answer.info.collapsed is None]
        others = [answer for answer in got if answer.info.collapsed]
        assert (len(first), len(others)) == (1, MANY - 1)
        assert first[0]["Cache-Status"].startswith("stillfresh; fwd=uri-miss; fwd-status=200; stor")
        assert {answer["Cache-Status"] for answer in others} == {
            "stillfresh; fwd=uri-miss; ttl=60; collapsed"
        }
        assert {(a.info.outcome, a.info.why.reason) for a in others} == {
            (Outcome.HIT, Reason.FRESH)
        }
        # Who comes later has nobody to wait for.
        assert patient.get(url)["Cache-Status"] == "stillfresh; hit; ttl=60"

    def test_many_that_just_come_make_one_request(
        self, origin: Origin, patient: Driver, crowd: Crowd
    ) -> None:
        """However they fall upon each other's beginning and end."""
        for number in range(10):
            url = origin.on(f"/{number}", fresh(b"hello"))
            assert {a.body for a in answers(crowd.get(patient, url, [{}] * 10))} == {b"hello"}
        assert len(origin.received) == 10

    def test_many_on_a_stale_one_make_one_conditional_request(
        self, origin: Origin, patient: Driver, clock: ManualClock, crowd: Crowd
    ) -> None:
        document = Document(b"hello", headers={"Cache-Control": "max-age=60, must-revalidate"})
        held = Held(origin, document)
        url = origin.on("/", document, held)
        patient.get(url)
        clock.advance(61)
        asked = crowd.get(patient, url, [{}] * MANY)
        crowd.waits(MANY - 1)
        held.let_go()
        got = answers(asked)
        assert [request.header("If-None-Match") for request in origin.received] == [None, '"1"']
        assert {answer.body for answer in got} == {b"hello"}
        assert sum(answer.info.outcome is Outcome.REVALIDATED for answer in got) == 1
        collapsed = {answer["Cache-Status"] for answer in got if answer.info.collapsed}
        assert collapsed == {"stillfresh; fwd=stale; ttl=60; collapsed"}

    def test_a_long_body_is_waited_for_to_its_end(
        self, origin: Origin, patient: Driver, crowd: Crowd
    ) -> None:
        body = bytes(range(256)) * 8000
        gate = origin.gate()

        def slowly() -> Iterator[bytes]:
            yield body[:1000]
            assert gate.wait(10)
            yield body[1000:]

        url = origin.on("/", fresh(slowly(), content_length=str(len(body))))
        asked = crowd.get(patient, url, [{}] * 5)
        crowd.waits(4)
        gate.set()
        assert {answer.body for answer in answers(asked)} == {body}
        assert len(origin.received) == 1

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(200, {"Cache-Control": "no-store"}, b"mine"),
            Reply(200, {"Cache-Control": "no-cache", "ETag": '"1"'}, b"mine"),
            Reply(200, {"Cache-Control": "max-age=0", "ETag": '"1"'}, b"mine"),
            Reply(200, FRESH | {"Vary": "*"}, b"mine"),
            Reply(500, {}, b"mine"),
            Reply(404, {}, b"mine"),
        ],
        ids=lambda reply: f"{reply.status} {dict(reply.headers)}",
    )
    def test_what_is_not_for_all_is_waited_for_no_longer_than_its_head(
        self, origin: Origin, patient: Driver, crowd: Crowd, reply: Reply
    ) -> None:
        held = Held(origin, reply)
        url = origin.on("/", held)
        asked = crowd.get(patient, url, [{}] * 10)
        crowd.waits(9)
        held.let_go()
        got = answers(asked)
        assert len(origin.received) == 10
        assert {answer.body for answer in got} == {b"mine"}
        assert sum(answer.info.collapsed is False for answer in got) == 9
        told = {answer["Cache-Status"] for answer in got if answer.info.collapsed is False}
        assert all("; collapsed=?0" in status for status in told)

    def test_what_is_not_for_all_is_not_waited_for_again(
        self, origin: Origin, patient: Driver, crowd: Crowd
    ) -> None:
        together = threading.Barrier(10)

        def answer(_: Received) -> Reply:
            together.wait(10)
            return Reply(200, {"Cache-Control": "no-store"})

        url = origin.on("/", Reply(200, {"Cache-Control": "no-store"}), *[answer] * 10)
        patient.get(url)
        assert {a.info.collapsed for a in answers(crowd.get(patient, url, [{}] * 10))} == {None}

    def test_what_is_for_all_after_all_is_waited_for(
        self, origin: Origin, patient: Driver, crowd: Crowd, clock: ManualClock
    ) -> None:
        held = Held(origin, fresh(b"new"))
        url = origin.on("/", Reply(200, {"Cache-Control": "no-store"}), fresh(b"old"), held)
        patient.get(url)
        patient.get(url)
        clock.advance(61)
        asked = crowd.get(patient, url, [{}] * 10)
        crowd.waits(9)
        held.let_go()
        assert {answer.body for answer in answers(asked)} == {b"new"}
        assert len(origin.received) == 3

    def test_the_origin_fails_and_the_others_try_for_themselves(
        self, origin: Origin, patient: Driver, crowd: Crowd
    ) -> None:
        held = Held(origin, Raw())
        url = origin.on("/", held, fresh(b"hello"))
        asked = crowd.get(patient, url, [{}] * 5)
        crowd.waits(4)
        held.let_go()
        failed = [future for future in asked if future.exception(30) is not None]
        got = [future.result() for future in asked if future not in failed]
        assert len(failed) <= 1  # a client may send a request again by itself
        assert {answer.body for answer in got} == {b"hello"}

    def test_a_body_breaks_off_and_another_one_leads(
        self, origin: Origin, patient: Driver, crowd: Crowd
    ) -> None:
        document = Document(b"x" * 5000, cuts=[100])
        held = Held(origin, document)
        url = origin.on("/", held, document)
        asked = crowd.get(patient, url, [{}] * 5)
        crowd.waits(4)
        held.let_go()
        got = [future.result() for future in asked if future.exception(30) is None]
        assert [answer.body for answer in got] == [b"x" * 5000] * 4
        # The first had the beginning, and one of the others the rest.
        assert document.sent == [(200, 5000), (206, 4900)]

    def test_a_reader_loses_interest_and_another_one_leads(
        self, origin: Origin, patient: Driver, crowd: Crowd
    ) -> None:
        gate = origin.gate()

        def endless() -> Iterator[bytes]:
            yield b"some"
            gate.wait(10)
            yield b"more"

        url = origin.on("/", fresh(endless()), fresh(b"hello"))
        stream = patient.stream(url)
        assert stream.read() == b"some"
        asked = crowd.get(patient, url, [{}] * 5)
        crowd.waits(5)
        stream.close()
        assert {answer.body for answer in answers(asked)} == {b"hello"}
        assert len(origin.received) == 2

    def test_a_slow_reader_is_not_waited_for_any_longer(
        self, origin: Origin, new_client: NewClient, crowd: Crowd
    ) -> None:
        client = new_client(Policy(collapse_wait=0.05))
        gate = origin.gate()

        def slowly() -> Iterator[bytes]:
            yield b"he"
            gate.wait(10)
            yield b"llo"

        url = origin.on("/", fresh(slowly()), fresh(b"hello"))
        stream = client.stream(url)
        assert stream.read() == b"he"
        got = answers(crowd.get(client, url, [{}] * 3))
        assert {answer.body for answer in got} == {b"hello"}
        assert False in {answer.info.collapsed for answer in got}
        gate.set()
        assert stream.rest() == b"llo"

    def test_who_wants_another_language_does_not_wait_for_this_one(
        self, origin: Origin, patient: Driver, crowd: Crowd
    ) -> None:
        held = Held(origin, in_the_language)
        url = origin.on("/", held)
        asked = crowd.get(patient, url, [ENGLISH, GERMAN] * 10)
        crowd.waits(19)
        held.let_go()
        got = answers(asked)
        assert [answer.body for answer in got] == [b"en", b"de"] * 10
        # Of two first variants at once the last one stays, so one may be fetched again.
        assert len(origin.received) < 6

    def test_each_user_is_told_apart(self, origin: Origin, patient: Driver, crowd: Crowd) -> None:
        def answer(request: Received) -> Reply:
            return fresh((request.header("Authorization") or "nobody").encode())

        held = Held(origin, answer)
        url = origin.on("/", held)
        users: list[Mapping[str, str]] = [
            {"Authorization": "Basic a"},
            {"Authorization": "Basic b"},
        ]
        # The first one who has credentials makes the key of their digests.
        patient.get(origin.on("/first", Reply()), users[0])
        origin.received.clear()
        asked = crowd.get(patient, url, [*users, {}] * 6)
        crowd.waits(15)
        held.let_go()
        got = answers(asked)
        assert [answer.body for answer in got] == [b"Basic a", b"Basic b", b"nobody"] * 6
        assert len(origin.received) < 18

    @pytest.mark.parametrize(
        "headers",
        [
            {"Cache-Control": "no-store"},
            {"Cache-Control": "no-cache"},
            {"Range": "bytes=0-1"},
            {"If-None-Match": '"0"'},
            {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
            {"If-Match": '"1"'},
        ],
        ids=str,
    )
    def test_who_wants_something_of_its_own_does_not_wait(
        self, origin: Origin, patient: Driver, crowd: Crowd, headers: Mapping[str, str]
    ) -> None:
        held = Held(origin, fresh(b"hello"))
        url = origin.on("/", held, fresh(b"hello"))
        asked = crowd.get(patient, url, [{}])
        assert held.asked.wait(10)
        assert patient.get(url, headers).info.collapsed is None
        held.let_go()
        assert answers(asked)[0].body == b"hello"
        assert len(origin.received) == 2

    def test_the_policy_may_have_nobody_wait(
        self, origin: Origin, new_client: NewClient, crowd: Crowd
    ) -> None:
        client = new_client(Policy(collapse_wait=0))
        together = threading.Barrier(10)

        def answer(_: Received) -> Reply:
            together.wait(10)
            return fresh(b"hello")

        url = origin.on("/", answer)
        assert {a.info.collapsed for a in answers(crowd.get(client, url, [{}] * 10))} == {None}
        assert len(origin.received) == 10

    def test_nobody_is_given_what_was_asked_for_before_a_change(
        self, origin: Origin, patient: Driver, crowd: Crowd
    ) -> None:
        held = Held(origin, fresh(b"old"))
        url = origin.on("/", held, Reply(204), fresh(b"new"))
        before = crowd.get(patient, url, [{}])
        assert held.asked.wait(10)
        assert patient.request("PUT", url, body=b"new").status == 204
        assert patient.get(url).body == b"new"
        held.let_go()
        assert answers(before)[0].body == b"old"

    def test_clients_that_share_a_cache_make_one_request_together(
        self, origin: Origin, new_client: NewClient, crowd: Crowd
    ) -> None:
        clients = [new_client(PATIENT) for _ in range(4)]
        held = Held(origin, fresh(b"hello"))
        url = origin.on("/", held)
        asked = [future for client in clients for future in crowd.get(client, url, [{}] * 3)]
        crowd.waits(11)
        held.let_go()
        assert {answer.body for answer in answers(asked)} == {b"hello"}
        assert len(origin.received) == 1


class OneThread(Suite):
    """For blocking clients: an async driver has a task for each call."""

    def test_in_one_thread_a_second_stream_does_not_wait_for_the_first(
        self, origin: Origin, new_client: NewClient
    ) -> None:
        client = new_client(PATIENT)
        gate = origin.gate()

        def slowly() -> Iterator[bytes]:
            yield b"he"
            gate.wait(10)
            yield b"llo"

        url = origin.on("/", fresh(slowly()), fresh(b"hello"))
        first = client.stream(url)
        assert first.read() == b"he"
        second = client.stream(url)
        assert second.rest() == b"hello"
        gate.set()
        assert first.rest() == b"llo"
        assert client.get(url).body == b"hello"
