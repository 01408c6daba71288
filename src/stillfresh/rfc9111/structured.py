"""Structured Field Values (RFC 9651): parsing. A field that fails to parse is None (§4.2).

Parsing is strict, as the RFC wants it: a field is what its algorithms say, or it is ignored as a
whole. Several lines of a field are one value, joined with commas.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Token(str):
    """A Token (§3.3.4); a plain `str` is a String."""

    __slots__ = ()


class Date(int):
    """A Date (§3.3.7), in seconds since the epoch; a plain `int` is an Integer."""

    __slots__ = ()


class DisplayString(str):
    """A Display String (§3.3.8)."""

    __slots__ = ()


BareItem: TypeAlias = bool | int | float | str | bytes
"""Of which `float` is a Decimal: its 15 digits are as many as a float keeps."""


class Item(NamedTuple):
    """A bare item with its parameters (§3.3)."""

    value: BareItem
    parameters: Mapping[str, BareItem]


class InnerList(NamedTuple):
    """Items in parentheses, with the parameters of them all (§3.1.1)."""

    items: tuple[Item, ...]
    parameters: Mapping[str, BareItem]


Member: TypeAlias = Item | InnerList
_Parsed = TypeVar("_Parsed")

_SP: Final = re.compile(r" *")
_OWS: Final = re.compile(r"[ \t]*")
_KEY: Final = re.compile(r"[a-z*][a-z0-9_.*-]*")
_NUMBER: Final = re.compile(r"-?(?P<whole>[0-9]+)(?P<fraction>\.[0-9]*)?")
_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*+)"')
_ESCAPED: Final = re.compile(r'\\(["\\])')
_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_BYTES: Final = re.compile(r":(?P<data>[A-Za-z0-9+/]*)(?P<padding>={0,2}):")
_BOOLEAN: Final = re.compile(r"\?([01])")
_DISPLAY: Final = re.compile(r'%"((?:[ !#$&-~]|%[0-9a-f]{2})*+)"')


def parse_list(text: str) -> tuple[Member, ...] | None:
    """Parse a List (§4.2.1); nothing at all is an empty one."""
    return _parsed(text, _Scanner.members)


def parse_dictionary(text: str) -> dict[str, Member] | None:
    """Parse a Dictionary (§4.2.2); of a key that comes twice the last value counts."""
    return _parsed(text, _Scanner.dictionary)


def parse_item(text: str) -> Item | None:
    """Parse an Item (§4.2.3)."""
    return _parsed(text, _Scanner.item)


def strings(members: Iterable[Member]) -> tuple[str, ...] | None:
    """Return what `members` say, parameters ignored; None unless all of them are Strings."""
    values = []
    for member in members:
        if not isinstance(member, Item) or type(member.value) is not str:
            return None
        values.append(member.value)
    return tuple(values)


class _Failed(Exception):
    """The field fails to parse."""


def _parsed(text: str, read: Callable[[_Scanner], _Parsed]) -> _Parsed | None:
    if not text.isascii():
        return None
    scanner = _Scanner(text)
    try:
        scanner.take(_SP)
        value = read(scanner)
        scanner.take(_SP)
    except _Failed:
        return None
    return value if scanner.ahead == "" else None


class _Scanner:
    """Reads a field from left to right; each character once, since whatever fails fails for good.

    What takes a part goes past it, or raises `_Failed` where there is none.
    """

    __slots__ = ("_at", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    @property
    def ahead(self) -> str:
        """The next character; empty at the end."""
        return self._text[self._at : self._at + 1]

    def take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Take what `pattern` matches."""
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _Failed
        self._at = match.end()
        return match

    def skip(self, character: str) -> bool:
        """Go past `character` if it is the next one; tell whether it was."""
        found = self.ahead == character
        self._at += found
        return found

    def members(self) -> tuple[Member, ...]:
        """Take the members of a List (§4.2.1)."""
        members = []
        more = self.ahead != ""
        while more:
            members.append(self.item_or_inner_list())
            more = self.comma()
        return tuple(members)

    def dictionary(self) -> dict[str, Member]:
        """Take the members of a Dictionary (§4.2.2)."""
        members: dict[str, Member] = {}
        more = self.ahead != ""
        while more:
            key = self.take(_KEY)[0]
            # A key that came before keeps its place.
            members[key] = (
                self.item_or_inner_list() if self.skip("=") else Item(True, self.parameters())
            )
            more = self.comma()
        return members

    def comma(self) -> bool:
        """Go past the comma before another member; tell whether there is one (§4.2.1, §4.2.2).

        After a comma there has to be: what takes it fails at the end of the field.
        """
        self.take(_OWS)
        if self.ahead == "":
            return False
        if not self.skip(","):
            raise _Failed
        self.take(_OWS)
        return True

    def item_or_inner_list(self) -> Member:
        """Take an Item or an Inner List (§4.2.1.1)."""
        return self.inner_list() if self.skip("(") else self.item()

    def inner_list(self) -> InnerList:
        """Take the rest of an Inner List, its first parenthesis taken (§4.2.1.2)."""
        items: list[Item] = []
        self.take(_SP)
        while not self.skip(")"):
            items.append(self.item())
            if self.ahead not in {" ", ")"}:
                raise _Failed
            self.take(_SP)
        return InnerList(tuple(items), self.parameters())

    def item(self) -> Item:
        """Take an Item (§4.2.3)."""
        return Item(self.bare_item(), self.parameters())

    def bare_item(self) -> BareItem:
        """Take a bare item; its first character says of which type (§4.2.3.1)."""
        first = self.ahead
        if first == '"':
            return _ESCAPED.sub(r"\1", self.take(_STRING)[1])  # §4.2.5
        if first.isalpha() or first == "*":
            return Token(self.take(_TOKEN)[0])  # §4.2.6
        if first == ":":
            return self.byte_sequence()
        if first == "?":
            return self.take(_BOOLEAN)[1] == "1"  # §4.2.8
        if first == "@":
            return self.date()
        if first == "%":
            return self.display_string()
        return self.number()

    def parameters(self) -> dict[str, BareItem]:
        """Take parameters, if there are any (§4.2.3.2)."""
        parameters: dict[str, BareItem] = {}
        while self.skip(";"):
            self.take(_SP)
            key = self.take(_KEY)[0]
            parameters[key] = self.bare_item() if self.skip("=") else True
        return parameters

    def number(self) -> int | float:
        """Take an Integer or a Decimal (§4.2.4)."""
        number = self.take(_NUMBER)
        whole, fraction = len(number["whole"]), len(number["fraction"] or "")
        if fraction == 0 and whole <= 15:
            return int(number[0])
        # The point counts as one.
        if 2 <= fraction <= 4 and whole <= 12:
            return float(number[0])
        raise _Failed

    def byte_sequence(self) -> bytes:
        """Take a Byte Sequence (§4.2.7).

        Padding may be missing, but not be wrong; the bits it pads may be any.
        """
        encoded = self.take(_BYTES)
        data, padding = encoded["data"], encoded["padding"]
        if len(data) % 4 == 1 or (padding and len(data + padding) % 4):
            raise _Failed
        return a2b_base64(data + "=" * (-len(data) % 4))

    def date(self) -> Date:
        """Take a Date (§4.2.9)."""
        self.skip("@")
        seconds = self.number()
        if isinstance(seconds, float):
            raise _Failed
        return Date(seconds)

    def display_string(self) -> DisplayString:
        """Take a Display String (§4.2.10)."""
        try:
            return DisplayString(unquote_to_bytes(self.take(_DISPLAY)[1]).decode())
        except UnicodeDecodeError:
            raise _Failed from None
