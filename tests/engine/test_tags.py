"""Several variants in question at once: asked about by all their tags, freshened together."""

from __future__ import annotations

import pytest

from stillfresh import BodyLost, CacheFull, CacheUnavailable, Outcome, Policy, Reason
from stillfresh.engine.ports import Useful
from stillfresh.events import Hit, Miss, Revalidated, Stored, StoreFailed
from stillfresh.rfc9111.dates import format_date
from stillfresh.rfc9111.fields import split_list
from stillfresh.rfc9111.messages import Request
from tests.engine.test_exchange import NOT_MODIFIED, by_language, tongue
from tests.engine.world import URL, Told, World, document, legacy, told


def about(tag: str, **fields: str) -> Told:
    named = {"etag": tag, "cache-control": "max-age=60"}
    named |= {name.replace("_", "-"): value for name, value in fields.items()}
    return Told(304, tuple(named.items()))


def languages(*names: str) -> World:
    """Make a world in which a page is stored in several languages."""
    world = World(by_language)
    for name in names:
        world.get(tongue(name))
    world.sent.clear()
    world.calls.clear()
    world.events.clear()
    assert world.left_open() == []
    return world


def asked(world: World) -> list[list[str]]:
    return [split_list(one.fields.get("if-none-match") or "") for one in world.sent]


