"""Cache keys: RFC 9111 §2 and §4.1, with RFC 9110 §4.2.3 and RFC 3986 §6.2 on equal URIs."""

import pytest

from stillfresh.rfc9111.keys import (
    is_selected,
    primary_key,
    primary_of,
    variant_key,
    vary_names,
)
from tests.rfc9111.scenes import (
    SHARED,
    URL,
    conceal,
    fields,
    get,
    held,
    received,
    refreshed,
    response,
    selects,
    stored,
    table,
)


@pytest.mark.parametrize(
    ("url", "normal"),
    table(
        {
            "scheme and host in lower case": ("HTTP://Example.ORG/a", "http://example.org/a"),
            "the default port of http": ("http://example.org:80/a", "http://example.org/a"),
            "the default port of https": ("https://example.org:443/a", "https://example.org/a"),
            "an empty port": ("https://example.org:/a", "https://example.org/a"),
            "the greatest port": ("https://example.org:65535/a", "https://example.org:65535/a"),
            "zeros before a port": ("https://example.org:08443/a", "https://example.org:8443/a"),
            "an empty path": ("https://example.org", "https://example.org/"),
            "an empty path before a query": ("https://example.org?a", "https://example.org/?a"),
            "encoded letters": ("https://example.org/%61%7A", "https://example.org/az"),
            "encoded marks": ("https://example.org/%7Ea%2Db", "https://example.org/~a-b"),
            "digits of an encoding": ("https://example.org/%2f", "https://example.org/%2F"),
            "encoded letters of a query": ("https://example.org/?%61", "https://example.org/?a"),
            "dot segments": ("https://example.org/a/./b/../c", "https://example.org/a/c"),
            "dot segments at the end": ("https://example.org/a/b/..", "https://example.org/a/"),
            "dots above the root": ("https://example.org/../../a", "https://example.org/a"),
            "encoded dots": ("https://example.org/a/%2E%2e/b", "https://example.org/b"),
            "a fragment": ("https://example.org/a#b", "https://example.org/a"),
            "a fragment with a question mark": ("https://example.org/a#?", "https://example.org/a"),
            "userinfo": ("https://me:secret@example.org/a", "https://example.org/a"),
            "an IPv6 address": ("http://[2001:DB8::1]:80/", "http://[2001:db8::1]/"),
        }
    ),
)
def test_equal_uris_have_one_key(url: str, normal: str) -> None:
    assert primary_key(url) == primary_key(normal) == normal


@pytest.mark.parametrize(
    ("one", "other"),
    table(
        {
            "the case of a path": ("https://example.org/a", "https://example.org/A"),
            "a slash at the end": ("https://example.org/a", "https://example.org/a/"),
            "two slashes": ("https://example.org/a/b", "https://example.org/a//b"),
            "an encoded slash": ("https://example.org/a/b", "https://example.org/a%2Fb"),
            "an encoded question mark": ("https://example.org/a?b", "https://example.org/a%3Fb"),
            "an encoded percent sign": ("https://example.org/%61", "https://example.org/%2561"),
            "a plus and a space": ("https://example.org/?a+b", "https://example.org/?a%20b"),
            "an empty query": ("https://example.org/a", "https://example.org/a?"),
            "a query": ("https://example.org/?a", "https://example.org/?b"),
            "the order of a query": ("https://example.org/?a&b", "https://example.org/?b&a"),
            "dots in a query": ("https://example.org/?a/../b", "https://example.org/?b"),
            "the scheme": ("https://example.org/", "http://example.org/"),
            "the port": ("https://example.org/", "https://example.org:8443/"),
            "the other scheme's port": ("https://example.org:80/", "https://example.org/"),
            "the host": ("https://example.org/", "https://www.example.org/"),
        }
    ),
)
def test_different_uris_have_different_keys(one: str, other: str) -> None:
    assert primary_key(one) != primary_key(other)


