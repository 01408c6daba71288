"""Digests in the place of credentials, and where their key is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillfresh import CacheUnavailable, Policy
from stillfresh.engine.credentials import SECRET_KEY, Vault, concealer
from stillfresh.engine.guard import Guard
from stillfresh.engine.ports import run
from stillfresh.events import StoreFailed
from stillfresh.rfc9111.keys import primary_key
from tests.engine.world import FakeEntry, FakeWriter, World, told

CONCEALED = Policy(isolate=frozenset({"X-Key"})).concealed
ONE = concealer(b"one secret of some length", CONCEALED)
OTHER = concealer(b"other secret of some length", CONCEALED)


def guarded(world: World) -> Guard[FakeEntry, FakeWriter]:
    return Guard(world, world.emit)


@given(st.text(st.characters(exclude_categories=())))
def test_a_credential_is_a_digest_by_the_key_its_name_and_its_value(value: str) -> None:
    digests = {ONE("cookie", value), OTHER("cookie", value), ONE("authorization", value)}
    assert len({*digests, ONE("cookie", value + "x")}) == 4
    assert ONE("cookie", value) == ONE("cookie", value)
    assert len(ONE("cookie", value)) == len("keyed:") + 32


def test_what_is_no_credential_is_left() -> None:
    assert ONE("accept", "text/html") == "text/html"


def test_all_that_isolates_is_concealed() -> None:
    assert {"authorization", "proxy-authorization", "cookie", "x-key"} == CONCEALED
    for name in CONCEALED:
        assert "s3cret" not in ONE(name, "s3cret")


def test_a_long_key_is_a_key() -> None:
    assert concealer(b"x" * 1000, CONCEALED)("cookie", "a").startswith("keyed:")


def test_a_value_cannot_pass_for_a_digest() -> None:
    digest = ONE("cookie", "secret")
    assert ONE("cookie", digest) != digest


def test_the_key_is_made_once_and_found_again() -> None:
    world = World(told())
    first, second = Vault(world.clock), Vault(world.clock)
    key = run(first.secret(guarded(world)))
    assert len(key) == 32
    assert run(second.secret(guarded(world))) == key
    assert world.kept[SECRET_KEY][0] == key
    world.calls.clear()
    assert run(first.secret(guarded(world))) == key
    assert world.calls == []
    assert world.left_open() == []


def test_keys_differ_between_caches() -> None:
    worlds = [World(told()) for _ in range(5)]
    keys = {run(world.vault.secret(guarded(world))) for world in worlds}
    assert len(keys) == 5


def test_two_that_begin_at_once_agree() -> None:
    world = World(told())
    theirs = b"the key of somebody who was a moment later"
    world.meanwhile["commit"] = lambda: world.put(SECRET_KEY, theirs, None)
    assert run(world.vault.secret(guarded(world))) == theirs


def test_where_the_cache_fails_the_key_lasts_as_long_as_the_client() -> None:
    for operation in ("open", "writer", "commit"):
        world = World(told())
        world.faults[operation] = CacheUnavailable("down")
        vault = Vault(world.clock)
        key = run(vault.secret(guarded(world)))
        assert len(key) == 32
        assert run(vault.secret(guarded(world))) == key
        assert world.of(StoreFailed)
        assert world.left_open() == []


def test_a_key_that_was_pruned_is_put_back() -> None:
    world = World(told(etag='"1"'))
    authorized = {"Authorization": "x"}
    world.get(authorized)
    key = world.kept.pop(SECRET_KEY)[0]
    world.clock.advance(3601)
    world.get(authorized)
    assert world.kept[SECRET_KEY][0] == key
    assert world.get(authorized)[1].from_cache
    other = World(told(b"other"))
    other.kept, other.clock = world.kept, world.clock
    assert other.get(authorized)[1].from_cache
    assert world.left_open() == []


def test_it_is_used_once_an_hour() -> None:
    world = World(told())
    vault = Vault(world.clock)
    for seconds, looks in ((0, 1), (3599, 0), (1, 1), (3599, 0), (-9000, 1)):
        world.clock.advance(seconds)
        world.calls.clear()
        run(vault.secret(guarded(world)))
        assert min(world.calls.count("open"), 1) == looks


def test_the_key_that_another_has_put_there_is_taken_up() -> None:
    world = World(told())
    run(world.vault.secret(guarded(world)))
    world.put(SECRET_KEY, b"theirs", None)
    world.clock.advance(3600)
    assert run(world.vault.secret(guarded(world))) == b"theirs"


def test_a_cache_that_could_not_be_read_is_not_given_another_key() -> None:
    world = World(told())
    key = run(Vault(world.clock).secret(guarded(world)))
    world.faults["open"] = CacheUnavailable("down")
    assert run(world.vault.secret(guarded(world))) != key
    world.faults.clear()
    assert world.kept[SECRET_KEY][0] == key
    world.clock.advance(60)
    assert run(world.vault.secret(guarded(world))) == key


def test_no_response_can_take_the_keys_place() -> None:
    for url in ("stillfresh:secret", "stillfresh://secret", "http://stillfresh:secret/"):
        try:
            key = primary_key(url)
        except ValueError:
            continue
        assert key != SECRET_KEY


def test_a_key_of_the_policys_leaves_the_caches_alone() -> None:
    world = World(told(), policy=Policy(secret=b"0123456789abcdef"))
    world.get({"Authorization": "x"})
    assert SECRET_KEY not in world.kept
