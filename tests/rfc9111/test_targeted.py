"""Fields that speak to some caches in the place of Cache-Control: RFC 9213."""

import pytest

from stillfresh.rfc9111.directives import ResponseDirectives, response_directives
from stillfresh.rfc9111.policy import Policy
from tests.rfc9111.scenes import (
    PRIVATE,
    SHARED,
    asked,
    date,
    fields,
    get,
    held,
    is_served,
    is_stored,
    received,
    refreshed,
    response,
    stored,
    table,
)

CDN = ("cdn-cache-control",)
MODIFIED = f"Last-Modified: {date(-1000)}"


def targeted(**said: object) -> ResponseDirectives:
    return ResponseDirectives(targeted=True, **said)  # type: ignore[arg-type]


# §2.1: the syntax is that of a Dictionary.


@pytest.mark.parametrize(
    ("value", "said"),
    table(
        {
            "max-age": ("max-age=60", targeted(max_age=60)),
            "a number beyond counting": (f"max-age={'9' * 15}", targeted(max_age=2**31)),
            "several": (
                "max-age=60, must-revalidate,no-store",
                targeted(max_age=60, must_revalidate=True, no_store=True),
            ),
            "true at length": ("public=?1", targeted(public=True)),
            "false": ("no-store=?0, max-age=60", targeted(max_age=60)),
            "fields": (
                'no-cache="Set-Cookie, X", private="Y"',
                targeted(
                    no_cache_fields=frozenset({"set-cookie", "x"}), private_fields=frozenset({"y"})
                ),
            ),
            "the last of a name": ("max-age=5, max-age=60", targeted(max_age=60)),
            "parameters, which mean nothing": (
                "max-age=60;a=1, public;b",
                targeted(max_age=60, public=True),
            ),
            "an extension": ("foo, bar=(1 2), max-age=60", targeted(max_age=60)),
            "nothing but an extension": ("foo", targeted()),
            "stale extensions": (
                "stale-while-revalidate=5, stale-if-error=6, immutable",
                targeted(stale_while_revalidate=5, stale_if_error=6, immutable=True),
            ),
        }
    ),
)
def test_a_targeted_field_is_a_dictionary_of_directives(
    value: str, said: ResponseDirectives
) -> None:
    lines = fields(f"CDN-Cache-Control: {value}", "Cache-Control: no-cache, max-age=1")
    assert response_directives(lines, CDN) == said


@pytest.mark.parametrize(
    "value",
    table(
        {
            "a number for what has no argument": "public=1, immutable=0",
            "what is false": "no-store=?0, private=?0, public=?0",
            "a grant of another type": "stale-while-revalidate=1.5, stale-if-error=-1",
        }
    ),
)
def test_a_grant_of_another_type_grants_nothing(value: str) -> None:
    assert response_directives(fields(f"CDN-Cache-Control: {value}"), CDN) == targeted()


@pytest.mark.parametrize(
    "value",
    table(
        {
            "a decimal": "max-age=60.0",
            "a negative number": "max-age=-1",
            "a token": "max-age=abc",
            "a list": "max-age=(60)",
            "a date": "max-age=@60",
            "nothing": "max-age",
            "what is false": "max-age=?0",
            "a text": 'max-age="soon"',
        }
    ),
)
def test_a_time_that_can_not_be_right_is_none(value: str) -> None:
    # Beside it Cache-Control says nothing, so that a guess would take its place.
    lines = fields(f"CDN-Cache-Control: {value}", "Cache-Control: no-store, max-age=60")
    assert response_directives(lines, CDN) == targeted(max_age=0)


def test_a_number_in_a_string_is_one() -> None:
    assert response_directives(fields('CDN-Cache-Control: max-age="60"'), CDN) == targeted(
        max_age=60
    )


@pytest.mark.parametrize(
    ("value", "said"),
    table(
        {
            "a number": ("no-store=1", targeted(no_store=True)),
            "a string": ('must-revalidate="x"', targeted(must_revalidate=True)),
            "bytes for fields": ("private=:YTpi:", targeted(private=True)),
        }
    ),
)
def test_what_restricts_does_so_whatever_it_is_given(value: str, said: ResponseDirectives) -> None:
    assert response_directives(fields(f"CDN-Cache-Control: {value}"), CDN) == said


@pytest.mark.parametrize(
    "value",
    table(
        {
            "nothing": "",
            "spaces": "  ",
            "a comma at the end": "max-age=60,",
            "capitals": "Max-Age=60",
            "a space before the equals sign": "max-age =60",
            "a space after it": "max-age= 60",
            "what is no value": "max-age=60, &&&",
            "a string left open": 'max-age=60, private="x',
            "what is not ASCII": "max-age=60, é",
        }
    ),
)
def test_a_field_that_is_invalid_or_empty_is_as_if_it_were_not_there(value: str) -> None:
    lines = fields(f"CDN-Cache-Control: {value}", "Cache-Control: no-cache")
    assert response_directives(lines, CDN) == ResponseDirectives(no_cache=True)


def test_lines_of_it_are_one_dictionary() -> None:
    lines = fields("CDN-Cache-Control: max-age=60", "cdn-cache-control: public")
    assert response_directives(lines, CDN) == targeted(max_age=60, public=True)


# §2.2: which field speaks.


