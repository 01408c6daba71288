"""Cache-Control and Pragma as they are read: RFC 9111 §1.2.2, §5.2, §5.4."""

import pytest

from stillfresh.rfc9111.directives import (
    MAX_DELTA,
    RequestDirectives,
    ResponseDirectives,
    delta_seconds,
    request_directives,
    response_directives,
)
from tests.rfc9111.scenes import fields, table


def of_request(value: str) -> RequestDirectives:
    return request_directives(fields(f"Cache-Control: {value}"))


def of_response(value: str) -> ResponseDirectives:
    return response_directives(fields(f"Cache-Control: {value}"))


@pytest.mark.parametrize(
    ("argument", "seconds"),
    table(
        {
            "a number": ("60", 60),
            "zero": ("0", 0),
            "leading zeros": ("003600", 3600),
            "the largest": (str(2**31), 2**31),
            "one less": (str(2**31 - 1), 2**31 - 1),
            "one more": (str(2**31 + 1), 2**31),
            "far more": ("9" * 10_000, 2**31),
            "zeros that add up to nothing": ("0" * 10_000 + "7", 7),
            "no argument": (None, None),
            "an empty one": ("", None),
            "negative": ("-1", None),
            "signed": ("+1", None),
            "a fraction": ("1.5", None),
            "a fraction of nothing": ("60.0", None),
            "text": ("abc", None),
            "text at its end": ("60s", None),
            "in single quotes": ("'60'", None),
            "inner space": ("6 0", None),
            "an underscore": ("6_0", None),
            "digits that are not ASCII": ("٦٠", None),
            "a superscript": ("6²", None),
        }
    ),
)
def test_delta_seconds(argument: str | None, seconds: int | None) -> None:
    assert delta_seconds(argument) == seconds


def test_infinity_is_the_number_of_the_rfc() -> None:
    assert MAX_DELTA == 2_147_483_648


@pytest.mark.parametrize(
    ("value", "read"),
    table(
        {
            "max-age": ("max-age=60", RequestDirectives(max_age=60)),
            "max-stale": ("max-stale=60", RequestDirectives(max_stale=60)),
            "max-stale of any age": ("max-stale", RequestDirectives(max_stale=MAX_DELTA)),
            "min-fresh": ("min-fresh=60", RequestDirectives(min_fresh=60)),
            "no-cache": ("no-cache", RequestDirectives(no_cache=True)),
            "no-store": ("no-store", RequestDirectives(no_store=True)),
            "no-transform": ("no-transform", RequestDirectives(no_transform=True)),
            "only-if-cached": ("only-if-cached", RequestDirectives(only_if_cached=True)),
            "several": (
                "max-age=0, max-stale=5,no-store",
                RequestDirectives(max_age=0, max_stale=5, no_store=True),
            ),
            "response directives mean nothing here": (
                "must-revalidate, s-maxage=5, private, public",
                RequestDirectives(),
            ),
        }
    ),
)
def test_the_directives_of_a_request(value: str, read: RequestDirectives) -> None:
    assert of_request(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    table(
        {
            "max-age": ("max-age=60", ResponseDirectives(max_age=60)),
            "s-maxage": ("s-maxage=60", ResponseDirectives(s_maxage=60)),
            "must-revalidate": ("must-revalidate", ResponseDirectives(must_revalidate=True)),
            "must-understand": ("must-understand", ResponseDirectives(must_understand=True)),
            "no-cache": ("no-cache", ResponseDirectives(no_cache=True)),
            "no-store": ("no-store", ResponseDirectives(no_store=True)),
            "no-transform": ("no-transform", ResponseDirectives(no_transform=True)),
            "private": ("private", ResponseDirectives(private=True)),
            "proxy-revalidate": ("proxy-revalidate", ResponseDirectives(proxy_revalidate=True)),
            "public": ("public", ResponseDirectives(public=True)),
            "immutable": ("immutable", ResponseDirectives(immutable=True)),
            "several": (
                "public,max-age=60 , must-revalidate",
                ResponseDirectives(public=True, max_age=60, must_revalidate=True),
            ),
            "request directives mean nothing here": (
                "max-stale, min-fresh=5, only-if-cached",
                ResponseDirectives(),
            ),
        }
    ),
)
def test_the_directives_of_a_response(value: str, read: ResponseDirectives) -> None:
    assert of_response(value) == read


