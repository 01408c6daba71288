"""Where a response is found again: by a search that means the same, by content, in its groups."""

from __future__ import annotations

import pytest

from stillfresh import CacheFull, CacheUnavailable, Outcome, Policy, Reason, Rule
from stillfresh.events import Hit, Invalidated, Miss, NotStored, Stored, StoreFailed
from stillfresh.rfc9111.groups import group_key
from stillfresh.rfc9111.keys import changed_key, search_key
from stillfresh.rfc9111.messages import Request
from tests.engine.test_exchange import NOT_MODIFIED, by_language, tongue
from tests.engine.world import URL, Told, World, document, told

OTHER = "http://origin.example/other"
ELSEWHERE = "http://elsewhere.example/"


def echo(request: Request) -> Told:
    """Answer with what was asked for."""
    return told(request.url.encode() + b" " + (request.content or b""))


class TestSearch:
    """No-Vary-Search: URLs whose difference doesn't matter have one response."""

    @staticmethod
    def world(value: str) -> World:
        return World(lambda request: told(request.url.encode(), no_vary_search=value))

    @pytest.mark.parametrize(
        ("value", "first", "same", "other"),
        [
            ('params=("utm")', "?a=1&utm=x", ["?a=1", "?utm=y&a=1", "?a=1&utm=x"], ["?a=2"]),
            ("params", "?a=1", ["?a=2", "?b", "?", ""], []),
            ('params, except=("a")', "?a=1&b=1", ["?a=1", "?b=2&a=1"], ["?a=2&b=1"]),
            ("key-order", "?b=1&a=1", ["?a=1&b=1"], ["?a=1", "?a=1&b=1&b=2"]),
        ],
    )
    def test_what_does_not_matter_makes_no_difference(
        self, value: str, first: str, same: list[str], other: list[str]
    ) -> None:
        world = self.world(value)
        body, info = world.get(url=URL + first)
        assert info.stored
        assert len(world.bodies()) == 1
        for search in same:
            world.events.clear()
            assert world.get(url=URL + search)[0] == body
            assert [type(event) for event in world.events] == [Hit]
        assert len(world.sent) == 1
        for search in other:
            assert world.get(url=URL + search)[0] == (URL + search).encode()
        assert len(world.sent) == 1 + len(other)
        assert world.left_open() == []

    @pytest.mark.parametrize("value", ["nonsense=", "params=?0", 'except=("a"), params=("b")'])
    def test_what_makes_no_sense_is_passed_over(self, value: str) -> None:
        world = self.world(value)
        for search in ("?a=1", "?a=2"):
            assert world.get(url=URL + search)[1].outcome is Outcome.MISS
            assert world.get(url=URL + search)[1].outcome is Outcome.HIT
        assert world.left_open() == []

    def test_what_was_stored_before_for_the_one_url_makes_room(self) -> None:
        world = World(told(b"old"))
        world.get(url=URL + "?a=1&utm=x")
        world.clock.advance(61)
        world.replies = [told(b"new", no_vary_search='params=("utm")')]
        assert world.get(url=URL + "?a=1&utm=x")[0] == b"new"
        for search in ("?a=1&utm=x", "?a=1"):
            assert world.get(url=URL + search) == (
                b"new",
                world.ask("HEAD", url=URL + search).info,
            )
        assert world.bodies() == [b"new"]
        assert world.left_open() == []

    def test_it_is_validated_and_replaced_where_it_is(self) -> None:
        world = World(document(b"hello", no_vary_search="params"))
        world.get(url=URL + "?a=1")
        world.clock.advance(61)
        assert world.get(url=URL + "?a=2")[1].outcome is Outcome.REVALIDATED
        assert world.get(url=URL + "?a=3")[1].outcome is Outcome.HIT
        world.clock.advance(61)
        world.replies = [document(b"other", '"2"', no_vary_search="params")]
        assert world.get(url=URL + "?a=4")[0] == b"other"
        assert world.get(url=URL + "?a=1")[0] == b"other"
        assert world.bodies() == [b"other"]
        assert world.left_open() == []

    def test_what_says_no_more_that_others_are_the_same_is_for_its_own_url(self) -> None:
        world = World(told(b"for all", no_vary_search="params"))
        world.get(url=URL + "?a=1")
        world.clock.advance(61)
        world.replies = [told(b"second"), told(b"plain")]
        assert world.get(url=URL + "?a=2")[0] == b"second"
        assert world.get(url=URL)[0] == b"plain"
        assert world.get(url=URL + "?a=2")[0] == b"second"
        assert world.left_open() == []

    def test_nor_is_a_variant_that_says_nothing_of_others(self) -> None:
        def answer(request: Request) -> Told:
            name = request.fields.get("x") or ""
            body = f"{name} {request.url}".encode()
            if name == "a":
                return told(body, vary="X", no_vary_search="params")
            return told(body, vary="X")

        world = World(answer)
        world.get({"X": "a"}, URL + "?a=1")
        for search in ("?a=1", "?a=2", ""):
            for _ in range(2):
                assert world.get({"X": "b"}, URL + search)[0] == f"b {URL}{search}".encode()
        assert world.left_open() == []

    def test_nor_is_a_variant_for_which_more_matters(self) -> None:
        def answer(request: Request) -> Told:
            name = request.fields.get("x") or ""
            value = "params" if name == "a" else 'params=("a")'
            return told(f"{name} {request.url}".encode(), vary="X", no_vary_search=value)

        world = World(answer)
        world.get({"X": "a"}, URL + "?a=1")
        assert world.get({"X": "b"}, URL + "?a=1")[0] == f"b {URL}?a=1".encode()
        assert world.get({"X": "b"}, URL + "?a=2")[0] == f"b {URL}?a=1".encode()
        assert world.get({"X": "b"}, URL + "?z=1")[0] == f"b {URL}?z=1".encode()
        assert world.left_open() == []

    def test_what_a_304_says_of_others_counts(self) -> None:
        world = World(document(b"for all", no_vary_search="params"))
        world.get(url=URL + "?a=1")
        world.clock.advance(61)
        world.replies = [
            Told(304, (("ETag", '"1"'), ("No-Vary-Search", 'params=("zz")'))),
            document(b"plain", '"2"'),
        ]
        assert world.get(url=URL + "?a=1")[0] == b"for all"
        assert world.get(url=URL)[0] == b"plain"
        assert world.left_open() == []

    def test_variants_of_one_search(self) -> None:
        def answer(request: Request) -> Told:
            reply = by_language(request)
            return Told(reply.status, (*reply.fields, ("No-Vary-Search", "params")), reply.body)

        world = World(answer)
        for name in ("en", "de"):
            world.get(tongue(name), URL + "?a=1")
        for name in ("de", "en"):
            assert world.get(tongue(name), URL + "?a=2")[0] == name.encode()
        assert len(world.sent) == 2
        assert world.left_open() == []

    def test_responses_of_one_path_may_differ_in_what_matters(self) -> None:
        world = World(
            lambda request: told(
                request.url.encode(),
                no_vary_search='params=("x")' if "kind=1" in request.url else 'params=("y")',
            )
        )
        for search in ("?kind=1&x=1&y=1", "?kind=2&x=1&y=1"):
            world.get(url=URL + search)
        assert world.get(url=URL + "?kind=1&x=2&y=1")[1].outcome is Outcome.HIT
        assert world.get(url=URL + "?kind=2&x=1&y=2")[1].outcome is Outcome.HIT
        assert world.get(url=URL + "?kind=1&x=1&y=2")[1].outcome is Outcome.MISS
        assert world.left_open() == []

    def test_what_has_changed_its_variance_is_not_found_by_the_old_one(self) -> None:
        """What lies at the place of another value says itself what it stands for."""
        world = World(told(b"one", no_vary_search="params"))
        world.get(url=URL + "?a=1")
        world.replies = [told(b"plain")]
        assert world.get({"Cache-Control": "no-cache"}, URL)[0] == b"plain"
        world.replies = [told(b"other")]
        assert world.get(url=URL + "?a=1")[0] == b"other"
        assert world.left_open() == []

    def test_their_number_is_bounded(self) -> None:
        world = World(
            lambda request: told(no_vary_search=f'params=("{request.url.partition("=")[2]}")')
        )
        for number in range(40):
            world.get(url=f"{URL}?kind={number}")
        world.calls.clear()
        world.get(url=f"{URL}?kind=new")
        assert world.calls.count("open") <= 16
        assert world.left_open() == []

    def test_a_search_that_is_never_reduced_takes_one_more_look(self) -> None:
        world = World(told())
        world.get(url=URL + "?a=1")
        world.calls.clear()
        world.get(url=URL + "?a=1")
        assert world.calls.count("open") == 1
        world.calls.clear()
        world.get(url=URL)
        assert world.calls.count("open") == 1

    def test_an_unsafe_request_throws_it_out(self) -> None:
        world = self.world("params")
        for search in ("?a=1", ""):
            world.get(url=URL + "?a=0")
            world.events.clear()
            world.consume(world.ask("POST", URL + search))
            assert [event.key for event in world.of(Invalidated)] == [URL]
            assert not world.bodies()

    def test_what_an_unsafe_request_names_is_thrown_out_wherever_it_lies(self) -> None:
        world = self.world("params")
        page = OTHER + "?a=1"
        world.get(url=page)
        world.replies = [told(b"", 201, location=OTHER + "?a=2")]
        world.consume(world.ask("POST", URL))
        assert not world.bodies()
        assert world.left_open() == []

    @pytest.mark.parametrize("index", [b"\xff", b"\n\n", b"params\n", b"", b"\xed\xa0\x80=?1"])
    def test_an_index_that_is_damaged_breaks_nothing(self, index: bytes) -> None:
        world = World(told(b"hello", no_vary_search="params"))
        world.put(search_key(URL), index, None)
        for _ in range(2):
            assert world.get(url=URL + "?a=1")[0] == b"hello"
        assert len(world.sent) == 1
        world.consume(world.ask("POST", URL + "?a=1"))
        assert world.left_open() == []

    @pytest.mark.parametrize("operation", ["writer", "commit", "open", "remove"])
    def test_the_cache_may_fail_over_it(self, operation: str) -> None:
        world = World(told(no_vary_search="params"))
        world.get(url=URL + "?a=0")
        world.clock.advance(61)
        world.faults[operation] = CacheUnavailable("no")
        for search in ("?a=1", "?a=2"):
            assert world.get(url=URL + search)[0] == b"hello"
        assert {event.operation for event in world.of(StoreFailed)} <= {operation}
        assert world.left_open() == []


