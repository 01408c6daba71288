"""No-Vary-Search: draft-ietf-httpbis-no-vary-search."""

from collections import defaultdict
from random import Random
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillfresh.rfc9111.keys import primary_key, search_key
from stillfresh.rfc9111.search import SearchVariance, reduced, search_variance
from tests.rfc9111.scenes import fields, table

ROOT = "https://example.org/"
NOTHING: frozenset[str] = frozenset()


def ignoring(*names: str, ordered: bool = True) -> SearchVariance:
    return SearchVariance(frozenset(names), NOTHING, ordered)


def keeping(*names: str, ordered: bool = True) -> SearchVariance:
    return SearchVariance(None, frozenset(names), ordered)


UNORDERED = ignoring(ordered=False)


@pytest.mark.parametrize(
    ("value", "variance"),
    table(
        {
            "the order": ("key-order", UNORDERED),
            "the order, at length": ("key-order=?1", UNORDERED),
            "one parameter": ('params=("a")', ignoring("a")),
            "several": ('params=("a" "b")', ignoring("a", "b")),
            "all": ("params", keeping()),
            "all, at length": ("params=?1", keeping()),
            "all but one": ('params, except=("x")', keeping("x")),
            "all but none": ("params, except=()", keeping()),
            "members in another order": ('except=("x"), params', keeping("x")),
            "all but one, by the latest draft": ('except=("x")', keeping("x")),
            "all but none, by the latest draft": ("except=()", keeping()),
            "the order and all but one, by the latest draft": (
                'key-order, except=("x")',
                keeping("x", ordered=False),
            ),
            "the order and one parameter": (
                'key-order, params=("a")',
                ignoring("a", ordered=False),
            ),
            "the order and all but one": (
                'params, key-order, except=("x")',
                keeping("x", ordered=False),
            ),
            "the order, and no parameter": ("key-order, params=?0", UNORDERED),
            "unknown members do not count": ('params=("a"), foo, bar=(1 2)', ignoring("a")),
            "nor do parameters": (
                'key-order;a, params=("a";b "c");d=1',
                ignoring("a", "c", ordered=False),
            ),
            "the last member of a name counts": ('params=("a"), params=("b")', ignoring("b")),
            "also after an invalid one": ("key-order=1, key-order", UNORDERED),
            "an encoded name": ('params=("%61")', ignoring("a")),
            "a plus sign is a space": ('params=("a+b")', ignoring("a b")),
            "an encoded plus sign is none": ('params=("a%2Bb")', ignoring("a+b")),
            "names are in UTF-8": ('params=("%C3%A9+%E6%B0%97")', ignoring("é 気")),
            "bytes that are not": ('params=("%f6")', ignoring("\ufffd")),
            "a percent sign that encodes nothing": (
                'params=("100%" "%zz")',
                ignoring("100%", "%zz"),
            ),
            "an empty name": ('params=("")', ignoring("")),
            "what separates elsewhere is in a name": ('params=("a=b&c")', ignoring("a=b&c")),
        }
    ),
)
def test_the_field_says_what_does_not_matter(value: str, variance: SearchVariance) -> None:
    assert search_variance(value) == variance


@pytest.mark.parametrize(
    "value",
    table(
        {
            "no field": None,
            "an empty one": "",
            "spaces": "  ",
            "an unknown member": "unknown-key",
            "the order matters": "key-order=?0",
            "all parameters matter": "params=?0",
            "no parameter is ignored": "params=()",
            "all of these": "key-order=?0, params=()",
        }
    ),
)
def test_a_field_may_say_nothing_new(value: str | None) -> None:
    assert search_variance(value) is None