@pytest.mark.parametrize(
    ("value", "plain"),
    table(
        {
            "names in any case": ("Max-Age=60, NO-CACHE", "max-age=60, no-cache"),
            "a quoted argument": ('max-age="60"', "max-age=60"),
            "a quoted argument with quoted pairs": (r'max-age="\6\0"', "max-age=60"),
            "empty members": (",, max-age=60 ,,", "max-age=60"),
            "the same twice": ("max-age=60, max-age=60", "max-age=60"),
            "once quoted and once not": ('max-age=60, max-age="60"', "max-age=60"),
            "unknown directives": ("max-age=60, foo, bar=1, baz='x'", "max-age=60"),
            "an unknown directive about a known one": (
                'max-age=60, foo="max-age=1, no-store"',
                "max-age=60",
            ),
            "unknown names that begin like known ones": (
                "max-age=60, no-cached, no-stores, xprivate",
                "max-age=60",
            ),
            "the RFC's example of an extension": ('private, community="UCI"', "private"),
        }
    ),
)
def test_values_that_say_the_same_are_read_the_same(value: str, plain: str) -> None:
    assert of_response(value) == of_response(plain)
    assert of_request(value) == of_request(plain)


def test_lines_of_cache_control_are_one_list() -> None:
    lines = fields("Cache-Control: max-age=60", "X: no-store", "cache-control: no-cache")
    assert response_directives(lines) == ResponseDirectives(max_age=60, no_cache=True)


def test_no_cache_control_says_nothing() -> None:
    assert response_directives(fields()) == of_response("") == ResponseDirectives()
    assert request_directives(fields()) == RequestDirectives()


@pytest.mark.parametrize(
    "lines",
    table(
        {
            "behind it": (['foo="bar, no-store'],),
            "behind an empty string that is open": (['foo=", no-store'],),
            "between it and a string that is whole": (['foo="bar, no-store, baz="x"'],),
            "between two of them": (['foo="bar, no-store, baz="x'],),
            "on the next line": (['foo="bar', "no-store"],),
            "on the next line, before another": (['foo="bar', 'no-store, baz="'],),
            "between lines with one each": (['foo="', "no-store", '"'],),
        }
    ),
)
def test_a_quote_left_open_hides_no_directive(lines: list[str]) -> None:
    written = fields(*(f"Cache-Control: {line}" for line in lines))
    assert response_directives(written).no_store
    assert request_directives(written).no_store


@pytest.mark.parametrize(
    "value",
    table(
        {
            "without an argument": "max-age",
            "with an empty argument": "max-age=",
            "with an empty string": 'max-age=""',
            "with text": "max-age=abc",
            "with a number and text": "max-age=60s",
            "negative": "max-age=-1",
            "a fraction": "max-age=60.5",
            "in single quotes": "max-age='60'",
            "in a string that is left open": 'max-age="60',
            "two different ones, the shorter first": "max-age=1, max-age=60",
            "two different ones, the longer first": "max-age=60, max-age=1",
            "a good and a bad one": "max-age=60, max-age=abc",
        }
    ),
)
def test_a_lifetime_that_cannot_be_right_counts_as_stale(value: str) -> None:
    shared = value.replace("max-age", "s-maxage")
    assert of_response(value).max_age == 0
    assert of_response(shared).s_maxage == 0