class TestContent:
    """A rule makes the content a part of the key, so that what it is answered by is stored."""

    POLICY = Policy(rules=(Rule(key_with_content=True, methods=frozenset({"POST", "QUERY"})),))

    @pytest.mark.parametrize("method", ["POST", "QUERY"])
    def test_each_content_has_its_response(self, method: str) -> None:
        world = World(echo, policy=self.POLICY)
        for outcome in (Outcome.MISS, Outcome.HIT):
            for content in (b"one", b"two", b""):
                answer = world.ask(method, content=content)
                assert answer.info.outcome is outcome
                assert world.consume(answer) == URL.encode() + b" " + content
        assert len(world.kept) == 3
        assert all(key.startswith(f"{URL}#{method}=") for key in world.kept)
        assert world.get()[0] == URL.encode() + b" "
        assert world.left_open() == []

    def test_its_key_is_in_cache_status(self) -> None:
        world = World(echo, policy=self.POLICY)
        for _ in range(2):
            answer = world.ask("POST", content=b"one")
            world.consume(answer)
            (key,) = world.kept
            assert f'; key="{key}"' in (answer.response.fields.get("cache-status") or "")

    def test_content_that_nobody_has_seen_is_not_cached(self) -> None:
        world = World(echo, policy=self.POLICY)
        for _ in range(2):
            answer = world.ask("POST")
            assert answer.info.why.reason is Reason.METHOD
            world.consume(answer)
        # It may have changed something, as any POST may.
        assert [*world.kept] == [changed_key(URL)]
        assert len(world.sent) == 2

    def test_such_a_request_throws_nothing_out(self) -> None:
        world = World(echo, policy=self.POLICY)
        world.get()
        world.consume(world.ask("POST", content=b"one"))
        assert not world.of(Invalidated)
        assert len(world.kept) == 2

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
    @pytest.mark.parametrize("keyed", ["GET", "POST", "QUERY"])
    def test_an_unsafe_request_throws_out_all_contents(self, keyed: str, method: str) -> None:
        rule = Rule(key_with_content=True, methods=frozenset({keyed}))
        world = World(echo, policy=Policy(rules=(rule,)))
        for outcome in (Outcome.MISS, Outcome.HIT):
            for content in (b"one", b"two"):
                answer = world.ask(keyed, content=content)
                assert answer.info.outcome is outcome
                world.consume(answer)
        world.clock.advance(1)
        world.consume(world.ask(method, content=b"new"))
        assert world.of(Invalidated)
        world.clock.advance(1)
        for outcome in (Outcome.MISS, Outcome.HIT):
            for content in (b"one", b"two"):
                answer = world.ask(keyed, content=content)
                assert answer.info.outcome is outcome
                world.consume(answer)
        assert world.left_open() == []

    def test_what_was_dropped_says_why(self) -> None:
        world = World(echo, policy=self.POLICY)
        world.consume(world.ask("POST", content=b"one"))
        world.clock.advance(1)
        world.consume(world.ask("DELETE"))
        answer = world.ask("POST", content=b"one")
        assert answer.info.why.reason is Reason.INVALIDATED
        assert "; fwd=stale" in (answer.response.fields.get("cache-status") or "")
        world.consume(answer)

    def test_a_post_that_has_made_something_throws_out_what_it_is_about(self) -> None:
        world = World(echo, policy=self.POLICY)
        for url in (URL, OTHER):
            world.get(url=url)
        world.replies = [Told(201, (("Location", OTHER), ("Cache-Control", "max-age=60")))]
        world.consume(world.ask("POST", content=b"one"))
        assert not world.kept.keys() & {URL, OTHER}
        assert world.left_open() == []

    def test_its_groups_are_thrown_out_whatever_the_rule_says(self) -> None:
        world = World(told(cache_groups='"g"'), policy=self.POLICY)
        world.get()
        world.clock.advance(1)
        world.replies = [told(b"done", cache_group_invalidation='"g"')]
        world.consume(world.ask("POST", OTHER, content=b"one"))
        assert world.ask("HEAD").info.outcome is not Outcome.HIT

    def test_it_is_never_asked_about_with_a_condition(self) -> None:
        """The answer to a POST whose condition fails is a 412 (RFC 9110 §13.1.2)."""

        def answer(request: Request) -> Told:
            return Told(412) if "if-none-match" in request.fields else told(b"x", etag='"1"')

        world = World(answer, policy=self.POLICY)
        for _ in range(2):
            got = world.ask("POST", content=b"one")
            assert (got.response.status, world.consume(got)) == (200, b"x")
            world.clock.advance(61)
        assert len(world.sent) == 2

    def test_one_that_breaks_off_leaves_no_trace(self) -> None:
        world = World(document(b"hello"), policy=self.POLICY)
        answer = world.ask("POST", content=b"one")
        world.consume(answer, 2)
        assert answer.info.storing is not None
        assert answer.info.storing.reason is Reason.BROKEN_OFF
        assert not world.kept

    def test_a_search_that_does_not_matter_leaves_the_content_in_the_key(self) -> None:
        world = World(
            lambda request: told((request.content or b"-"), no_vary_search="params"),
            policy=self.POLICY,
        )
        for content in (b"one", b"two"):
            for search in ("?a=1", "?a=2", ""):
                assert world.consume(world.ask("POST", URL + search, content=content)) == content
        assert world.get(url=URL + "?a=1")[0] == b"-"
        assert world.get(url=URL)[0] == b"-"
        assert world.left_open() == []

    def test_searches_are_listed_once_for_all_contents(self) -> None:
        world = World(told(no_vary_search="params"), policy=self.POLICY)
        for content in (b"one", b"two", b"three"):
            world.consume(world.ask("POST", content=content))
        assert [key for key in world.kept if key.endswith("#search")] == [URL + "#search"]

    def test_users_are_told_apart(self) -> None:
        world = World(
            lambda request: told(
                (request.fields.get("authorization") or "").encode().hex().encode()
            ),
            policy=self.POLICY,
        )
        for _ in range(2):
            for user in ("alice", "bob"):
                answer = world.ask("POST", headers={"Authorization": user}, content=b"x")
                assert world.consume(answer) == user.encode().hex().encode()
        assert len(world.sent) == 2
        assert "alice" not in repr(world.kept)

    def test_what_the_key_leaves_out(self) -> None:
        policy = Policy(rules=(Rule(key_without=frozenset({"utm_*"})),))
        world = World(echo, policy=policy)
        world.get(url=URL + "?utm_a=1&a=1")
        assert world.get(url=URL + "?a=1&utm_b=2")[1].outcome is Outcome.HIT
        assert world.get(url=URL + "?a=2&utm_b=2")[1].outcome is Outcome.MISS
        world.consume(world.ask("POST", URL + "?a=1&utm_c=3"))
        assert [event.key for event in world.of(Invalidated)] == [URL + "?a=1"]
        assert world.get(url=URL + "?a=1")[1].outcome is Outcome.MISS

    def test_never_store(self) -> None:
        policy = Policy(rules=(Rule(url="*/secret*", never_store=True),))
        world = World(told(), policy=policy)
        for _ in range(2):
            body, info = world.get(url=URL + "secret")
            assert (body, info.why.reason) == (b"hello", Reason.RULE_NEVER_STORE)
        assert not world.kept
        assert world.get()[1].stored


