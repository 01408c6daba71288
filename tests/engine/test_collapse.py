"""Who waits for whom, who never does, and what comes of it, in one process and between several."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio

from stillfresh import CacheUnavailable, FileCache, MemoryCache, Outcome, Policy, Reason
from stillfresh.caches.base import Claim
from stillfresh.engine.flights import Fate, Flight, Flights, Lead, flights_for
from stillfresh.engine.waiting import ThreadSignal, task_signal
from stillfresh.events import StoreFailed
from stillfresh.rfc9111.messages import Request
from stillfresh.testing.conformance.tools import in_child
from tests.engine.world import URL, Reply, Told, World, document, give_way, told

MANY = 50
PATIENT = Policy(collapse_wait=600)
DOCUMENT = document(b"hello")


def world(*replies: Any, policy: Policy = PATIENT) -> World:
    """Return a world that suspends at each step, and whose origin waits for all who will wait."""
    made = World(*(replies or (DOCUMENT,)), policy=policy)
    made.suspends = True
    made.signal = task_signal
    return made


def held_for(world: World, waiting: int) -> None:
    world.holding = lambda: world.under_way.waiting < waiting


async def fetched(world: World) -> tuple[bytes, Any]:
    answer = await world.asking()
    return await world.consuming(answer), answer.info


def with_asyncio(jobs: list[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
    async def main() -> list[Any]:
        return await asyncio.gather(*(job() for job in jobs))

    return asyncio.run(main())


def with_trio(jobs: list[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
    results: list[Any] = [None] * len(jobs)

    async def run(number: int) -> None:
        results[number] = await jobs[number]()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(len(jobs)):
                nursery.start_soon(run, number)

    trio.run(main)
    return results


@pytest.mark.parametrize("loop", [with_asyncio, with_trio])
class TestTasks:
    def test_many_on_a_cold_url_make_one_request(self, loop: Any) -> None:
        here = world()
        held_for(here, MANY - 1)
        got = loop([lambda: fetched(here)] * MANY)
        assert {body for body, _ in got} == {b"hello"}
        assert len(here.sent) == 1
        assert sorted(str(info.collapsed) for _, info in got) == ["None"] + ["True"] * (MANY - 1)
        assert here.left_open() == []

    def test_many_on_a_stale_one_make_one_conditional_request(self, loop: Any) -> None:
        here = world(document(b"hello", cache_control="max-age=60, must-revalidate"))
        loop([lambda: fetched(here)])
        here.clock.advance(61)
        here.sent.clear()
        held_for(here, MANY - 1)
        got = loop([lambda: fetched(here)] * MANY)
        assert {body for body, _ in got} == {b"hello"}
        assert [request.fields.get("if-none-match") for request in here.sent] == ['"1"']
        outcomes = [info.outcome for _, info in got]
        assert outcomes.count(Outcome.REVALIDATED) == 1
        assert outcomes.count(Outcome.HIT) == MANY - 1
        assert here.left_open() == []

    def test_after_collapse_wait_they_go_on_by_themselves(self, loop: Any) -> None:
        here = world(policy=Policy(collapse_wait=0.02))
        done: list[bool] = []
        here.holding = lambda: len(done) < 3

        async def one() -> Any:
            got = await fetched(here)
            done.append(True)
            return got

        got = loop([one] * 4)
        assert {body for body, _ in got} == {b"hello"}
        collapsed = [info.collapsed for _, info in got]
        # On a machine that stands still for a moment, one may find what another has fetched.
        assert collapsed.count(None) == 1
        assert len(here.sent) == 1 + collapsed.count(False) > 1
        assert (len(here.under_way), here.under_way.waiting) == (0, 0)

    def test_what_is_not_for_all_is_waited_for_no_longer_than_its_head(self, loop: Any) -> None:
        here = world(told(cache_control="private"), policy=Policy(shared=True, collapse_wait=600))
        held_for(here, 4)
        got = loop([lambda: fetched(here)] * 5)
        assert len(here.sent) == 5
        assert sum(info.collapsed is False for _, info in got) == 4

    def test_who_has_an_answer_open_does_not_wait_for_it(self, loop: Any) -> None:
        here = world()

        async def twice() -> None:
            first = await here.asking()
            second = await here.asking()
            assert await here.consuming(second) == b"hello"
            assert await here.consuming(first) == b"hello"

        loop([twice])
        assert len(here.sent) == 2
        assert here.left_open() == []


def test_neither_does_a_task_that_it_has_started() -> None:
    here = world()

    async def main() -> None:
        answer = await here.asking()
        assert (await asyncio.create_task(fetched(here)))[0] == b"hello"
        # Unlike one that has nothing to do with it.
        await here.consuming(answer)

    asyncio.run(main())
    assert len(here.sent) == 2


def test_a_thread_waits_for_a_task_and_a_task_for_a_thread() -> None:
    cache = MemoryCache()
    here = world()
    threads = World(DOCUMENT, policy=PATIENT)
    threads.under_way = here.under_way = flights_for(cache)
    threads.kept = here.kept
    held_for(here, 1)

    async def main(pool: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        first = asyncio.create_task(fetched(here))
        while not here.under_way:
            await give_way()
        in_thread = loop.run_in_executor(pool, threads.get)
        assert (await first)[0] == b"hello"
        assert (await in_thread)[1].collapsed is True

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(main(pool))
    assert (len(here.sent), len(threads.sent)) == (1, 0)


def test_who_would_block_the_loop_of_its_leader_does_not_wait() -> None:
    here = world()
    blocking = World(DOCUMENT, policy=PATIENT)
    blocking.under_way = here.under_way
    here.holding = lambda: not blocking.sent

    async def main() -> None:
        task = asyncio.create_task(fetched(here))
        while not here.under_way:
            await give_way()
        assert blocking.get()[0] == b"hello"
        await task

    asyncio.run(main())


def test_a_forgotten_answer_is_waited_for_by_nobody() -> None:
    here = World(told(), policy=PATIENT)
    answer = here.ask()
    assert len(here.under_way) == 1
    assert answer.recorder is not None
    del answer
    gc.collect()
    assert len(here.under_way) == 0


def test_a_child_waits_for_nobody_in_its_parent() -> None:
    cache = MemoryCache()
    here = World(told(), policy=PATIENT)
    here.under_way = flights_for(cache)
    answer = here.ask()

    def ask_in_a_thread() -> bytes:
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(here.get()[0]))
        thread.start()
        thread.join()
        return got[0]

    assert in_child(ask_in_a_thread) == b"hello"
    here.consume(answer)


class TestProcesses:
    """Worlds that share what is stored and the claims, as processes do."""

    @staticmethod
    def two() -> tuple[World, World]:
        one, other = world(), world()
        one.claims = other.claims = set()
        other.kept = one.kept
        return one, other

    def test_one_asks_and_the_other_is_served(self) -> None:
        one, other = self.two()
        one.holding = lambda: other.calls.count("claim") < 3
        got = with_asyncio([lambda: fetched(one), lambda: fetched(other)])
        assert [body for body, _ in got] == [b"hello", b"hello"]
        assert len(one.sent) + len(other.sent) == 1
        assert {info.collapsed for _, info in got} == {None, True}
        assert one.claims == set()

    def test_who_has_just_missed_it_looks_again(self) -> None:
        one, other = self.two()

        def meanwhile() -> None:
            one.suspends = False
            one.get()

        other.suspends = False
        looked = other.open

        async def open_late(key: str) -> Any:
            entry = await looked(key)
            if not one.sent:
                meanwhile()
            return entry

        other.open = open_late  # type: ignore[method-assign]
        body, info = other.get()
        assert (body, info.outcome, info.collapsed) == (b"hello", Outcome.HIT, None)
        assert not other.sent

    def test_a_claim_that_is_never_given_back_delays_nobody_for_long(self) -> None:
        here = world(policy=Policy(collapse_wait=0.01))
        here.claims = {URL}
        ((body, info),) = with_asyncio([lambda: fetched(here)])
        assert (body, info.collapsed) == (b"hello", False)
        # The next time it isn't waited for at all.
        here.clock.advance(61)
        here.calls.clear()
        ((body, info),) = with_asyncio([lambda: fetched(here)])
        assert (body, info.collapsed) == (b"hello", None)
        assert "claim" not in here.calls

    def test_where_nothing_can_be_claimed_the_origin_is_asked(self) -> None:
        here = World(DOCUMENT)
        here.claims = set()
        here.faults["claim"] = CacheUnavailable("down")
        body, info = here.get()
        assert (body, info.why.reason, info.stored) == (b"hello", Reason.NO_STORED, True)
        assert [event.operation for event in here.of(StoreFailed)] == ["claim"]


class TestClaimedWithTheLook:
    """Where a look claims what isn't there, nobody has to ask for it a second time."""

    @staticmethod
    def here(*replies: Reply) -> World:
        here = World(*(replies or (DOCUMENT,)))
        here.claims, here.spare = set(), set()
        return here

    def test_who_leads_has_the_claim_already(self) -> None:
        here = self.here()
        answer = here.ask()
        assert (here.claims, here.spare) == ({URL}, set())
        here.consume(answer)
        assert here.calls.count("open") == 1
        assert "claim" not in here.calls
        assert here.claims == set()

    def test_who_follows_leaves_it_to_who_leads(self) -> None:
        here = self.here()
        here.suspends, here.signal = True, task_signal
        got = with_asyncio([lambda: fetched(here)] * 5)
        assert [body for body, _ in got] == [b"hello"] * 5
        assert len(here.sent) == 1
        assert (here.claims, here.spare) == (set(), set())

    def test_others_wait_for_it(self) -> None:
        one, other = self.here(), self.here()
        other.claims, other.kept = one.claims, one.kept
        for each in (one, other):
            each.suspends, each.signal = True, task_signal
        one.holding = lambda: other.calls.count("claim") < 3
        got = with_asyncio([lambda: fetched(one), lambda: fetched(other)])
        assert [info.collapsed for _, info in got] == [None, True]
        assert len(one.sent) + len(other.sent) == 1

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "Bearer s3cret"},
            {"Cache-Control": "no-store"},
            {"Cache-Control": "no-cache"},
            {"Range": "bytes=0-1"},
            {"If-None-Match": '"1"'},
        ],
    )
    def test_what_would_not_be_claimed_as_it_is_is_not(self, headers: dict[str, str]) -> None:
        claimed = set[str]()

        def origin(_: Request) -> Told:
            claimed.update(here.claims or ())
            return told()

        here = self.here(origin)
        here.get(headers)
        assert URL not in claimed
        assert (here.claims, here.spare) == (set(), set())

    def test_what_can_not_be_shared_is_not_claimed_again(self) -> None:
        claimed: list[set[str]] = []

        def origin(_: Request) -> Told:
            claimed.append(set(here.claims or ()))
            return told(cache_control="no-store")

        here = self.here(origin)
        here.get()
        here.get()
        assert claimed == [{URL}, set()]

    def test_what_only_the_cache_may_answer_is_given_back(self) -> None:
        here = self.here()
        answer = here.ask(headers={"Cache-Control": "only-if-cached"})
        assert answer.info.outcome is Outcome.UNSATISFIABLE
        assert (here.claims, here.spare) == (set(), set())

    def test_what_another_url_stands_for_is_given_back(self) -> None:
        here = self.here(told(no_vary_search='params=("a")', etag='"1"'))
        here.get(url=f"{URL}?a=1")
        answer = here.ask(url=f"{URL}?a=2")
        assert answer.info.from_cache
        assert (here.claims, here.spare) == (set(), set())
        here.consume(answer)

    def test_where_the_cache_fails_meanwhile_it_is_given_back(self) -> None:
        here = self.here()
        here.faults["writer"] = CacheUnavailable("down")
        here.get()
        assert (here.claims, here.spare) == (set(), set())