class TestAskingByTags:
    """§4.3.1: which of the variants stored is the one for this request?"""

    @pytest.mark.parametrize("name", ["en", "de", "fr"])
    def test_one_of_them_is(self, name: str) -> None:
        world = languages("en", "de", "fr")
        world.replies = [about(f'"{name}"', x_new="new")]
        answer = world.ask(headers=tongue("la"))
        assert [set(tags) for tags in asked(world)] == [{'"en"', '"de"', '"fr"'}]
        assert (answer.response.status, answer.response.fields.get("x-new")) == (200, "new")
        assert answer.info.outcome is Outcome.REVALIDATED
        assert answer.info.why.reason is Reason.NOT_SELECTED
        assert answer.info.stored
        status = answer.response.fields.get("cache-status") or ""
        assert status.startswith("stillfresh; fwd=vary-miss; fwd-status=304; ttl=60; stored")
        assert world.consume(answer) == name.encode()
        assert [type(event) for event in world.events] == [Revalidated]
        assert world.left_open() == []
        # From now on it answers both requests.
        world.replies = [Told(500)]
        for asking in ("la", name, "en", "de", "fr"):
            body, info = world.get(tongue(asking))
            assert info.outcome is Outcome.HIT
            assert body.decode() == (name if asking == "la" else asking)
        assert world.left_open() == []

    def test_none_of_them_is(self) -> None:
        world = languages("en", "de")
        answer = world.ask(headers=tongue("la"))
        assert answer.info.outcome is Outcome.MISS
        assert world.consume(answer) == b"la"
        assert [type(event) for event in world.events] == [Miss, Stored]
        for name in ("en", "de", "la"):
            assert world.get(tongue(name)) == (
                name.encode(),
                world.ask("HEAD", headers=tongue(name)).info,
            )
        assert len(world.sent) == 1
        assert world.left_open() == []

    @pytest.mark.parametrize(
        "useless",
        [NOT_MODIFIED, about('"other"'), about('"de"', cache_control="no-store")],
        ids=["about nothing", "about another", "no-store"],
    )
    def test_an_answer_of_no_use_is_asked_for_again(self, useless: Told) -> None:
        world = languages("en", "de")
        world.replies = [useless, by_language]
        answer = world.ask(headers=tongue("la"))
        assert world.consume(answer) == b"la"
        assert asked(world)[1] == []
        assert answer.info.outcome is Outcome.MISS
        assert world.get(tongue("la"))[1].outcome is Outcome.HIT
        assert world.left_open() == []

    def test_a_variant_that_is_gone_is_asked_for_again(self) -> None:
        world = languages("en", "de")
        (key,) = (key for key in world.kept if key != URL)
        del world.kept[key]
        world.replies = [about('"de"'), by_language]
        assert world.get(tongue("la"))[0] == b"la"
        assert world.left_open() == []

    @pytest.mark.parametrize("name", ["en", "de"], ids=["primary", "variant"])
    @pytest.mark.parametrize("operation", ["prime", "read"])
    def test_a_variant_whose_body_is_lost_is_asked_for_again(
        self, operation: str, name: str
    ) -> None:
        world = languages("en", "de")
        world.replies = [about(f'"{name}"'), by_language]
        world.faults[operation] = BodyLost("gone")
        answer = world.ask(headers=tongue("la"))
        world.faults.clear()
        assert world.consume(answer) == b"la"
        assert [event.operation for event in world.of(StoreFailed)] == ["read"]
        assert world.left_open() == []

    @pytest.mark.parametrize("name", ["en", "de"], ids=["primary", "variant"])
    @pytest.mark.parametrize("operation", ["writer", "write", "commit"])
    def test_what_can_not_be_kept_is_given_all_the_same(self, operation: str, name: str) -> None:
        world = languages("en", "de")
        bodies = sorted(world.bodies())
        world.replies = [about(f'"{name}"')]
        world.faults[operation] = CacheFull("no room")
        answer = world.ask(headers=tongue("la"))
        world.faults.clear()
        assert world.consume(answer) == name.encode()
        assert not answer.info.stored
        assert [event.operation for event in world.of(StoreFailed)] == [operation]
        assert sorted(world.bodies()) == bodies
        assert world.left_open() == []

    def test_one_that_can_not_be_told_of_is_given_all_the_same(self) -> None:
        world = languages("en")
        world.replies = [about('"en"')]
        world.faults["update"] = CacheUnavailable("no")
        answer = world.ask(headers=tongue("la"))
        world.faults.clear()
        assert world.consume(answer) == b"en"
        assert not answer.info.stored
        assert list(world.kept) == [URL]
        assert world.left_open() == []

    def test_a_part_of_a_variant_is_no_answer(self) -> None:
        world = World(document(b"a longer body", vary="Accept-Language"))
        world.cut_off(4, tongue("en"))
        world.sent.clear()
        assert world.get(tongue("de"))[0] == b"a longer body"
        assert asked(world) == [['"1"'], []]
        assert world.left_open() == []

    @pytest.mark.parametrize("failure", [OSError("no route"), Told(503)], ids=str)
    def test_an_origin_that_fails(self, failure: Told | Exception) -> None:
        world = languages("en", "de")
        before = dict(world.kept)
        world.replies = [failure]
        if isinstance(failure, Exception):
            with pytest.raises(OSError, match="no route"):
                world.ask(headers=tongue("la"))
        else:
            world.consume(world.ask(headers=tongue("la")))
        assert world.kept == before
        assert world.left_open() == []

    @pytest.mark.parametrize(
        ("method", "headers"),
        [
            ("HEAD", {}),
            ("GET", {"Range": "bytes=0-1"}),
            ("GET", {"If-None-Match": '"0"'}),
            ("GET", {"If-Modified-Since": "yesterday"}),
            ("GET", {"If-Match": '"0"'}),
            ("GET", {"Cache-Control": "no-store"}),
            ("GET", {"Cache-Control": "No-Store"}),
        ],
        ids=str,
    )
    def test_not_where_the_caller_asks_otherwise(
        self, method: str, headers: dict[str, str]
    ) -> None:
        world = languages("en")
        world.replies = [Told(304)]
        before = dict(world.kept)
        world.consume(world.ask(method, headers=tongue("la") | headers))
        assert asked(world) == [split_list(headers.get("If-None-Match", ""))]
        assert world.kept == before
        assert world.left_open() == []

    def test_not_where_nothing_has_a_tag(self) -> None:
        world = World(told(vary="Accept-Language"))
        world.get(tongue("en"))
        world.get(tongue("de"))
        assert asked(world) == [[], []]

    @pytest.mark.parametrize("tag", ["*", '"a", "b"', "two words", ""])
    def test_what_is_no_tag_is_not_asked_by(self, tag: str) -> None:
        """In a list it would mean something else."""
        world = World(told(vary="Accept-Language", etag=tag))
        world.get(tongue("en"))
        world.get(tongue("de"))
        world.get(tongue("fr"))
        assert asked(world) == [[], [], []]

    def test_their_number_is_bounded(self) -> None:
        names = [f"x-{number}" for number in range(40)]
        world = languages(*names)
        world.get(tongue("la"))
        (tags,) = asked(world)
        assert len(tags) <= 17
        # The newest are remembered, and the first one, which all begins with.
        assert '"x-39"' in tags
        assert '"x-0"' in tags

    def test_a_new_tag_takes_the_place_of_the_old_one(self) -> None:
        world = languages("en", "de")
        world.replies = [told(b"neu", vary="Accept-Language", etag='"neu"')]
        world.get(tongue("de") | {"Cache-Control": "no-cache"})
        world.sent.clear()
        world.get(tongue("la"))
        assert [set(tags) for tags in asked(world)] == [{'"en"', '"neu"'}]

    def test_another_programs_is_asked_about_too(self) -> None:
        world = languages("en")
        metadata, body, _ = world.kept[URL]
        world.put(URL, metadata, body, foreign=True)
        world.replies = [about('"en"')]
        assert world.get(tongue("la"))[0] == b"en"
        assert world.left_open() == []


