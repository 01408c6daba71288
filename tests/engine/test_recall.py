"""What was decided last about a stored response: for who asks the same, it makes no difference."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from stillfresh import OneDayCache, Outcome, Policy, Reason
from stillfresh.caches.base import Claim
from tests.engine.world import URL, Got, Told, World, told

SECRET = bytes(16)
POLICIES = (
    Policy(secret=SECRET),
    Policy(secret=SECRET, shared=True),
    Policy(secret=SECRET, stale_while_revalidate=20),
    Policy(secret=SECRET, heuristic_fraction=0),
    Policy(secret=SECRET, isolate=frozenset({"X-User"})),
    Policy(secret=SECRET, rules=(OneDayCache(),)),
)
ASKED: tuple[dict[str, str], ...] = (
    {},
    {"Accept": "text/html"},
    {"Accept-Language": "de"},
    {"Cache-Control": "max-age=30"},
    {"Cache-Control": "max-stale=20"},
    {"Cache-Control": "min-fresh=10"},
    {"Cache-Control": "only-if-cached"},
    {"Pragma": "no-cache"},
    {"Authorization": "Bearer s3cret"},
    {"X-User": "alice"},
    {"If-None-Match": '"1"'},
    {"Range": "bytes=1-2"},
)
SAID = (
    told(),
    told(etag='"1"'),
    told(cache_control="max-age=60, stale-while-revalidate=30", etag='"1"'),
    told(cache_control="max-age=60, must-revalidate"),
    told(cache_control="public, s-maxage=30, max-age=60.5"),
    told(vary="Accept-Language"),
    told(age="20", cache_status="edge; hit"),
    told(cache_groups='"a"'),
    told(cache_control="public", last_modified="Sun, 06 Nov 1994 08:49:37 GMT"),
    Told(404, (("Cache-Control", "max-age=60"),), b"not here"),
)


class Step(NamedTuple):
    """A request, so many seconds after the one before."""

    seconds: float
    method: str
    headers: dict[str, str]
    policy: Policy


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Make a few clients ask on and on."""
    asked = draw(st.lists(st.sampled_from(ASKED), min_size=1, max_size=2))
    policies = draw(st.lists(st.sampled_from(POLICIES), min_size=1, max_size=2))
    step = st.builds(
        Step,
        st.sampled_from([0, 0.25, 0.5, 1, 9, 19, 29, -3]),
        st.sampled_from(["GET"] * 6 + ["HEAD", "POST"]),
        st.sampled_from(asked),
        st.sampled_from(policies),
    )
    return draw(st.lists(step, min_size=2, max_size=10))


def told_of(world: World, said: list[Told], steps: list[Step]) -> str:
    """Return all that can be seen of what the steps were answered."""
    world.replies = [*said]
    seen: list[tuple[Any, ...]] = []
    for seconds, method, headers, policy in steps:
        world.clock.advance(seconds)
        world.policy = policy
        answer: Got = world.ask(method, headers=headers)
        body = world.consume(answer)
        lines = answer.response.fields.lines
        seen.append((answer.response.status, lines, answer.info, body, len(world.sent)))
    assert world.left_open() == []
    # The key of a variant has chance in it.
    return re.sub("#[^\"']*", "#", repr([*seen, world.events, world.refreshing]))


@settings(max_examples=400)
@given(st.lists(st.sampled_from(SAID), min_size=1, max_size=2), stories())
def test_it_makes_no_difference(said: list[Told], steps: list[Step]) -> None:
    one, other = World(), World()
    other.forgetful = True
    assert told_of(one, said, steps) == told_of(other, said, steps)


def test_a_hit_grows_older_from_one_to_the_next() -> None:
    world = World(told(etag='"1"'))
    world.get()
    seen = []
    for seconds in (0, 0.5, 0.5, 1, 57):
        world.clock.advance(seconds)
        answer = world.ask()
        world.consume(answer)
        fields = answer.response.fields
        seen.append((answer.info.age, fields.get("age"), fields.get("cache-status")))
    assert seen == [
        (0, "0", "stillfresh; hit; ttl=60"),
        (0.5, "0", "stillfresh; hit; ttl=59"),
        (1, "1", "stillfresh; hit; ttl=59"),
        (2, "2", "stillfresh; hit; ttl=58"),
        (59, "59", "stillfresh; hit; ttl=1"),
    ]
    assert len(world.sent) == 1
    world.clock.advance(1)
    assert world.get()[1].why.reason is Reason.STALE


def test_another_client_has_a_policy_of_its_own() -> None:
    world = World(told(cache_control="max-age=60, s-maxage=0", etag='"1"'))
    world.get()
    assert [world.get()[1].outcome for _ in range(2)] == [Outcome.HIT] * 2
    world.policy = Policy(shared=True)
    assert world.get()[1].outcome is Outcome.MISS


def test_a_newer_variant_is_not_overlooked() -> None:
    """§4: of several that match, the one with the newest Date."""
    world = World(told(b"by language", vary="Accept-Language"))
    html, german = {"Accept": "text/html"}, {"Accept": "text/html", "Accept-Language": "de"}
    world.get()
    world.replies = [told(b"by type", vary="Accept")]
    world.get(german)
    world.clock.advance(1)
    world.replies = [told(b"by language again", vary="Accept-Language")]
    world.get({"Cache-Control": "no-cache"})
    assert [world.get(html)[0] for _ in range(3)] == [b"by language again"] * 3
    world.clock.advance(1)
    world.replies = [told(b"by type again", vary="Accept")]
    world.get(german | {"Cache-Control": "no-cache"})
    assert [world.get(html)[0] for _ in range(3)] == [b"by type again"] * 3


def test_a_group_is_invalidated_at_any_time() -> None:
    world = World(told(cache_groups='"a"'))
    assert [world.get()[1].outcome for _ in range(3)] == [Outcome.MISS, Outcome.HIT, Outcome.HIT]
    world.replies = [told(cache_group_invalidation='"a"')]
    world.consume(world.ask("POST", f"{URL}other"))
    assert world.get()[1].why.reason is Reason.GROUP_INVALIDATED


def test_a_secret_is_none_of_the_keys_that_others_see() -> None:
    class Watched(World):
        claimed: list[str]

        async def claim(self, key: str, seconds: float) -> Claim | None:
            self.claimed.append(key)
            return await super().claim(key, seconds)

    world = Watched(told(etag='"1"'))
    world.claims, world.claimed = set(), []
    for seconds in (0, 1, 1, 60):
        world.clock.advance(seconds)
        world.get({"Authorization": "Bearer s3cret"})
    assert len(world.sent) == len(world.claimed) == 2
    assert "s3cret" not in str(world.claimed)
    assert len(set(world.claimed)) == 1