@pytest.mark.parametrize(
    "url",
    table(
        {
            "nothing": "",
            "a path": "/a",
            "no scheme": "example.org/a",
            "no host": "https:///a",
            "only a scheme": "https://",
            "no authority": "mailto:me@example.org",
            "a port that is no number": "https://example.org:http/",
            "a port that is too large": "https://example.org:65536/",
            "an address left open": "https://[::1/",
        }
    ),
)
def test_what_is_no_absolute_uri_with_a_host_has_no_key(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        primary_key(url)


ENGLISH = (("accept-language", "en"),)
GERMAN = (("accept-language", "de"),)


def test_the_key_of_a_variant_leads_to_that_of_its_uri() -> None:
    key = variant_key(primary_key(URL), "1", ENGLISH)
    assert key != primary_key(URL)
    assert primary_of(key) == primary_key(URL)
    assert primary_of(primary_key(URL)) == primary_key(URL)


@pytest.mark.parametrize(
    ("one", "other"),
    table(
        {
            "another value": (("1", ENGLISH), ("1", GERMAN)),
            "another field": (("1", ENGLISH), ("1", (("accept", "en"),))),
            "an absent field": (("1", ENGLISH), ("1", (("accept-language", None),))),
            "an absent and an empty one": (
                ("1", (("accept-language", ""),)),
                ("1", (("accept-language", None),)),
            ),
            "no field": (("1", ENGLISH), ("1", ())),
            "one field more": (("1", ENGLISH), ("1", (*ENGLISH, ("cookie", None)))),
            "a value that looks like another field": (
                ("1", (("a", "1\nb=2"),)),
                ("1", (("a", "1"), ("b", "2"))),
            ),
            "another generation": (("1", ENGLISH), ("2", ENGLISH)),
        }
    ),
)
def test_variants_have_keys_of_their_own(
    one: tuple[str, tuple[tuple[str, str | None], ...]],
    other: tuple[str, tuple[tuple[str, str | None], ...]],
) -> None:
    key = primary_key(URL)
    assert variant_key(key, *one) != variant_key(key, *other)
    assert variant_key(key, *one) == variant_key(key, *one)


@pytest.mark.parametrize(
    ("lines", "names"),
    table(
        {
            "no Vary": ((), set()),
            "an empty one": (("Vary:",), set()),
            "names in lower case": (("Vary: Accept, ORIGIN",), {"accept", "origin"}),
            "several lines": (("Vary: Accept", "Vary: Origin"), {"accept", "origin"}),
            "anything": (("Vary: *",), {"*"}),
            "anything, among names": (("Vary: Accept, *",), {"accept", "*"}),
            "a quote hides no name": (('Vary: "', 'Vary: Accept, "'), {"accept", '"'}),
        }
    ),
)
def test_the_names_of_vary(lines: tuple[str, ...], names: set[str]) -> None:
    assert vary_names(fields(*lines)) == names


@pytest.mark.parametrize(
    ("vary", "original", "presented", "matches"),
    table(
        {
            "nothing is nominated": ([], ["Accept: a"], ["Accept: b"], True),
            "an empty Vary nominates nothing": (["Vary:"], ["Accept: a"], ["Accept: b"], True),
            "the same value": (["Vary: Accept"], ["Accept: a"], ["Accept: a"], True),
            "another value": (["Vary: Accept"], ["Accept: a"], ["Accept: b"], False),
            "the case of names": (["Vary: ACCEPT"], ["accept: a"], ["Accept: a"], True),
            "the case of values": (["Vary: Foo"], ["Foo: a"], ["Foo: A"], False),
            "absent from both": (["Vary: Accept"], [], [], True),
            "absent from the first": (["Vary: Accept"], [], ["Accept: a"], False),
            "absent from the second": (["Vary: Accept"], ["Accept: a"], [], False),
            "empty is not absent": (["Vary: Accept"], ["Accept:"], [], False),
            "absent is not empty": (["Vary: Accept"], [], ["Accept:"], False),
            "other fields do not count": (["Vary: Accept"], ["Foo: 1"], ["Foo: 2"], True),
            "all of several match": (
                ["Vary: Accept, Foo"],
                ["Accept: a", "Foo: 1"],
                ["Foo: 1", "Accept: a"],
                True,
            ),
            "one of several does not": (
                ["Vary: Accept, Foo"],
                ["Accept: a", "Foo: 1"],
                ["Accept: a", "Foo: 2"],
                False,
            ),
            "one of several is absent": (
                ["Vary: Accept, Foo"],
                ["Accept: a", "Foo: 1"],
                ["Accept: a"],
                False,
            ),
            "Vary on several lines": (
                ["Vary: Accept", "Vary: Foo"],
                ["Accept: a", "Foo: 1"],
                ["Accept: a", "Foo: 2"],
                False,
            ),
            "lines combined": (
                ["Vary: Accept-Language"],
                ["Accept-Language: en", "Accept-Language: de"],
                ["Accept-Language: en, de"],
                True,
            ),
            "lines of an unknown field combined": (
                ["Vary: Foo"],
                ["Foo: 1", "Foo: 2"],
                ["Foo: 1, 2"],
                True,
            ),
            "whitespace around a value": (["Vary: Foo"], ["Foo: 1"], ["Foo:   1 \t"], True),
            "whitespace where a list allows it": (
                ["Vary: Accept-Encoding"],
                ["Accept-Encoding: gzip,br"],
                ["Accept-Encoding: gzip , br"],
                True,
            ),
            "empty members of a list": (
                ["Vary: Accept-Encoding"],
                ["Accept-Encoding: gzip,br"],
                ["Accept-Encoding: gzip,, br,"],
                True,
            ),
            "whitespace in a string of a list": (
                ["Vary: Accept"],
                ['Accept: a;b="1,2"'],
                ['Accept: a;b="1, 2"'],
                False,
            ),
            "whitespace around a semicolon of a list": (
                ["Vary: Accept"],
                ["Accept: a;q=1,b"],
                ["Accept: a ; q=1,b"],
                True,
            ),
            "whitespace around a semicolon in a string": (
                ["Vary: Accept"],
                ['Accept: a;b="1;2"'],
                ['Accept: a;b="1 ; 2"'],
                False,
            ),
            "the case of languages": (
                ["Vary: Accept-Language"],
                ["Accept-Language: en-GB"],
                ["Accept-Language: EN-gb"],
                True,
            ),
            "the case of codings": (
                ["Vary: Accept-Encoding"],
                ["Accept-Encoding: gzip"],
                ["Accept-Encoding: GZip"],
                True,
            ),
            "the case of charsets": (
                ["Vary: Accept-Charset"],
                ["Accept-Charset: utf-8"],
                ["Accept-Charset: UTF-8"],
                True,
            ),
            "the case of media types' parameters": (
                ["Vary: Accept"],
                ["Accept: a/b;c=D"],
                ["Accept: a/b;c=d"],
                False,
            ),
            "the order of media types": (
                ["Vary: Accept"],
                ["Accept: a/b, c/d;q=0.5"],
                ["Accept: c/d;q=0.5, a/b"],
                True,
            ),
            "the order of languages": (
                ["Vary: Accept-Language"],
                ["Accept-Language: en, de;q=0.5"],
                ["Accept-Language: de;q=0.5, en"],
                True,
            ),
            "the order of languages of the same weight": (
                ["Vary: Accept-Language"],
                ["Accept-Language: en, de, fr;q=0.5"],
                ["Accept-Language: de, en, fr;q=0.5"],
                False,
            ),
            "the order of codings": (
                ["Vary: Accept-Encoding"],
                ["Accept-Encoding: gzip, br"],
                ["Accept-Encoding: br, gzip"],
                True,
            ),
            "the order of lines of a list": (
                ["Vary: Accept"],
                ["Accept: a/b", "Accept: c/d"],
                ["Accept: c/d", "Accept: a/b"],
                True,
            ),
            "another quality": (
                ["Vary: Accept-Language"],
                ["Accept-Language: en, de;q=0.5"],
                ["Accept-Language: en, de;q=0.6"],
                False,
            ),
            "another member": (
                ["Vary: Accept-Encoding"],
                ["Accept-Encoding: gzip"],
                ["Accept-Encoding: gzip, br"],
                False,
            ),
            "whitespace around the commas of an unknown field": (
                ["Vary: Foo"],
                ["Foo: 1,2"],
                ["Foo: 1 ,\t2"],
                True,
            ),
            "whitespace where an unknown field has strings": (
                ["Vary: Foo"],
                ['Foo: "1",2'],
                ['Foo: "1", 2'],
                False,
            ),
            "whitespace in a field that is no list": (
                ["Vary: User-Agent"],
                ["User-Agent: a (b, c)"],
                ["User-Agent: a (b,c)"],
                False,
            ),
            "a comma in a field of unknown syntax": (["Vary: Foo"], ["Foo: 1"], ["Foo: 1,"], False),
            "the order of members of an unknown field": (
                ["Vary: Foo"],
                ["Foo: 1, 2"],
                ["Foo: 2, 1"],
                False,
            ),
            "lines in another order": (
                ["Vary: Foo"],
                ["Foo: 1", "Foo: 2"],
                ["Foo: 2", "Foo: 1"],
                False,
            ),
        }
    ),
)
def test_a_request_selects_what_its_nominated_fields_match(
    vary: list[str], original: list[str], presented: list[str], matches: bool
) -> None:
    kept = stored(response("Cache-Control: max-age=60", *vary), get(*original))
    assert selects(get(*presented), kept) is matches


@pytest.mark.parametrize(
    "lines",
    table(
        {
            "alone": ["Vary: *"],
            "twice": ["Vary: *, *"],
            "after a name": ["Vary: Accept, *"],
            "before a name": ["Vary: *, Accept"],
            "on a second line": ["Vary:", "Vary: *"],
        }
    ),
)
def test_an_asterisk_never_matches_not_even_the_same_request(lines: list[str]) -> None:
    kept = held(response("Cache-Control: max-age=60", *lines), get("Accept: a", "*: 1"))
    assert not selects(get("Accept: a"), kept)
    assert not selects(get("Accept: a", "*: 1"), kept)
    assert not is_selected(kept, fields("Accept: a", "*: 1"), conceal, by_language=True)


@pytest.mark.parametrize(
    "vary", table({"another field": "Foo", "one more field": "Accept, Foo", "anything": "*"})
)
def test_a_304_may_nominate_fields_of_which_nothing_is_known(vary: str) -> None:
    kept = stored(response("Cache-Control: max-age=60", 'ETag: "1"', "Vary: Accept"), get("Foo: 1"))
    answer = received(response('ETag: "1"', f"Vary: {vary}", status=304), get("Foo: 1"), kept)
    assert not selects(get("Foo: 2"), refreshed(answer))


def test_a_304_may_nominate_fewer_fields() -> None:
    kept = stored(response("Cache-Control: max-age=60", 'ETag: "1"', "Vary: Accept, Foo"))
    answer = received(response('ETag: "1"', "Vary: Accept", status=304), get(), kept)
    assert selects(get(), refreshed(answer))


@pytest.mark.parametrize(
    ("one", "other"),
    table(
        {
            "another password": ("Basic YTpi", "Basic YTpj"),
            "another scheme": ("Basic abc", "Bearer abc"),
            "another case": ("Bearer abc", "Bearer ABC"),
            "a comma more": ("Bearer abc", "Bearer abc,"),
            "another space": ("Custom a,b", "Custom a, b"),
        }
    ),
)
def test_what_was_answered_to_credentials_is_for_nobody_else(one: str, other: str) -> None:
    kept = stored(response("Cache-Control: max-age=60"), get(f"Authorization: {one}"))
    assert selects(get(f"Authorization: {one}"), kept)
    assert not selects(get(f"Authorization: {other}"), kept)
    assert not selects(get(), kept)


def test_what_was_answered_to_nobody_is_not_for_somebody_with_credentials() -> None:
    kept = stored(response("Cache-Control: max-age=60"))
    assert not selects(get("Authorization: Basic YTpi"), kept)


@pytest.mark.parametrize("directive", ["public", "s-maxage=60", "must-revalidate"])
def test_a_shared_cache_may_be_told_that_a_response_is_for_everybody(directive: str) -> None:
    kept = stored(
        response(f"Cache-Control: max-age=60, {directive}"),
        get("Authorization: Basic YTpi"),
        policy=SHARED,
    )
    assert selects(get("Authorization: Basic YTpj"), kept)
    assert selects(get(), kept)


def test_a_private_response_is_for_the_cookies_that_it_was_given_to() -> None:
    kept = stored(response("Cache-Control: private, max-age=60"), get("Cookie: session=1"))
    assert selects(get("Cookie: session=1"), kept)
    assert not selects(get("Cookie: session=2"), kept)
    assert not selects(get("Cookie: session=1,"), kept)
    assert not selects(get(), kept)


def test_cookies_do_not_matter_otherwise() -> None:
    kept = stored(response("Cache-Control: max-age=60"), get("Cookie: session=1"))
    assert selects(get("Cookie: session=2"), kept)


def test_of_a_credential_nothing_is_kept_but_what_conceals_it() -> None:
    secret = get("Authorization: Bearer open-sesame", "Accept: a")
    kept = stored(response("Cache-Control: max-age=60", "Vary: Accept, Authorization"), secret)
    assert dict(kept.selection) == {
        "accept": "a",
        "authorization": conceal("authorization", "Bearer open-sesame"),
    }


# Beyond §4.1, where the user wants it: a response in the language that a request wants most.


def in_language(content_language: list[str], *lines: str, vary: str = "Accept-Language") -> bool:
    """Tell whether a request selects what was stored for one that wanted Esperanto."""
    kept = stored(
        response("Cache-Control: max-age=60", f"Vary: {vary}", *content_language),
        get("Accept-Language: eo", "X: 1"),
    )
    request = get("X: 1", *lines)
    assert not selects(request, kept)
    return is_selected(kept, request.fields, conceal, by_language=True)


@pytest.mark.parametrize(
    ("accept", "matches"),
    table(
        {
            "it alone": ("de", True),
            "it alone, with a weight": ("de;q=0.3", True),
            "it in another case": ("DE", True),
            "it most": ("en;q=0.8, de;q=0.9", True),
            "it most, with space around": ("en ; q=0.8 , de ; q=0.9", True),
            "it before anything": ("de, *;q=0.1", True),
            "it as much as another": ("de, en", False),
            "another more": ("en, de;q=0.9", False),
            "anything as much": ("de, *", False),
            "anything": ("*", False),
            "not it": ("de;q=0", False),
            "one of its regions": ("de-AT", False),
            "nothing": ("", False),
            "with a weight that is none": ("de;q=a", False),
            "with a weight that is too large": ("de;q=1.5", False),
            "another, with a weight that is none": ("de, en;q=high", False),
            "with what is no weight": ("de;level=1", False),
        }
    ),
)
def test_a_response_may_be_for_all_who_want_its_language(accept: str, matches: bool) -> None:
    assert in_language(["Content-Language: de"], f"Accept-Language: {accept}") is matches


@pytest.mark.parametrize(
    ("content_language", "accept", "matches"),
    table(
        {
            "in another case": (["Content-Language: DE"], "de", True),
            "in two languages": (["Content-Language: de, en"], "de", False),
            "in nobody knows which": ([], "de", False),
            "in nobody knows which, for who says none": ([], ";q=1", False),
        }
    ),
)
def test_it_has_to_say_which_that_is(
    content_language: list[str], accept: str, matches: bool
) -> None:
    assert in_language(content_language, f"Accept-Language: {accept}") is matches


def test_who_wants_no_language_wants_none_most() -> None:
    assert not in_language(["Content-Language: de"])


def test_all_else_that_selects_it_has_to_match() -> None:
    german = ["Content-Language: de"]
    assert in_language(german, "Accept-Language: de", vary="Accept-Language, X")
    assert not in_language(german, "Accept-Language: de", "X: 2", vary="Accept-Language, X")
    assert not in_language(german, "Accept-Language: de", "Authorization: Basic YTpi")