PRIVATE = "private, max-age=60"


class TestUsers:
    """Nobody is given what is another's, whatever a server says of its tags."""

    USERS = ({"Authorization": "alice"}, {"Cookie": "alice"}, {"X-Api-Key": "alice"})

    @staticmethod
    def page(request: Request) -> Told:
        fields = request.fields
        user = fields.get("authorization") or fields.get("cookie") or fields.get("x-api-key")
        if "if-none-match" in fields:
            who = user or "nobody"
            return about('"same"', cache_control=PRIVATE, set_cookie=f"session={who}")
        return told((user or "nobody").encode(), cache_control=PRIVATE, etag='"same"')

    @pytest.mark.parametrize("alice", USERS, ids=str)
    def test_nobody_asks_by_anothers_tag(self, alice: dict[str, str]) -> None:
        bob = dict.fromkeys(alice, "bob")
        carol = dict.fromkeys(alice, "carol")
        world = World(self.page, policy=Policy(isolate=frozenset({"x-api-key"})))
        for _ in range(2):
            for headers in (alice, bob, {}, carol):
                expected = next(iter(headers.values()), "nobody").encode()
                assert world.get(headers)[0] == expected
        assert world.left_open() == []

    @pytest.mark.parametrize("alice", USERS, ids=str)
    def test_nobody_is_given_what_has_anothers_tag(self, alice: dict[str, str]) -> None:
        """Nobody's page has it too, so it may be asked by; but that page is the one it is of."""

        def page(request: Request) -> Told:
            reply = self.page(request)
            return Told(reply.status, (*reply.fields, ("Vary", "Accept-Language")), reply.body)

        world = World(page, policy=Policy(isolate=frozenset({"x-api-key"})))
        world.get(alice | tongue("en"))
        for name in ("en", "de", "fr"):
            assert world.get(tongue(name))[0] == b"nobody"
        assert world.left_open() == []

    @pytest.mark.parametrize("bob", [{"X-Api-Key": "bob"}, {}], ids=str)
    def test_who_isolates_asks_by_nothing_of_who_does_not(self, bob: dict[str, str]) -> None:
        world = World(self.page)
        for name in ("en", "de"):
            world.get({"X-Api-Key": "alice"} | tongue(name))
        world.policy = Policy(isolate=frozenset({"x-api-key"}))
        for name in ("de", "fr", "en"):
            assert world.get(bob | tongue(name))[0] == (b"bob" if bob else b"nobody")
        assert world.left_open() == []

    @pytest.mark.parametrize("alice", USERS, ids=str)
    def test_what_a_304_says_to_one_is_not_told_to_another(self, alice: dict[str, str]) -> None:
        bob, nobody = dict.fromkeys(alice, "bob"), dict[str, str]()
        world = World(self.page, policy=Policy(isolate=frozenset({"x-api-key"})))
        for headers in (alice, bob, nobody):
            world.get(headers)
        for asking, other in ((alice, bob), (bob, alice), (alice, nobody), (nobody, alice)):
            world.clock.advance(61)
            who = next(iter(asking.values()), "nobody")
            assert world.get(asking)[0] == who.encode()
            answer = world.ask(headers=other | {"Cache-Control": "only-if-cached, max-stale"})
            assert who not in (answer.response.fields.get("set-cookie") or "")
            assert world.consume(answer) == next(iter(other.values()), "nobody").encode()
        assert world.left_open() == []