class TestAnswersOfPost:
    """RFC 9110 §9.3.3: a POST may be answered by what a GET would be."""

    @staticmethod
    def page(**fields: str) -> Told:
        return told(b"page", 200, **{"content_location": "/", "content_length": "4"} | fields)

    def test_it_is_stored_for_get(self) -> None:
        world = World(self.page(etag='"1"'))
        answer = world.ask("POST")
        assert world.consume(answer) == b"page"
        assert answer.info.stored
        assert [type(event) for event in world.events] == [Miss, Stored]
        assert world.get()[1].outcome is Outcome.HIT
        assert world.ask("HEAD").info.outcome is Outcome.HIT
        assert world.consume(world.ask("POST")) == b"page"
        assert len(world.sent) == 2
        assert world.left_open() == []

    def test_it_takes_the_place_of_what_was_there(self) -> None:
        world = World(told(b"old", vary="Accept-Language"))
        world.get(tongue("en"))
        world.get(tongue("de"))
        world.events.clear()
        world.replies = [self.page()]
        world.consume(world.ask("POST"))
        assert [type(event) for event in world.events] == [Invalidated, Miss, Stored]
        assert world.get(tongue("de"))[0] == b"page"
        assert world.left_open() == []

    def test_whose_it_is_is_kept_as_a_digest(self) -> None:
        world = World(self.page(cache_control="private, max-age=60"))
        alice = {"Authorization": "alice", "Cookie": "alice"}
        world.consume(world.ask("POST", headers=alice))
        assert world.get(alice)[1].outcome is Outcome.HIT
        assert world.get({"Authorization": "bob"})[1].outcome is Outcome.MISS
        assert world.get()[1].outcome is Outcome.MISS
        assert "alice" not in repr(world.kept)

    @pytest.mark.parametrize(
        "reply",
        [
            told(b"page"),
            told(b"page", content_location="/other"),
            told(b"page", content_location="http://["),
            told(b"page", content_location="/", cache_control="public"),
            told(b"page", content_location="/", cache_control="no-store, max-age=60"),
            told(b"page", 201, content_location="/"),
        ],
        ids=lambda reply: str(dict(reply.fields) | {"": reply.status}),
    )
    def test_else_it_is_not(self, reply: Told) -> None:
        world = World(reply)
        answer = world.ask("POST")
        world.consume(answer)
        assert not answer.info.stored
        assert not world.kept
        assert [type(event) for event in world.events] == [NotStored, Miss]

    def test_broken_off_it_leaves_no_trace(self) -> None:
        world = World(self.page(etag='"1"'))
        world.consume(world.ask("POST"), 2)
        assert not world.kept
        assert world.left_open() == []