@pytest.mark.parametrize(
    ("lines", "seconds"),
    table(
        {
            "the first of the list": (["A-CC: max-age=1", "B-CC: max-age=2"], 1),
            "whatever their order": (["B-CC: max-age=2", "A-CC: max-age=1"], 1),
            "the second, where there is no first": (["B-CC: max-age=2"], 2),
            "the second, where the first is empty": (["A-CC:", "B-CC: max-age=2"], 2),
            "the second, where the first is invalid": (["A-CC: x y", "B-CC: max-age=2"], 2),
            "Cache-Control, where there is none": (["Cache-Control: max-age=3"], 3),
            "not one that isn't listed": (
                ["CDN-Cache-Control: max-age=4", "Cache-Control: max-age=3"],
                3,
            ),
        }
    ),
)
@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_the_user_says_which_fields_speak_to_this_cache(
    lines: list[str], seconds: float, shared: bool
) -> None:
    policy = Policy(shared=shared, targets=("A-CC", "b-cc"))
    assert policy.lifetime(get(), held(response(*lines))).seconds == seconds


def test_to_a_shared_cache_it_is_the_one_for_cdns_unless_the_user_says_otherwise() -> None:
    kept = held(response("CDN-Cache-Control: max-age=60", "Cache-Control: max-age=5"))
    assert SHARED.lifetime(get(), kept).seconds == 60
    assert Policy(shared=True, targets=()).lifetime(get(), kept).seconds == 5


def test_to_a_private_cache_it_is_none() -> None:
    kept = held(response("CDN-Cache-Control: max-age=60", "Cache-Control: max-age=5"))
    assert PRIVATE.lifetime(get(), kept).seconds == 5
    assert is_stored(received(response("CDN-Cache-Control: no-store", "Cache-Control: max-age=5")))


@pytest.mark.parametrize(
    ("lines", "seconds"),
    table(
        {
            "max-age": (["Cache-Control: max-age=5"], 60),
            "s-maxage": (["Cache-Control: s-maxage=5"], 60),
            "Expires": ([f"Expires: {date(5)}"], 60),
            "an Expires that can't be right": (["Expires: 0"], 60),
        }
    ),
)
def test_what_it_says_counts_in_the_place_of(lines: list[str], seconds: float) -> None:
    kept = held(response("CDN-Cache-Control: max-age=60", *lines))
    assert SHARED.lifetime(get(), kept).seconds == seconds


@pytest.mark.parametrize(
    ("lines", "seconds"),
    table(
        {
            "max-age": (["Cache-Control: max-age=5"], 0),
            "Expires": ([f"Expires: {date(5)}"], 0),
            "but not what a heuristic goes by": ([MODIFIED], 100),
            "so that a heuristic goes instead of Expires": ([MODIFIED, f"Expires: {date(5)}"], 100),
        }
    ),
)
def test_what_it_does_not_say_nobody_says(lines: list[str], seconds: float) -> None:
    kept = held(response("CDN-Cache-Control: must-revalidate", *lines))
    assert SHARED.lifetime(get(), kept).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("cdn", "others", "allowed"),
    table(
        {
            "no-store elsewhere": ("max-age=60", ["Cache-Control: no-store"], True),
            "private elsewhere": ("max-age=60", ["Cache-Control: private"], True),
            "no-store here": ("no-store", ["Cache-Control: max-age=60"], False),
            "private here": ("private", ["Cache-Control: max-age=60"], False),
            "nothing here, freshness elsewhere": ("foo", ["Cache-Control: max-age=60"], False),
            "nothing here, Expires elsewhere": ("foo", [f"Expires: {date(60)}"], False),
        }
    ),
)
def test_whether_to_store_is_its_to_say(cdn: str, others: list[str], allowed: bool) -> None:
    # Of a status that has to be allowed.
    said = response(f"CDN-Cache-Control: {cdn}", *others, 'ETag: "1"', status=302)
    assert is_stored(received(said, policy=SHARED)) is allowed


@pytest.mark.parametrize(
    ("cdn", "value", "served"),
    table(
        {
            "no-cache here": ("max-age=60, no-cache", "max-age=60", False),
            "no-cache elsewhere": ("max-age=60", "no-cache", True),
            "stale-while-revalidate here": (
                "max-age=0, stale-while-revalidate=5",
                "must-revalidate",
                True,
            ),
            "stale-while-revalidate elsewhere": (
                "max-age=0",
                "max-age=60, stale-while-revalidate=5",
                False,
            ),
        }
    ),
)
def test_whether_to_serve_is_too(cdn: str, value: str, served: bool) -> None:
    kept = held(response(f"CDN-Cache-Control: {cdn}", f"Cache-Control: {value}"))
    assert is_served(asked(get(), kept, policy=SHARED)) is served


def test_whether_credentials_may_be_shared_is_too() -> None:
    request = get("Authorization: Basic YTpi")
    for cdn, value, shared in (
        ("public, max-age=60", "max-age=60", True),
        ("max-age=60", "public, max-age=60", False),
    ):
        said = response(f"CDN-Cache-Control: {cdn}", f"Cache-Control: {value}")
        assert is_stored(received(said, request, policy=SHARED)) is shared


def test_it_is_stored_with_the_response_and_changed_by_a_304() -> None:
    kept = stored(response("CDN-Cache-Control: max-age=60", 'ETag: "1"'), policy=SHARED)
    said = response("CDN-Cache-Control: max-age=90", 'ETag: "1"', status=304)
    again = refreshed(received(said, get(), kept, policy=SHARED))
    assert SHARED.lifetime(get(), again).seconds == 90