@pytest.mark.parametrize(
    "value",
    table(
        {
            "without an argument": "max-age",
            "with text": "max-age=abc",
            "two different ones": "max-age=1, max-age=60",
        }
    ),
)
def test_a_request_with_a_doubtful_max_age_gets_the_fresher_answer(value: str) -> None:
    assert of_request(value).max_age == 0


@pytest.mark.parametrize(
    "value",
    table(
        {
            "with an empty argument": "max-stale=",
            "with text": "max-stale=abc",
            "negative": "max-stale=-1",
            "two different ones": "max-stale=5, max-stale=60",
            "with and without an argument": "max-stale, max-stale=5",
        }
    ),
)
def test_a_doubtful_max_stale_is_no_consent(value: str) -> None:
    assert of_request(value).max_stale is None


@pytest.mark.parametrize(
    "value",
    table(
        {
            "without an argument": "min-fresh",
            "with text": "min-fresh=abc",
            "two different ones": "min-fresh=5, min-fresh=60",
        }
    ),
)
def test_a_doubtful_min_fresh_is_met_by_nothing_stored(value: str) -> None:
    assert of_request(value).min_fresh == MAX_DELTA


@pytest.mark.parametrize(
    ("argument", "names"),
    table(
        {
            "one name": ('"Set-Cookie"', {"set-cookie"}),
            "several": ('"Set-Cookie, X-User,Foo"', {"set-cookie", "x-user", "foo"}),
            "as a token": ("Set-Cookie", {"set-cookie"}),
            "with empty members": ('", Set-Cookie, ,"', {"set-cookie"}),
        }
    ),
)
def test_no_cache_and_private_can_be_about_fields_only(argument: str, names: set[str]) -> None:
    said = of_response(f"no-cache={argument}, private={argument}")
    assert not said.no_cache
    assert said.no_cache_fields == names
    assert not said.private
    assert said.private_fields == names


@pytest.mark.parametrize(
    "value",
    table(
        {
            "without an argument": "{}",
            "an empty argument": "{}=",
            "an empty string": '{}=""',
            "a list of nothing": '{}=" , "',
            "a string that is left open": '{}="Set-Cookie',
            "an open string of nothing": '{}="',
            "what is no field name": '{}="Set Cookie"',
            "a field name and what is none": '{}="X-User, (Foo)"',
            "with and without field names": '{0}="X-User", {0}',
            "without and with field names": '{0}, {0}="X-User"',
        }
    ),
)
def test_otherwise_they_are_about_the_response(value: str) -> None:
    assert of_response(value.format("no-cache")).no_cache
    assert of_response(value.format("private")).private


@pytest.mark.parametrize(
    "value",
    table({"a token": "no-store=1", "a string": 'no-store="x"', "nothing": "no-store="}),
)
def test_an_argument_where_none_is_defined_takes_nothing_away(value: str) -> None:
    assert of_response(value).no_store
    assert of_request(value).no_store


@pytest.mark.parametrize(
    ("lines", "no_cache"),
    table(
        {
            "no-cache": (("Pragma: no-cache",), True),
            "in any case, among others": (("Pragma: foo, No-Cache",), True),
            "anything else": (("Pragma: foo",), False),
            "beside a Cache-Control that says otherwise": (
                ("Pragma: no-cache", "Cache-Control: max-age=60"),
                False,
            ),
        }
    ),
)
def test_pragma_stands_in_for_cache_control_in_a_request(
    lines: tuple[str, ...], no_cache: bool
) -> None:
    assert request_directives(fields(*lines)).no_cache is no_cache


def test_pragma_in_a_response_means_nothing() -> None:
    assert response_directives(fields("Pragma: no-cache")) == ResponseDirectives()


@pytest.mark.parametrize("name", ["Content-Encoding", "content-type", "Content-Range"])
def test_what_the_body_can_not_be_read_without_qualifies_nothing(name: str) -> None:
    said = response_directives(fields(f'Cache-Control: no-cache="{name}", private="{name}"'))
    assert said.no_cache
    assert said.private