@pytest.mark.parametrize(
    "value",
    table(
        {
            "no dictionary": '("a")',
            "a member that fails to parse": 'params=("a"), b=!',
            "a comma at the end": "params,",
            "a capital": "Params",
            "a string for the order": 'key-order="a"',
            "a number for the order": "key-order=1",
            "a token for the order": "key-order=true",
            "a list for the order": 'key-order=("a")',
            "a string for the parameters": 'params="a"',
            "a token for the parameters": "params=a",
            "a number for the parameters": "params=1",
            "a token among the parameters": 'params=("a" b)',
            "a display string among the parameters": 'params=(%"a")',
            "a token among the exceptions": "params, except=(x)",
            "a string for the exceptions": 'params, except="x"',
            "a boolean for the exceptions": "params, except",
            "a token among exceptions alone": "except=(x)",
            "a string for exceptions alone": 'except="x"',
            "exceptions from a list": 'params=("a"), except=("x")',
            "no exceptions from an empty list": "params=(), except=()",
            "exceptions from nothing": 'params=?0, except=("x")',
            "the order is right and the parameters are wrong": "key-order, params=a",
            "the parameters are right and the order is wrong": 'params=("a"), key-order=a',
            "names that are not ASCII": 'params=("é")',
        }
    ),
)
def test_a_field_that_is_not_valid_says_nothing(value: str) -> None:
    assert search_variance(value) is None


def test_the_field_may_come_on_several_lines() -> None:
    lines = fields("No-Vary-Search: key-order", 'No-Vary-Search: params=("a")')
    assert search_variance(lines.get("no-vary-search")) == ignoring("a", ordered=False)


def equivalent(one: str, other: str, variance: SearchVariance) -> bool:
    return reduced(primary_key(one), variance) == reduced(primary_key(other), variance)


@pytest.mark.parametrize(
    ("one", "other"),
    table(
        {
            "an empty query and none": ("", "?"),
            "a query of empty pieces and none": ("", "?&&"),
            "empty pieces": ("?a=x", "?&a=x&&"),
            "encoded letters": ("?a=x", "?%61=%78"),
            "letters that are not ASCII": ("?a=é", "?a=%C3%A9"),
            "digits of an encoding": ("?a=%c3%a9", "?a=%C3%A9"),
            "an empty value and none": ("?a=", "?a"),
            "a plus sign and a space": ("?a=+", "?a=%20"),
            "a space that nobody encoded": ("?a= ", "?a=+"),
            "bytes that are not UTF-8": ("?a=%f6", "?a=%ef%bf%bd"),
            "no name and no value": ("?=", "?&="),
            "an equals sign in a value": ("?a=b=c", "?a=b%3Dc"),
            "marks": ("?a=~", "?a=%7E"),
            "a percent sign that encodes nothing": ("?a=100%", "?a=100%25"),
            "a lone surrogate": ("?a=\ud800", "?a=%ef%bf%bd"),
        }
    ),
)
@pytest.mark.parametrize("variance", [UNORDERED, ignoring("b"), keeping("a", "")])
def test_it_does_not_matter_how_parameters_are_written(
    one: str, other: str, variance: SearchVariance
) -> None:
    assert equivalent(ROOT + one, ROOT + other, variance)