class TestGroups:
    """Cache groups (RFC 9875): what was stored before its group was invalidated is not used."""

    @staticmethod
    def world(groups: str = '"news"') -> World:
        """Store two pages of a group, and go on a second."""
        world = World(told(b"old", cache_groups=groups))
        for url in (URL, OTHER):
            world.get(url=url)
        world.clock.advance(1)
        world.events.clear()
        world.sent.clear()
        return world

    @staticmethod
    def invalidate(world: World, groups: str, url: str = URL, status: int = 200) -> None:
        world.replies = [told(b"done", status, cache_group_invalidation=groups)]
        world.consume(world.ask("POST", url))
        world.clock.advance(1)
        world.replies = [told(b"new", cache_groups='"news"')]

    @pytest.mark.parametrize("status", [200, 303, 409, 500])
    def test_it_is_asked_for_anew(self, status: int) -> None:
        world = self.world()
        self.invalidate(world, '"news"', URL + "news", status)
        assert group_key(URL, "news") in [event.key for event in world.of(Invalidated)]
        world.events.clear()
        for url in (URL, OTHER):
            answer = world.ask(url=url)
            assert answer.info.why.reason is Reason.GROUP_INVALIDATED
            status_line = answer.response.fields.get("cache-status") or ""
            assert status_line.startswith("stillfresh; fwd=stale; fwd-status=200; stored; detail=")
            assert world.consume(answer) == b"new"
            assert world.get(url=url)[1].outcome is Outcome.HIT
        assert [type(event) for event in world.events] == [Miss, Stored, Hit] * 2
        assert world.left_open() == []

    def test_it_is_not_asked_about(self) -> None:
        """A validator that is older than what made it doubtful says nothing."""
        world = World(document(b"old", cache_groups='"news"'))
        world.get()
        world.clock.advance(61)
        self.invalidate(world, '"news"', OTHER)
        world.sent.clear()
        assert world.get()[0] == b"new"
        assert "if-none-match" not in world.sent[0].fields

    @pytest.mark.parametrize(
        ("groups", "url"),
        [('"other"', URL), ('"NEWS"', URL), ("news", URL), ('"news"', ELSEWHERE), ('"news', URL)],
    )
    def test_other_groups_stay(self, groups: str, url: str) -> None:
        world = self.world()
        self.invalidate(world, groups, url + "news")
        for page in (URL, OTHER):
            assert world.get(url=page)[0] == b"old"

    def test_a_safe_request_invalidates_nothing(self) -> None:
        world = self.world()
        world.replies = [told(b"x", cache_group_invalidation='"news"')]
        world.get(url=URL + "x")
        assert world.get()[0] == b"old"

    def test_one_of_several_is_enough(self) -> None:
        world = self.world('"a", "news", "z"')
        self.invalidate(world, '"b", "news"', URL + "news")
        assert world.get()[0] == b"new"

    def test_a_variant(self) -> None:
        def answer(request: Request) -> Told:
            reply = by_language(request)
            return Told(reply.status, (*reply.fields, ("Cache-Groups", '"news"')), reply.body)

        world = World(answer)
        for name in ("en", "de"):
            world.get(tongue(name))
        world.clock.advance(1)
        self.invalidate(world, '"news"', OTHER)
        world.replies = [answer]
        world.sent.clear()
        for name in ("de", "en"):
            body, info = world.get(tongue(name))
            assert (body, info.why.reason) == (name.encode(), Reason.GROUP_INVALIDATED)
            assert world.get(tongue(name))[1].outcome is Outcome.HIT
        assert len(world.sent) == 2
        assert world.left_open() == []

    def test_only_if_cached(self) -> None:
        world = self.world()
        self.invalidate(world, '"news"', URL + "news")
        answer = world.ask(headers={"Cache-Control": "only-if-cached"})
        assert answer.response.status == 504
        assert world.left_open() == []

    @pytest.mark.parametrize("moment", [b"", b"soon", b"\xff", b"nan", b"stillfresh/1\n"])
    def test_a_moment_that_is_none_is_passed_over(self, moment: bytes) -> None:
        world = self.world()
        world.put(group_key(URL, "news"), moment, None)
        assert world.get()[0] == b"old"
        assert world.left_open() == []

    @pytest.mark.parametrize("operation", ["writer", "commit"])
    def test_a_group_that_can_not_be_marked_is_told_of(self, operation: str) -> None:
        world = self.world()
        world.faults[operation] = CacheFull("no room")
        world.replies = [told(b"done", cache_group_invalidation='"news"')]
        world.consume(world.ask("POST", URL + "news"))
        assert [event.operation for event in world.of(StoreFailed)] == [operation]
        assert not [event for event in world.of(Invalidated) if "group" in event.key]
        assert world.left_open() == []

    def test_what_the_origin_can_not_be_asked_for_is_not_served(self) -> None:
        world = self.world()
        self.invalidate(world, '"news"', URL + "news")
        world.replies = [OSError("no route")]
        with pytest.raises(OSError, match="no route"):
            world.ask()
        assert world.left_open() == []

    def test_a_304_keeps_it_in_its_group(self) -> None:
        world = World(document(b"old", cache_groups='"news"'))
        world.get()
        world.clock.advance(61)
        world.replies = [NOT_MODIFIED]
        assert world.get()[1].outcome is Outcome.REVALIDATED
        world.clock.advance(1)
        self.invalidate(world, '"news"', OTHER)
        assert world.get()[0] == b"new"
