"""Cache groups: RFC 9875."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillfresh.rfc9111.groups import MAX_GROUPS, cache_groups, group_key, invalidated_groups
from stillfresh.rfc9111.keys import primary_key, primary_of, variant_key
from tests.rfc9111.scenes import URL, fields, get, response, table

LISTS = table(
    {
        "no field": ((), set()),
        "an empty one": (("",), set()),
        "one group": (('"scripts"',), {"scripts"}),
        "several": (('"scripts", "styles"',), {"scripts", "styles"}),
        "several lines": (('"scripts"', '"styles"'), {"scripts", "styles"}),
        "one that comes twice": (('"a", "a"',), {"a"}),
        "names in another case are other names": (('"a", "A"',), {"a", "A"}),
        "an empty name": (('""',), {""}),
        "a comma in a name": (('"a, b"',), {"a, b"}),
        "quotes in a name": ((r'"\"a\""',), {'"a"'}),
        "parameters": (('"a";b=1, "c";d',), {"a", "c"}),
        "a token makes all of it invalid": (('"a", b',), set()),
        "a number does": (('"a", 1',), set()),
        "an inner list does": (('"a", ("b")',), set()),
        "a display string does": (('"a", %"b"',), set()),
        "a line of another type does": (('"a"', "b"), set()),
        "a line without members does": (('"a"', ""), set()),
        "a comma at the end does": (('"a",',), set()),
        "a name that is not ASCII does": (('"a", "é"',), set()),
    }
)


@pytest.mark.parametrize(("values", "groups"), LISTS)
def test_a_response_belongs_to_the_groups_that_it_lists(
    values: tuple[str, ...], groups: set[str]
) -> None:
    assert cache_groups(fields(*(f"Cache-Groups: {value}" for value in values))) == groups


@pytest.mark.parametrize(("values", "groups"), LISTS)
def test_a_response_to_an_unsafe_method_invalidates_the_groups_that_it_lists(
    values: tuple[str, ...], groups: set[str]
) -> None:
    said = response(*(f"Cache-Group-Invalidation: {value}" for value in values))
    assert invalidated_groups(get(method="POST"), said) == groups


def test_to_belong_is_one_thing_and_to_invalidate_another() -> None:
    said = response('Cache-Groups: "a"', 'Cache-Group-Invalidation: "b"')
    assert cache_groups(said.fields) == {"a"}
    assert invalidated_groups(get(method="POST"), said) == {"b"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"])
def test_a_response_to_a_safe_method_invalidates_no_group(method: str) -> None:
    assert not invalidated_groups(get(method=method), response('Cache-Group-Invalidation: "a"'))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "FOO", "get"])
@pytest.mark.parametrize("status", [200, 204, 303, 400, 404, 409, 500, 503])
def test_any_status_does_where_the_method_is_unsafe_or_unknown(method: str, status: int) -> None:
    said = response('Cache-Group-Invalidation: "a"', status=status)
    assert invalidated_groups(get(method=method), said) == {"a"}


def test_only_so_many_groups_count() -> None:
    names = [f"{'g' * 28}{number:04}" for number in range(MAX_GROUPS + 1)]
    value = ", ".join(f'"{name}"' for name in names)
    said = response(f"Cache-Groups: {value}", f"Cache-Group-Invalidation: {value}")
    assert cache_groups(said.fields) == set(names[:-1])
    assert invalidated_groups(get(method="POST"), said) == set(names[:-1])


def test_members_beyond_those_that_count_still_have_to_be_strings() -> None:
    value = ", ".join(['"a"'] * MAX_GROUPS)
    assert cache_groups(fields(f"Cache-Groups: {value}, 1")) == set()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    table(
        {
            "the same URI": ("https://example.org/a", "https://example.org/a", True),
            "another path": ("https://example.org/a", "https://example.org/b/c", True),
            "the root": ("https://example.org/a", "https://example.org", True),
            "a query": ("https://example.org/a", "https://example.org?a=https://b/", True),
            "the case of a host": ("https://example.org/a", "https://Example.ORG/a", True),
            "the default port": ("https://example.org/a", "https://example.org:443/a", True),
            "userinfo": ("https://example.org/a", "https://me@example.org/a", True),
            "another host": ("https://example.org/a", "https://www.example.org/a", False),
            "another port": ("https://example.org/a", "https://example.org:8443/a", False),
            "another scheme": ("https://example.org/a", "http://example.org/a", False),
            "another address": ("https://[::1]/a", "https://[::2]/a", False),
            "the same address": ("https://[::1]:8443/a", "https://[::1]:8443/b", True),
        }
    ),
)
def test_a_group_is_one_within_its_origin(one: str, other: str, same: bool) -> None:
    keys = [group_key(primary_key(url), "a") for url in (one, other)]
    assert (keys[0] == keys[1]) is same


@pytest.mark.parametrize(
    ("one", "other"),
    table(
        {
            "another name": ("a", "b"),
            "another case": ("a", "A"),
            "no name": ("a", ""),
            "a name that goes on": ("a", "a, b"),
            "a character that is not ASCII": ("e", "é"),
            "a lone surrogate": ("\udc80", "\udc81"),
        }
    ),
)
def test_groups_have_keys_of_their_own(one: str, other: str) -> None:
    assert group_key(URL, one) != group_key(URL, other)
    assert group_key(URL, one) == group_key(URL, one)


@given(st.text())
@example("#variant=0")
def test_the_key_of_a_group_is_that_of_nothing_else(group: str) -> None:
    key = group_key(URL, group)
    assert "#" in key
    assert primary_key(key) != key
    assert not key.startswith(variant_key(primary_of(key), "", ()).partition("=")[0])
    assert key.isascii()
    assert key.isprintable()


@given(
    st.text(max_size=20) | st.lists(st.sampled_from(['"', "a", ",", ";", "\\", "é"])).map("".join)
)
def test_no_value_raises(value: str) -> None:
    said = response(f"Cache-Groups: {value}", f"Cache-Group-Invalidation: {value}")
    assert cache_groups(said.fields) == invalidated_groups(get(method="POST"), said)
