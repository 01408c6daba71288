"""Structured Field Values: RFC 9651."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillfresh.rfc9111.structured import (
    BareItem,
    Date,
    DisplayString,
    InnerList,
    Item,
    Token,
    parse_dictionary,
    parse_item,
    parse_list,
    strings,
)
from tests.rfc9111.scenes import fields, table


def item(value: BareItem, **parameters: BareItem) -> Item:
    return Item(value, parameters)


def inner(*values: BareItem, **parameters: BareItem) -> InnerList:
    return InnerList(tuple(map(item, values)), parameters)


def types(members: object) -> object:
    """Tell of which types all is: a Token equals a String otherwise, and 1 is True."""
    if isinstance(members, tuple | list):
        return type(members), [types(member) for member in members]
    if isinstance(members, dict):
        return [(key, types(member)) for key, member in members.items()]
    return type(members)


BARE_ITEMS: dict[str, tuple[str, BareItem]] = {
    "an integer": ("42", 42),
    "zero": ("0", 0),
    "a negative integer": ("-42", -42),
    "a negative zero": ("-0", 0),
    "zeros at the beginning": ("007", 7),
    "the largest integer": ("9" * 15, 10**15 - 1),
    "the smallest integer": ("-" + "9" * 15, 1 - 10**15),
    "fifteen digits, all but one zeros": ("0" * 14 + "1", 1),
    "a decimal": ("1.5", 1.5),
    "a negative decimal": ("-0.25", -0.25),
    "a decimal that is whole": ("1.0", 1.0),
    "the largest decimal": ("999999999999.999", 999_999_999_999.999),
    "a string": ('"a b"', "a b"),
    "an empty string": ('""', ""),
    "an escaped quote": (r'"a\"b"', 'a"b'),
    "an escaped backslash": (r'"a\\"', "a\\"),
    "an escaped backslash before a quote": (r'"\\\""', '\\"'),
    "the first printable character and the last": ('" ~"', " ~"),
    "separators in a string": ('"a, b;c=(d)"', "a, b;c=(d)"),
    "a percent sign in a string": ('"%20"', "%20"),
    "a token": ("foo123/456", Token("foo123/456")),
    "a token with an asterisk": ("*", Token("*")),
    "a token in capitals": ("ABC", Token("ABC")),
    "all that a token may have": ("a!#$%&'*+-.^_`|~:/Z9", Token("a!#$%&'*+-.^_`|~:/Z9")),
    "bytes": (":aGVsbG8=:", b"hello"),
    "no bytes": ("::", b""),
    "bytes of two paddings": (":YQ==:", b"a"),
    "bytes without padding": (":YQ:", b"a"),
    "bits that are padded with ones": (":YR==:", b"a"),
    "all digits of base64": (":+/09AZaz:", b"\xfb\xfd\x3d\x01\x96\xb3"),
    "true": ("?1", True),
    "false": ("?0", False),
    "a date": ("@1659578233", Date(1_659_578_233)),
    "a date before the epoch": ("@-1", Date(-1)),
    "a display string": ('%"a b"', DisplayString("a b")),
    "an empty display string": ('%""', DisplayString("")),
    "an encoded character": ('%"f%c3%bcr"', DisplayString("für")),
    "an encoded quote": ('%"%22"', DisplayString('"')),
    "an encoded percent sign": ('%"%2522"', DisplayString("%22")),
    "a backslash in a display string": (r'%"\"', DisplayString("\\")),
    "a plus sign in a display string": ('%"a+b"', DisplayString("a+b")),
    "a character beyond the first plane": ('%"%f0%9f%92%a9"', DisplayString("\U0001f4a9")),
    "an encoded NUL": ('%"%00"', DisplayString("\0")),
    "an encoded byte order mark": ('%"%ef%bb%bf"', DisplayString("\ufeff")),
}


@pytest.mark.parametrize(("text", "value"), table(BARE_ITEMS))
def test_a_bare_item_is_of_the_type_that_its_first_character_says(
    text: str, value: BareItem
) -> None:
    assert parse_item(text) == item(value)
    assert types(parse_item(text)) == types(item(value))


NO_BARE_ITEMS = {
    "a minus": "-",
    "two minuses": "--1",
    "a plus": "+1",
    "a letter after a minus": "-a",
    "a space after a minus": "- 1",
    "sixteen digits": "1" * 16,
    "sixteen digits, all but one zeros": "0" * 15 + "1",
    "more digits than anybody counts": "9" * 10_000,
    "a point at the end": "1.",
    "a point at the beginning": ".5",
    "two points": "1..5",
    "two decimals": "1.5.4",
    "thirteen digits before the point": "1234567890123.0",
    "four digits after the point": "1.1234",
    "an exponent": "1e3",
    "digits that are not ASCII": "٤٢",
    "a string that is not closed": '"a',
    "one quote": '"',
    "a string closed by an escaped quote": r'"a\"',
    "an escape at the end": '"a\\',
    "an escaped letter": r'"\a"',
    "a tab in a string": '"\t"',
    "a line feed in a string": '"\n"',
    "DEL in a string": '"\x7f"',
    "a letter in a string that is not ASCII": '"é"',
    "single quotes": "'a'",
    "a token that begins with a sign": "!a",
    "a token that is not ASCII": "é",
    "bytes that are not closed": ":YQ==",
    "bytes with a space": ":YQ ==:",
    "bytes with a line feed": ":YQ\n==:",
    "bytes in base64url": ":-_8=:",
    "one digit of base64": ":Y:",
    "padding of nothing": ":==:",
    "padding at the beginning": ":=YQ=:",
    "padding between": ":YQ==YQ==:",
    "too little padding": ":YQ=:",
    "too much padding": ":YWI==:",
    "padding of what is whole": ":YWJj=:",
    "another number for a boolean": "?2",
    "a word for a boolean": "?true",
    "no boolean": "?",
    "no date": "@",
    "a date with a fraction": "@1.5",
    "a date in words": "@today",
    "a date of sixteen digits": "@" + "1" * 16,
    "a percent sign": "%",
    "a display string without quotes": "%a",
    "a display string that is not closed": '%"a',
    "an encoding in capitals": '%"%C3%BC"',
    "half an encoding": '%"%c"',
    "a percent sign that encodes nothing": '%"100%"',
    "bytes that are not UTF-8": '%"%ff"',
    "half a character": '%"%c3"',
    "a surrogate": '%"%ed%a0%80"',
    "a letter in a display string that is not ASCII": '%"é"',
    "a line feed after it": "a\n",
    "NUL": "\0",
    "a lone surrogate": "\ud800",
}


@pytest.mark.parametrize("text", table(NO_BARE_ITEMS))
def test_what_is_not_in_the_grammar_is_no_bare_item_anywhere(text: str) -> None:
    assert parse_item(text) is None
    assert parse_item(f"a;b={text}") is None
    assert parse_list(text) is None
    assert parse_list(f"a, {text}, b") is None
    assert parse_list(f"(a {text} b)") is None
    assert parse_dictionary(f"a=b, c={text}") is None


@pytest.mark.parametrize(
    "text",
    table(
        {
            "nothing": "",
            "only spaces": "  ",
            "two items": "a b",
            "two members": "a, b",
            "a comma after it": "a,",
            "an inner list": "(a)",
            "a tab before it": "\ta",
            "a tab after it": "a\t",
        }
    ),
)
def test_an_item_is_neither_none_nor_several(text: str) -> None:
    assert parse_item(text) is None


@pytest.mark.parametrize(("text", "value"), table(BARE_ITEMS))
def test_bare_items_can_stand_wherever_items_can(text: str, value: BareItem) -> None:
    assert parse_list(f"{text}, {text}") == (item(value), item(value))
    assert parse_list(f"({text} {text})") == (inner(value, value),)
    assert parse_list(f"a;b={text};c") == (item(Token("a"), b=value, c=True),)
    assert parse_dictionary(f"a={text},b={text}") == {"a": item(value), "b": item(value)}
    assert parse_item(f"  {text}  ") == item(value)


@pytest.mark.parametrize(
    ("text", "parameters"),
    table(
        {
            "none": ("1", {}),
            "one": ("1;a=2", {"a": 2}),
            "one without a value is true": ("1;a", {"a": True}),
            "one that is false": ("1;a=?0", {"a": False}),
            "several, in order": ("1;b=2;a=3;c", {"b": 2, "a": 3, "c": True}),
            "of any type": ('1;a="b";c=d;e=:YQ==:', {"a": "b", "c": Token("d"), "e": b"a"}),
            "spaces before a key": ("1;  a=2; b", {"a": 2, "b": True}),
            "all that a key may have": ("1;*a_-.*9=2", {"*a_-.*9": 2}),
            "the last of those with one key": ("1;a=2;b=3;a=4", {"a": 4, "b": 3}),
            "the last also where it has no value": ("1;a=2;a", {"a": True}),
        }
    ),
)
def test_parameters(text: str, parameters: dict[str, BareItem]) -> None:
    parsed = parse_item(text)
    assert parsed == Item(1, parameters)
    assert list(parsed.parameters) == list(parameters)
    assert types(dict(parsed.parameters)) == types(parameters)


@pytest.mark.parametrize(
    "text",
    table(
        {
            "no key": "1;",
            "no key before another": "1;;a",
            "no value": "1;a=",
            "a capital": "1;A=2",
            "a capital inside": "1;aB=2",
            "a digit at the beginning": "1;1a",
            "a minus at the beginning": "1;-a",
            "a space before the semicolon": "1 ;a",
            "a tab after the semicolon": "1;\ta",
            "a space before the equals sign": "1;a =2",
            "a space after the equals sign": "1;a= 2",
            "an inner list for a value": "1;a=(2)",
        }
    ),
)
def test_what_are_no_parameters(text: str) -> None:
    assert parse_item(text) is None
    assert parse_list(f"({text})") is None
    assert parse_list(f"(){text[1:]}") is None
    assert parse_dictionary(f"b={text}") is None


@pytest.mark.parametrize(
    ("text", "members"),
    table(
        {
            "nothing is an empty list": ("", ()),
            "so are spaces": ("   ", ()),
            "one member": ("a", (item(Token("a")),)),
            "commas separate": ("1,2", (item(1), item(2))),
            "spaces and tabs around a comma": ("1 \t,\t 2", (item(1), item(2))),
            "spaces before and after": ("  1, 2  ", (item(1), item(2))),
            "a tab at the end": ("1\t", (item(1),)),
            "a member that comes twice": ("1, 1", (item(1), item(1))),
            "parameters": ("1;a, 2;b=3", (item(1, a=True), item(2, b=3))),
            "an inner list": ("(1 2)", (inner(1, 2),)),
            "an empty inner list": ("()", (inner(),)),
            "spaces in an empty inner list": ("(   )", (inner(),)),
            "spaces in an inner list": ("(  1   2 )", (inner(1, 2),)),
            "inner lists and items": ("(1), 2, ()", (inner(1), item(2), inner())),
            "parameters of an inner list": ("(1);a=2;b", (inner(1, a=2, b=True),)),
            "parameters in an inner list": (
                "(1;a 2);b",
                (InnerList((item(1, a=True), item(2)), {"b": True}),),
            ),
        }
    ),
)
def test_a_list_has_members_in_their_order(
    text: str, members: tuple[Item | InnerList, ...]
) -> None:
    assert parse_list(text) == members
    assert types(parse_list(text)) == types(members)


@pytest.mark.parametrize(
    "text",
    table(
        {
            "a comma at the end": "1,",
            "a comma and whitespace at the end": "1, \t",
            "a comma at the beginning": ",1",
            "nothing but a comma": ",",
            "two commas": "1,,2",
            "no comma": "1 2",
            "a semicolon": "1;2",
            "only a tab": "\t",
            "a tab at the beginning": "\t1",
            "a line feed at the end": "1\n",
            "an inner list that is not closed": "(1 2",
            "one that is never opened": "1 2)",
            "nothing in one that is not closed": "(",
            "spaces in one that is not closed": "(  ",
            "a comma in an inner list": "(1, 2)",
            "a tab in an inner list": "(1\t2)",
            "a tab in an empty one": "(\t)",
            "no space in an inner list": '("a""b")',
            "a list in an inner list": "((1))",
            "two inner lists without a comma": "(1)(2)",
            "a space before parameters": "(1) ;a",
            "what is not ASCII after what is": '"a", é',
        }
    ),
)
def test_a_list_that_fails_to_parse_has_no_members_at_all(text: str) -> None:
    assert parse_list(text) is None


@pytest.mark.parametrize(
    ("text", "members"),
    table(
        {
            "nothing is an empty dictionary": ("", {}),
            "so are spaces": ("  ", {}),
            "one member": ("a=1", {"a": item(1)}),
            "a member without a value is true": ("a", {"a": item(True)}),
            "one that is true": ("a=?1", {"a": item(True)}),
            "a member without a value but with parameters": ("a;b=1", {"a": item(True, b=1)}),
            "several, in order": ("b=1,a=2 ,\tc", {"b": item(1), "a": item(2), "c": item(True)}),
            "inner lists": ("a=(1 2);b, c=()", {"a": inner(1, 2, b=True), "c": inner()}),
            "parameters": ("a=1;b=2, c=3", {"a": item(1, b=2), "c": item(3)}),
            "all that a key may have": ("*a_-.*9=2", {"*a_-.*9": item(2)}),
            "the last of those with one key": ("a=1, b=2, a=3", {"a": item(3), "b": item(2)}),
            "with its parameters only": ("a=1;b, a=2;c", {"a": item(2, c=True)}),
            "also where it has no value": ("a=(1), a", {"a": item(True)}),
            "bytes that end like a member": ("a=:YQ==:, b", {"a": item(b"a"), "b": item(True)}),
        }
    ),
)
def test_a_dictionary_has_members_by_their_keys(
    text: str, members: dict[str, Item | InnerList]
) -> None:
    parsed = parse_dictionary(text)
    assert parsed == members
    assert list(parsed) == list(members)
    assert types(parsed) == types(members)


@pytest.mark.parametrize(
    "text",
    table(
        {
            "a comma at the end": "a=1,",
            "a comma and whitespace at the end": "a=1,\t ",
            "a comma at the beginning": ",a=1",
            "two commas": "a=1,,b=2",
            "no comma": "a=1 b=2",
            "a semicolon": "a=1;B=2",
            "no key": "=1",
            "no value": "a=",
            "no value before another member": "a=, b",
            "a space before the equals sign": "a =1",
            "a space after the equals sign": "a= 1",
            "a capital": "A=1",
            "a digit at the beginning": "1a=1",
            "a string for a key": '"a"=1',
            "a list": "(1)",
            "a tab at the beginning": "\ta",
            "a member that fails, though another has its key": "a=!, a=1",
        }
    ),
)
def test_a_dictionary_that_fails_to_parse_has_no_members_at_all(text: str) -> None:
    assert parse_dictionary(text) is None


def test_members_may_come_on_several_lines() -> None:
    lines = fields("Foo: a=1, b", "Foo: a=(2)")
    assert parse_dictionary(lines.get("foo") or "") == {"a": inner(2), "b": item(True)}


def test_a_line_without_members_makes_the_field_fail() -> None:
    assert parse_list(fields("Foo: 1", "Foo:").get("foo") or "") is None


def test_as_many_as_the_rfc_asks_for_are_read() -> None:
    keys = [f"{'k' * 60}{number:04}" for number in range(1024)]
    assert parse_list(", ".join(["1"] * 1024)) == (item(1),) * 1024
    assert parse_list(f"({' '.join(['1'] * 256)})") == (inner(*[1] * 256),)
    assert parse_dictionary(", ".join(keys)) == {key: item(True) for key in keys}
    assert parse_item("1" + "".join(f";{key}" for key in keys)) == Item(
        1, dict.fromkeys(keys, True)
    )
    assert parse_item(f'"{"a" * 1024}"') == item("a" * 1024)
    assert parse_item("a" * 512) == item(Token("a" * 512))
    assert parse_item(f":{'AAAA' * 6000}:") == item(bytes(18_000))


@pytest.mark.parametrize(
    ("text", "says"),
    table(
        {
            "strings": ('"a", "b", "a"', ("a", "b", "a")),
            "parameters do not count": ('"a";b, "c";d=1', ("a", "c")),
            "nothing": ("", ()),
            "a token among them": ('"a", b', None),
            "a display string among them": ('"a", %"b"', None),
            "an integer among them": ('"a", 1', None),
            "an inner list among them": ('"a", ("b")', None),
        }
    ),
)
def test_strings_are_told_from_all_else(text: str, says: tuple[str, ...] | None) -> None:
    assert strings(parse_list(text) or ()) == says


FRAGMENTS = st.sampled_from(
    [
        *('"', "\\", "(", ")", ";", "=", ",", " ", "\t", ":", "?", "@", "%", '%"', "*", "-", "."),
        *("a", "b=1", "?1", "?0", "%c3", "%bc", "1.5", "9" * 15, "YQ==", ":YQ==:", '"a"', "(a b)"),
        *("\n", "\0", "é", "٣", "\ud800", "\U0001f4a9"),
    ]
)
TEXTS = st.text(max_size=20) | st.lists(FRAGMENTS, max_size=12).map("".join)


@given(TEXTS)
def test_no_text_raises(text: str) -> None:
    for parse in (parse_list, parse_dictionary, parse_item):
        parse(text)


@given(TEXTS)
@example("a")
def test_an_item_is_a_list_of_one(text: str) -> None:
    parsed = parse_item(text)
    if parsed is not None:
        assert parse_list(text) == (parsed,)


@given(st.lists(FRAGMENTS, max_size=6).map("".join), st.lists(FRAGMENTS, max_size=6).map("".join))
@example("a", "(b)")
def test_lists_can_be_joined(one: str, other: str) -> None:
    first, second = parse_list(one), parse_list(other)
    if first and second:
        assert parse_list(f"{one}, {other}") == first + second


@pytest.mark.parametrize(
    "text",
    [
        '"',
        "(",
        "a,",
        "a;",
        "a=",
        "1",
        ":",
        "%",
        '%"',
        " ",
        "\t",
        '\\"',
        "(1 ",
        "a;b=",
        '"a", ',
        "é",
    ],
)
def test_long_values_are_read_in_one_go(text: str) -> None:
    long = text * 50_000
    for value in (long, f"a={long}", f"({long}", f'"{long}'):
        for parse in (parse_list, parse_dictionary, parse_item):
            parse(value)
