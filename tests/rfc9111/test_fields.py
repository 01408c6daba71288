"""Field lines and the syntax that values share: RFC 9110 §5, §5.6, §8.6."""

import copy
import pickle

import pytest

from stillfresh.rfc9111.fields import Fields, content_length, field_names, split_list, unquote
from tests.rfc9111.scenes import fields, table

TWO_LINES = fields("Accept: text/html", "Via: 1.1 a", "ACCEPT: text/plain")


def test_names_are_matched_without_regard_to_case() -> None:
    assert fields("ETag: x").get("etag") == fields("etag: x").get("etag") == "x"
    assert "etag" in fields("ETAG: x")
    assert "etag" not in fields("ETags: x")


def test_several_lines_of_a_name_are_one_list_in_the_order_they_came() -> None:
    assert TWO_LINES.get("accept") == "text/html, text/plain"


def test_lines_can_be_had_apart() -> None:
    assert list(TWO_LINES.get_all("accept")) == ["text/html", "text/plain"]
    assert list(TWO_LINES.get_all("cookie")) == []


def test_an_absent_field_is_not_an_empty_one() -> None:
    assert fields().get("accept") is None
    assert fields("Accept:").get("accept") == ""


def test_all_lines_of_a_name_can_be_left_out() -> None:
    assert TWO_LINES.without({"accept"}) == fields("Via: 1.1 a")
    assert TWO_LINES.without({"cookie"}) == TWO_LINES


def test_a_line_can_take_the_place_of_all_that_have_its_name() -> None:
    changed = TWO_LINES.replacing(("Accept", "*/*"))
    assert list(changed.get_all("accept")) == ["*/*"]
    assert changed.get("via") == "1.1 a"
    assert len(changed) == 2


def test_changing_makes_new_fields() -> None:
    before = fields("Age: 1")
    before.replacing(("Age", "2"))
    before.without({"age"})
    assert before == fields("Age: 1")


def test_lines_keep_their_order_and_spelling() -> None:
    assert list(TWO_LINES) == [
        ("Accept", "text/html"),
        ("Via", "1.1 a"),
        ("ACCEPT", "text/plain"),
    ]


def test_equal_lines_are_equal_fields() -> None:
    assert fields("A: 1", "B: 2") == fields("A: 1", "B: 2")
    assert hash(fields("A: 1")) == hash(fields("A: 1"))
    assert fields("A: 1", "B: 2") != fields("B: 2", "A: 1")
    assert fields("A: 1") != "A: 1"


def test_no_value_shows_in_a_repr() -> None:
    shown = repr(fields("Authorization: Bearer open-sesame"))
    assert "Authorization" in shown
    assert "open-sesame" not in shown


@pytest.mark.parametrize(
    ("value", "members"),
    table(
        {
            "an empty value has no members": ("", []),
            "one member": ("a", ["a"]),
            "commas separate": ("a,b", ["a", "b"]),
            "whitespace around members is not theirs": (" a ,\tb ", ["a", "b"]),
            "whitespace inside a member is": ("a b, c", ["a b", "c"]),
            "empty members are ignored": (",a,, ,b,", ["a", "b"]),
            "nothing but commas": (" , ,", []),
            "a quoted comma does not separate": ('a="x, y", b', ['a="x, y"', "b"]),
            "an escaped quote does not end the string": (
                r'a="x\", y", b',
                [r'a="x\", y"', "b"],
            ),
            "an escaped backslash is no escape": (r'a="x\\", b', [r'a="x\\"', "b"]),
            "entity tags": ('"a,b", W/"c,d"', ['"a,b"', 'W/"c,d"']),
            "parameters": ('a;q="1,2";r="3", b', ['a;q="1,2";r="3"', "b"]),
        }
    ),
)
def test_a_list_is_split_at_its_commas(value: str, members: list[str]) -> None:
    assert split_list(value) == members