class TestFlights:
    def test_what_could_not_be_shared_is_kept_apart_for_a_while(self) -> None:
        flights = Flights()
        lead = flights.join("a", "a")
        assert isinstance(lead, Lead)
        lead.land(Fate.UNSHARED)
        assert flights.join("a", "a") is None
        assert isinstance(flights.join("b", "b"), Lead)
        flights.may_share("a")
        assert isinstance(flights.join("a", "a"), Lead)

    def test_it_remembers_so_much_and_no_more(self) -> None:
        flights = Flights()
        for number in range(5000):
            lead = flights.join(str(number), str(number))
            assert isinstance(lead, Lead)
            lead.land(Fate.UNSHARED)
        assert sum(flights.join(str(number), "") is None for number in range(5000)) <= 1024
        assert len(flights) <= 1

    def test_the_first_fate_counts(self) -> None:
        flights = Flights()
        lead = flights.join("a", "a")
        assert isinstance(lead, Lead)
        lead.land(Fate.STORED)
        lead.land(Fate.UNSHARED)
        assert lead.flight.fate is Fate.STORED
        assert isinstance(flights.join("a", "a"), Lead)

    def test_a_claim_ends_with_its_flight(self) -> None:
        flights = Flights()
        lead = flights.join("a", "a")
        assert isinstance(lead, Lead)
        given_back: list[bool] = []
        lead.claim = Claim(lambda: given_back.append(True))
        lead.land(Fate.FAILED)
        assert given_back == [True]

    def test_in_another_thread_it_is_waited_for(self) -> None:
        flights = Flights()
        lead = flights.join("a", "a")
        assert isinstance(lead, Lead)
        with ThreadPoolExecutor(1) as pool:
            flight = pool.submit(flights.join, "a", "a").result()
        assert flight is lead.flight
        assert isinstance(flight, Flight)
        signal = ThreadSignal()
        with flight.waking(signal):
            assert (flights.waiting, signal.blocks) == (1, True)
            lead.land(Fate.STORED)
            assert asyncio.run(signal.wait(10))
        assert flights.waiting == 0

    def test_caches_of_one_place_have_the_same_ones(self, tmp_path: Path) -> None:
        one, same, other = FileCache(tmp_path), FileCache(tmp_path), MemoryCache()
        assert flights_for(one) is flights_for(one) is flights_for(same)
        assert flights_for(other) is not flights_for(one)
        assert flights_for(other) is not flights_for(MemoryCache())


def test_in_cache_status_it_is_said_as_rfc_9211_has_it() -> None:
    here = world(told(vary="X"), policy=Policy(collapse_wait=600))
    held_for(here, 2)

    async def status(number: int) -> str:
        answer = await here.asking(headers={"X": str(number // 2)})
        await here.consuming(answer)
        return answer.response.fields.get("cache-status") or ""

    got = with_asyncio([lambda n=n: status(n) for n in range(3)])  # type: ignore[misc]
    assert got[0].startswith("stillfresh; fwd=uri-miss; fwd-status=200; stored; detail=")
    assert got[1] == "stillfresh; fwd=uri-miss; ttl=60; collapsed"
    assert "; fwd-status=200; stored; collapsed=?0; detail=" in got[2]