class TestFreshenedTogether:
    """§4.3.4: a 304 is about all that have its strong tag."""

    @staticmethod
    def twins(tag: str = '"same"') -> World:
        world = World(
            lambda request: told(
                b"a page", vary="Accept-Language", etag=tag, x_tongue=tongue_of(request)
            )
        )
        for name in ("en", "de", "fr"):
            world.get(tongue(name))
        world.clock.advance(61)
        world.sent.clear()
        world.events.clear()
        return world

    @pytest.mark.parametrize("name", ["en", "de"], ids=["primary", "variant"])
    def test_all_that_have_the_tag_are_fresh(self, name: str) -> None:
        world = self.twins()
        world.replies = [about('"same"', x_new="new")]
        assert world.get(tongue(name))[1].outcome is Outcome.REVALIDATED
        for other in ("en", "de", "fr"):
            answer = world.ask(headers=tongue(other))
            assert answer.info.outcome is Outcome.HIT
            assert answer.response.fields.get("x-tongue") == other
            assert answer.response.fields.get("x-new") == "new"
            assert world.consume(answer) == b"a page"
        assert len(world.sent) == 1
        assert [type(event) for event in world.events] == [Revalidated, Hit, Hit, Hit]
        assert world.left_open() == []

    def test_also_by_an_answer_about_several(self) -> None:
        world = self.twins()
        world.replies = [about('"same"')]
        for name in ("la", "en", "de", "fr", "la"):
            assert world.get(tongue(name))[0] == b"a page"
        assert len(world.sent) == 1
        assert world.left_open() == []

    def test_also_by_a_request_for_a_part(self) -> None:
        world = self.twins()
        world.replies = [about('"same"')]
        world.get(tongue("de") | {"Range": "bytes=0-1"})
        assert world.get(tongue("en"))[1].outcome is Outcome.HIT
        assert world.left_open() == []

    @pytest.mark.parametrize("tag", ['W/"same"', "unquoted"])
    def test_a_weak_tag_is_about_one(self, tag: str) -> None:
        world = self.twins(tag)
        world.replies = [about(tag)]
        assert world.get(tongue("de"))[1].outcome is Outcome.REVALIDATED
        assert world.get(tongue("en"))[1].outcome is Outcome.REVALIDATED

    def test_those_of_another_tag_are_left_alone(self) -> None:
        world = languages("en", "de")
        world.clock.advance(61)
        world.replies = [about('"de"'), about('"en"')]
        assert world.get(tongue("de"))[1].outcome is Outcome.REVALIDATED
        assert world.get(tongue("en"))[1].outcome is Outcome.REVALIDATED

    def test_one_that_is_gone_or_another_programs_is_left_alone(self) -> None:
        world = self.twins()
        gone, foreign = (key for key in world.kept if key != URL)
        del world.kept[gone]
        world.put(foreign, legacy(b"a page", ETag='"same"'), None, foreign=True)
        kept = world.kept[foreign]
        world.replies = [about('"same"')]
        assert world.get(tongue("en"))[1].outcome is Outcome.REVALIDATED
        assert world.kept[foreign] == kept
        assert gone not in world.kept
        assert world.left_open() == []


def tongue_of(request: Request) -> str:
    return request.fields.get("accept-language") or ""