@pytest.mark.parametrize(
    "value",
    table(
        {
            "never closed": 'a="x, b',
            "opened at the very beginning": '", b',
            "opened before the comma": 'a=", b',
            "closed only by an escaped quote": r'a="x\", b',
            "closed by the next one's opening quote": 'a="x, b, c="y"',
            "after a string that is whole": 'a="x", c="y, b',
            "with a stray quote after it": 'a="x, b, c="y',
        }
    ),
)
def test_a_quote_that_is_not_closed_where_it_should_be_hides_nothing(value: str) -> None:
    assert "b" in split_list(value)


def test_a_value_of_many_quotes_is_not_read_over_and_over() -> None:
    assert split_list('"' + '\\"' * 500_000 + ", b")[-1] == "b"


@pytest.mark.parametrize(
    ("value", "says"),
    table(
        {
            "text": ('"a b"', "a b"),
            "nothing": ('""', ""),
            "a comma": ('"a,b"', "a,b"),
            "a quoted pair stands for its second character": (r'"a\"b\\c\d"', r'a"b\cd'),
        }
    ),
)
def test_a_quoted_string_says_what_is_in_it(value: str, says: str) -> None:
    assert unquote(value) == says


@pytest.mark.parametrize(
    "value",
    table(
        {
            "nothing at all": "",
            "a token": "a",
            "one quote": '"',
            "no closing quote": '"a',
            "no opening quote": 'a"',
            "the closing quote is escaped": r'"a\"',
            "a quote inside": '"a"b"',
            "other quotes": "'a'",
        }
    ),
)
def test_anything_else_is_no_quoted_string(value: str) -> None:
    assert unquote(value) is None


@pytest.mark.parametrize(
    ("value", "names"),
    table(
        {
            "an absent field names nothing": (None, set()),
            "an empty one neither": ("", set()),
            "names are in lower case": ("Accept, ACCEPT-Encoding", {"accept", "accept-encoding"}),
            "whitespace and empty members do not count": (" a ,, b ,", {"a", "b"}),
            "an asterisk": ("*", {"*"}),
            "there are no quoted strings in a list of names": ('", Accept, "', {'"', "accept"}),
        }
    ),
)
def test_a_list_of_field_names(value: str | None, names: set[str]) -> None:
    assert field_names(value) == names


@pytest.mark.parametrize(
    ("lines", "length"),
    table(
        {
            "a number": (("Content-Length: 42",), 42),
            "zero": (("Content-Length: 0",), 0),
            "the same number in a list": (("Content-Length: 42, 42",), 42),
            "the same number on two lines": (("Content-Length: 42", "Content-Length: 42"), 42),
            "absent": ((), None),
            "empty": (("Content-Length:",), None),
            "two numbers": (("Content-Length: 42, 43",), None),
            "two numbers on two lines": (("Content-Length: 42", "Content-Length: 43"), None),
            "negative": (("Content-Length: -1",), None),
            "signed": (("Content-Length: +1",), None),
            "with an underscore": (("Content-Length: 1_0",), None),
            "hexadecimal": (("Content-Length: 0x10",), None),
            "digits that are not ASCII": (("Content-Length: ٤٢",), None),
            "more digits than anybody counts": ((f"Content-Length: {'9' * 10_000}",), None),
        }
    ),
)
def test_content_length_is_one_number_or_nothing(
    lines: tuple[str, ...], length: int | None
) -> None:
    assert content_length(fields(*lines)) == length


def test_lines_that_were_apart_stay_apart_when_others_are_replaced() -> None:
    given = Fields([("Link", "<a>"), ("Link", "<b>"), ("Age", "1")])
    changed = given.replacing(("Age", "2"))
    assert changed.get("age") == "2"
    assert changed.get_all("link") == ("<a>", "<b>")


def test_fields_without_lines_are_empty() -> None:
    assert len(Fields()) == 0
    assert list(Fields()) == []


def test_they_can_be_copied_and_pickled() -> None:
    for given in (Fields([("A", "1"), ("a", "2"), ("B", "3")]), Fields([("A", "1")])):
        for other in (copy.deepcopy(given), pickle.loads(pickle.dumps(given))):  # noqa: S301
            assert other == given
            assert other.get_all("a") == given.get_all("a")
