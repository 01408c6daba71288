"""Header fields (RFC 9110 §5): an ordered multi-map, and the syntax that values share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stillfresh.memo import remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, KeysView, Mapping

A = TypeVar("A")

TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_QUOTED_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
# A list of which each quoted string is closed, and ends where a member or a parameter may end.
_WELL_QUOTED: Final = re.compile(
    r'(?:[^"]|"(?:[^"\\]|\\.)*+"(?=[ \t\r\n]*+(?:[,;]|\Z)))*+', re.DOTALL
)
# A list member: quoted strings whole, whatever stands in them, and anything else but a comma.
_MEMBER: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+")++', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_NO_NAMES: Final[frozenset[str]] = frozenset()
_NO_VALUES: Final[Mapping[str, tuple[str, ...]]] = {}
_WHITESPACE: Final = " \t\r\n"
# Without these nobody knows what the bytes of a body are (RFC 9110 §8.3 to §8.5, §14.4).
DESCRIBING: Final = frozenset(
    {"content-encoding", "content-language", "content-range", "content-type"}
)


class Fields:
    """Field lines in the order they came; names are matched without regard to case.

    Immutable. A name that comes more than once keeps its lines apart: `get` joins them the way
    RFC 9110 §5.3 allows, `get_all` doesn't. Look-ups take the name in lower case.

    Attributes:
        before: the fields that these are with one more line, where they were made so: what is
            known of those needs not be found out again.
    """

    __slots__ = ("__weakref__", "_answers", "_index", "_lines", "_repeated", "before")

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        """Take `(name, value)` pairs."""
        self._lines = tuple(lines)
        # Made when first needed: the value of each name, and all of those that have several.
        self._index: dict[str, str] | None = None
        self._repeated: Mapping[str, tuple[str, ...]] = _NO_VALUES
        self._answers: dict[object, Any] | None = None
        self.before: Fields | None = None

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """All lines as `(name, value)`, in order."""
        return self._lines

    @property
    def names(self) -> KeysView[str]:
        """The names that are there, in lower case."""
        return (self._index or self._by_name()).keys()

    def get(self, name: str) -> str | None:
        """Return the value of `name`, several lines joined with commas; None if absent."""
        return (self._index or self._by_name()).get(name)

    def get_all(self, name: str) -> tuple[str, ...]:
        """Return the values of all lines called `name`."""
        value = (self._index or self._by_name()).get(name)
        if value is None:
            return ()
        return self._repeated.get(name) or (value,)

    def without(self, names: Collection[str]) -> Fields:
        """Return the lines whose name, in lower case, is not among `names`."""
        index = self._index or self._by_name()
        gone = index.keys() & names
        if not gone:
            return self
        if self._repeated:
            return Fields([line for line in self._lines if line[0].lower() not in gone])
        # One line a name, in the same order.
        left = Fields(
            [line for line, name in zip(self._lines, index, strict=True) if name not in gone]
        )
        index = left._index = index.copy()
        for name in gone:
            del index[name]
        return left

    def replacing(self, *lines: tuple[str, str], but: Collection[str] = ()) -> Fields:
        """Return these lines with `lines` in the place of all that have their names.

        Lines called as one of `but` are left out too.
        """
        return self.updated(Fields(lines), but=but)

    def updated(self, new: Fields, *, but: Collection[str] = ()) -> Fields:
        """Return these lines with those of `new` in the place of all that have their names.

        Lines called as one of `but` are left out too.
        """
        left: Fields = self.without(new.names | frozenset(but))
        both = Fields(left._lines + new._lines)
        # Only who has an index knows whether names are repeated.
        index = left._by_name() | new._by_name()
        if not left._repeated and not new._repeated:
            both._index = index
        return both

    def adding(self, name: str, value: str) -> Fields:
        """Return these lines and one more."""
        more = Fields((*self._lines, (name, value)))
        more.before = self
        return more

    def known(self, question: Callable[[Fields], A]) -> A:
        """Return what `question` answers about them, which is asked once: they never change."""
        answers = self._answers
        if answers is None:
            answers = self._answers = {}
        answer: A | None = answers.get(question)
        if answer is None:
            answer = answers[question] = question(self)
        return answer

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a line called `name`."""
        return name in (self._index or self._by_name())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Go through the lines."""
        return iter(self._lines)

    def __len__(self) -> int:
        """Count the lines."""
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        """Compare lines, their order and the case of their names included."""
        return isinstance(other, Fields) and self._lines == other._lines

    def __hash__(self) -> int:
        """Hash the lines."""
        return hash(self._lines)

    def __repr__(self) -> str:
        """Show the names only: values may be secrets."""
        return f"<Fields {', '.join(name for name, _ in self._lines)}>"

    def _by_name(self) -> dict[str, str]:
        index = self._index
        if index is None:
            if self.before is not None:
                index = self._index_with_one_more(self.before)
            else:
                index = {name.lower(): value for name, value in self._lines}
                if len(index) != len(self._lines):
                    index = self._index_of_repeated()
            self._index = index
        return index

    def _index_with_one_more(self, before: Fields) -> dict[str, str]:
        index, repeated = before._by_name().copy(), before._repeated
        name, value = self._lines[-1]
        name = name.lower()
        if name in index:
            repeated = {**repeated, name: (*before.get_all(name), value)}
            value = f"{index[name]}, {value}"
        index[name] = value
        self._repeated = repeated
        return index

    def _index_of_repeated(self) -> dict[str, str]:
        values: dict[str, list[str]] = {}
        for name, value in self._lines:
            values.setdefault(name.lower(), []).append(value)
        self._repeated = {name: tuple(all_) for name, all_ in values.items() if len(all_) > 1}
        return {name: ", ".join(all_) for name, all_ in values.items()}


def split_list(value: str) -> list[str]:
    """Split a comma-separated list (RFC 9110 §5.6.1); empty members are dropped.

    A comma inside a quoted string doesn't split. Where a quote isn't closed, nobody knows which
    commas are inside, so each one splits: no member may hide in a string that somebody left open.
    """
    quoted = '"' in value and _WELL_QUOTED.fullmatch(value)
    members = _MEMBER.findall(value) if quoted else value.split(",")
    return [stripped for member in members if (stripped := member.strip(_WHITESPACE))]


def unquote(value: str) -> str | None:
    """Return what a quoted string says (RFC 9110 §5.6.4); None if `value` is none."""
    match = _QUOTED_STRING.fullmatch(value)
    return None if match is None else _QUOTED_PAIR.sub(r"\1", match[1])


def field_names(value: str | None) -> frozenset[str]:
    """Read a list of field names, as in `Connection` and `Vary`, in lower case.

    There are no quoted strings in such a list, so a comma always splits.
    """
    return _names_in(value) if value is not None else _NO_NAMES


@remembered()
def _names_in(value: str) -> frozenset[str]:
    names = (name.strip(_WHITESPACE) for name in value.lower().split(","))
    return frozenset(name for name in names if name)


def content_length(fields: Fields) -> int | None:
    """Return the value of Content-Length (RFC 9110 §8.6); None if absent or not one number."""
    value = fields.get("content-length")
    if value is None:
        return None
    length = value
    if not value.isdigit():
        members = set(split_list(value))
        length = members.pop() if len(members) == 1 else ""
    # Nobody has a body whose length takes more digits; int() refuses thousands of them.
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None