@pytest.mark.parametrize(
    ("value", "one", "other", "same"),
    table(
        {
            "an ignored parameter": ('params=("b")', "?a=1", "?a=1&b=2", True),
            "several of its name": ('params=("b")', "?a=1", "?b&a=1&b=2&b", True),
            "its value": ('params=("b")', "?a=1&b=1", "?a=1&b=2", True),
            "nothing but it": ('params=("b")', "", "?b=2", True),
            "its encoded name": ('params=("b")', "?a=1", "?a=1&%62=2", True),
            "its name in another case": ('params=("b")', "?a=1", "?a=1&B=2", False),
            "another parameter": ('params=("b")', "?a=1", "?a=1&c=2", False),
            "another value": ('params=("b")', "?a=1", "?a=2", False),
            "another order": ('params=("c")', "?a=1&b=2", "?b=2&a=1", False),
            "an ignored one in another place": ('params=("b")', "?a=1&b=2", "?b=2&a=1", True),
            "all ignored": ("params", "?a=1", "?b=2", True),
            "all ignored, and none there": ("params", "?a=1", "", True),
            "a kept one": ('params, except=("a")', "?a=1", "?a=2", False),
            "a kept one that is missing": ('params, except=("a")', "?a=1", "", False),
            "another than a kept one": ('params, except=("a")', "?a=1&b=2", "?c=3&a=1", True),
            "kept ones in another order": ('params, except=("a" "b")', "?a&b", "?b&a", False),
            "any order": ("key-order", "?a=1&b=2", "?b=2&a=1", True),
            "any order, another value": ("key-order", "?a=1&b=2", "?b=1&a=2", False),
            "any order but of one name": ("key-order", "?a=1&a=2", "?a=2&a=1", False),
            "any order around one name": ("key-order", "?a=1&b&a=2", "?b&a=1&a=2", True),
            "once or twice": ("key-order", "?a=1", "?a=1&a=1", False),
            "any order of kept ones": (
                'key-order, params, except=("a" "b")',
                "?a&b",
                "?c&b&a",
                True,
            ),
            "a name in another script": (
                'params=("%C3%A9+%E6%B0%97")',
                "?é+気=2",
                "?%C3%A9%20気=3",
                True,
            ),
            "characters composed differently": ("key-order", "?a=%C3%A9", "?a=e%CC%81", False),
            "an encoded separator": ("key-order", "?a=1&b=2", "?a=1%26b=2", False),
            "an encoded equals sign": ("key-order", "?a=1", "?a%3D1", False),
            "an encoded plus sign": ("key-order", "?a=+", "?a=%2B", False),
            "an encoded percent sign": ("key-order", "?a=%2561", "?a=a", False),
            "a semicolon separates nothing": ("key-order", "?a=1&b=2", "?a=1;b=2", False),
            "a question mark in a value": ("key-order", "?a=?", "?a", False),
            "a fragment": ("key-order", "?a#b", "?a#c", True),
            "an encoded number sign": ("key-order", "?a%23b", "?a", False),
        }
    ),
)
def test_urls_are_equivalent_where_what_matters_is_the_same(
    value: str, one: str, other: str, same: bool
) -> None:
    variance = search_variance(value)
    assert variance is not None
    assert equivalent(ROOT + one, ROOT + other, variance) is same


@pytest.mark.parametrize(
    "other",
    table(
        {
            "another path": "https://example.org/b",
            "another host": "https://www.example.org/a",
            "another port": "https://example.org:8443/a",
            "another scheme": "http://example.org/a",
        }
    ),
)
def test_all_but_the_query_matters_in_any_case(other: str) -> None:
    assert not equivalent("https://example.org/a?b", other, keeping())


@pytest.mark.parametrize(
    ("url", "written"),
    table(
        {
            "no query": ("https://example.org/a", "https://example.org/a"),
            "an empty query": ("https://example.org/a?", "https://example.org/a"),
            "nothing but what is ignored": ("https://example.org/a?x=1", "https://example.org/a"),
            "a parameter": ("https://example.org/a?b=c", "https://example.org/a?b=c"),
            "no value": ("https://example.org/a?b", "https://example.org/a?b="),
            "a space": ("https://example.org/a?b=%20c", "https://example.org/a?b=+c"),
            "a path is left alone": ("https://example.org/é+%20?x", "https://example.org/é+%20"),
        }
    ),
)
def test_what_matters_is_written_in_one_way(url: str, written: str) -> None:
    assert reduced(url, ignoring("x")) == written


def test_what_is_known_of_a_path_has_one_key_whatever_the_query() -> None:
    key = search_key(primary_key(ROOT))
    assert key == search_key(primary_key(f"{ROOT}?a=1")) == search_key(primary_key(f"{ROOT}?"))
    assert key != search_key(primary_key(f"{ROOT}b"))
    assert primary_key(key) != key