class TestVariantsStoredMeanwhile:
    """While the origin is asked about one variant, others are stored."""

    @pytest.mark.parametrize("validated", ["en", "de"])
    def test_a_304_forgets_none_of_them(self, validated: str) -> None:
        world = World(by_language, policy=Policy(collapse_wait=0))
        for name in ("en", "de"):
            world.get(tongue(name))
        world.clock.advance(61)

        def slowly(_: Request) -> Told:
            world.replies = [by_device]
            world.get({**tongue("fr"), "X-Device": "desk"})
            world.replies = [Told(500)]
            return about(f'"{validated}"', vary="Accept-Language")

        def by_device(request: Request) -> Told:
            name = request.fields.get("accept-language") or ""
            device = request.fields.get("x-device") or ""
            return told(
                f"{name} {device}".encode(),
                etag=f'"{name}-{device}"',
                vary="Accept-Language, X-Device",
            )

        world.replies = [slowly]
        body, info = world.get(tongue(validated))
        assert (body.decode(), info.outcome) == (validated, Outcome.REVALIDATED)
        body, info = world.get({**tongue("fr"), "X-Device": "desk"})
        assert (body, info.outcome) == (b"fr desk", Outcome.HIT)
        tags = {tag for _, tag in world.record().variants}
        assert '"fr-desk"' in tags
        assert world.left_open() == []

    def test_a_304_forgets_not_the_first_of_them(self) -> None:
        """What is the same for all has a variant as soon as somebody brings credentials."""
        world = World(told(b"for all", etag='"1"'), policy=Policy(collapse_wait=0))
        world.get()
        world.clock.advance(61)
        mine = {"Authorization": "me"}

        def slowly(_: Request) -> Told:
            world.replies = [told(b"mine", etag='"mine"')]
            world.get(mine)
            return about('"1"')

        world.replies = [slowly]
        assert world.get()[1].outcome is Outcome.REVALIDATED
        body, info = world.get(mine)
        assert (body, info.outcome) == (b"mine", Outcome.HIT)
        assert world.get()[0] == b"for all"
        assert world.left_open() == []

    def test_nor_one_that_is_stored_at_that_very_moment(self) -> None:
        world = Racing(confirming, policy=Policy(collapse_wait=0))
        world.get(tongue("en"))
        world.clock.advance(61)
        world.races = 3
        assert world.get(tongue("en"))[1].outcome is Outcome.REVALIDATED
        for name in ("de-1", "de-2", "de-3", "en"):
            body, info = world.get(tongue(name))
            assert (body.decode(), info.outcome) == (name, Outcome.HIT)
        assert world.left_open() == []

    def test_what_the_origin_said_last_counts_though_it_came_before(self) -> None:
        """Two validate at once, and the answer to the one who was asked first comes last."""
        world = World(document(b"x"), policy=Policy(collapse_wait=0))
        world.get()
        world.clock.advance(61)

        def slowly(_: Request) -> Told:
            date = format_date(world.clock())
            world.clock.advance(2)
            world.replies = [
                about('"1"', cache_control="no-cache", date=format_date(world.clock()))
            ]
            world.get()
            world.clock.advance(1)
            return about('"1"', cache_control="max-age=3600", date=date)

        world.replies = [slowly]
        assert world.get()[0] == b"x"
        assert world.record().response.fields.get("cache-control") == "no-cache"

    def test_a_clock_that_was_ahead_keeps_nothing_from_being_refreshed(self) -> None:
        world = World(confirming)
        world.clock.advance(10_000)
        world.get(tongue("en"))
        world.clock.advance(-9_000)
        world.get(tongue("en") | {"Cache-Control": "no-cache"})
        assert world.record().response_time == world.clock()

    def test_where_nobody_was_quicker_there_is_no_second_look(self) -> None:
        world = World(confirming)
        for name in ("en", "de"):
            world.get(tongue(name))
        world.clock.advance(61)
        world.calls.clear()
        world.get(tongue("en"))
        after = world.calls[world.calls.index("send") :]
        assert "open" not in after
        assert after.count("update") == 1


def confirming(request: Request) -> Told:
    """Answer by language, and with a 304 where what is known is right."""
    tag = f'"{tongue_of(request)}"'
    if tag in (request.fields.get("if-none-match") or ""):
        return about(tag, vary="Accept-Language")
    return by_language(request)


class Racing(World):
    """Each time that a record is updated, a variant has been stored just before, `races` times."""

    races = 0

    async def update(
        self, key: str, old: bytes, new: bytes, version: str, useful: Useful | None = None
    ) -> bool:
        if self.races:
            name, self.races = f"de-{self.races}", self.races - 1
            left, self.races = self.races, 0
            self.get(tongue(name))
            self.races = left
        return await super().update(key, old, new, version, useful)