NAMES = st.sampled_from(["a", "b", "A", "é", "", " ", "a b", "%61", "a%20b", "%C3%A9", "+", "%f6"])
PIECES = st.one_of(
    NAMES,
    st.builds("{}={}".format, NAMES, NAMES | st.text(max_size=3)),
    st.sampled_from(["", "=", "==", "%", "%zz", "?", ";", "\ud800", "\udc80=\udc81"]),
).map(lambda piece: piece.replace("#", "").replace("&", ""))
QUERIES = st.lists(PIECES, max_size=6)
PARAMETERS = st.frozensets(st.sampled_from(["a", "b", "é", "", " ", "a b", "\ufffd"]))
VARIANCES = st.builds(SearchVariance, PARAMETERS, st.just(NOTHING), st.booleans()) | st.builds(
    SearchVariance, st.none(), PARAMETERS, st.booleans()
)


@given(QUERIES, VARIANCES)
def test_reducing_twice_is_reducing_once(pieces: list[str], variance: SearchVariance) -> None:
    once = reduced(primary_key(f"{ROOT}?{'&'.join(pieces)}"), variance)
    assert reduced(once, variance) == once
    assert primary_key(once) == once


def decoded(text: str) -> str:
    scalars = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    octets = unquote_to_bytes(scalars.replace("+", " "))
    return octets.decode("utf-8", "replace")


def parameters(pieces: list[str], variance: SearchVariance) -> list[tuple[str, str]]:
    """Return what is compared of a query, as the draft describes it (§6)."""
    split = (piece.partition("=") for piece in pieces if piece)
    pairs = [(decoded(name), decoded(value)) for name, _, value in split]
    if variance.ignored is None:
        pairs = [pair for pair in pairs if pair[0] in variance.kept]
    else:
        pairs = [pair for pair in pairs if pair[0] not in variance.ignored]
    return pairs if variance.ordered else sorted(pairs, key=lambda pair: pair[0])


@given(QUERIES, QUERIES, VARIANCES)
@example(["%f0é"], ["\ufffdé"], UNORDERED)
@example(["é%80"], ["é\ufffd"], UNORDERED)
def test_urls_are_equivalent_exactly_where_what_is_compared_is_equal(
    one: list[str], other: list[str], variance: SearchVariance
) -> None:
    same = parameters(one, variance) == parameters(other, variance)
    urls = [f"{ROOT}?{'&'.join(pieces)}" for pieces in (one, other)]
    assert equivalent(urls[0], urls[1], variance) is same


@given(QUERIES, PARAMETERS, st.randoms(use_true_random=False))
def test_names_may_come_in_any_order_where_it_does_not_matter(
    pieces: list[str], ignored: frozenset[str], random: Random
) -> None:
    ranks: dict[str, float] = defaultdict(random.random)
    shuffled = sorted(pieces, key=lambda piece: ranks[decoded(piece.partition("=")[0])])
    urls = [f"{ROOT}?{'&'.join(each)}" for each in (pieces, shuffled)]
    assert equivalent(urls[0], urls[1], SearchVariance(ignored, NOTHING, ordered=False))


@given(st.text(), st.text(), VARIANCES)
def test_no_url_and_no_value_raises(text: str, value: str, variance: SearchVariance) -> None:
    reduced(ROOT + text, variance)
    reduced(f"{ROOT}?{text}", search_variance(value) or variance)


@given(
    st.lists(
        st.sampled_from(
            ["params", "key-order", "except", "=", "=?0", "=?1", "=(", ")", '"a"', "b", " ", ", "]
        )
    ).map("".join)
)
@example('params, except=("a")')
def test_what_a_field_says_is_of_one_form(value: str) -> None:
    variance = search_variance(value)
    if variance is not None:
        assert variance.ignored is None or not variance.kept
        assert variance != ignoring()


@pytest.mark.parametrize("piece", ["a&", "a=", "%", "%61", "&", "+", "é", "\ud800", "?"])
def test_long_queries_are_read_in_one_go(piece: str) -> None:
    reduced(f"{ROOT}?{piece * 100_000}", UNORDERED)
