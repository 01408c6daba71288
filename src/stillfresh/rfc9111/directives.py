"""Cache-Control (RFC 9111 §5.2) as records.

Unknown directives are ignored (§5.2.3). A directive that comes twice with different arguments, or
with an argument that is no number where it takes one, is *suspicious*: of a response it counts as
stale (§4.2.1), of a request as asking for the fresher answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Final

from stillfresh.memo import remembered
from stillfresh.rfc9111.fields import DESCRIBING, TOKEN, Fields, field_names, split_list, unquote
from stillfresh.rfc9111.structured import Item, parse_dictionary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# §1.2.2: a value too large to be represented counts as this.
MAX_DELTA: Final = 2**31

# Those that field names may qualify (§5.2.2.4, §5.2.2.7).
_QUALIFIED: Final = frozenset({"no-cache", "private"})
# Those of a response that take a number of seconds.
_RESTRICTING: Final = _QUALIFIED | {"no-store", "must-revalidate", "proxy-revalidate"}
_TIMES: Final = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})


@dataclass(frozen=True, slots=True)
class RequestDirectives:
    """What a request asks of caches (§5.2.1, RFC 5861 §4). Times are in seconds."""

    max_age: int | None = None
    max_stale: int | None = None
    min_fresh: int | None = None
    stale_if_error: int | None = None
    no_cache: bool = False
    no_store: bool = False
    no_transform: bool = False
    only_if_cached: bool = False


@dataclass(frozen=True, slots=True)
class ResponseDirectives:
    """What a response allows caches (§5.2.2, RFC 5861, RFC 8246). Times are in seconds.

    `no_cache` and `private` are the unqualified directives; with field names they are in
    `no_cache_fields` and `private_fields`, in lower case. `targeted` tells that a targeted field
    says all this, in the place of Cache-Control and Expires (RFC 9213 §2.2).
    """

    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    immutable: bool = False
    must_revalidate: bool = False
    must_understand: bool = False
    no_cache: bool = False
    no_cache_fields: frozenset[str] = frozenset()
    no_store: bool = False
    no_transform: bool = False
    private: bool = False
    private_fields: frozenset[str] = frozenset()
    proxy_revalidate: bool = False
    public: bool = False
    targeted: bool = False


def request_directives(fields: Fields) -> RequestDirectives:
    """Read the directives of a request; `Pragma: no-cache` where it has none (§5.4)."""
    return fields.known(_asked)


def response_directives(fields: Fields, targets: Sequence[str] = ()) -> ResponseDirectives:
    """Read the directives of a response.

    The first of `targets` that says any speaks in the place of Cache-Control: names of targeted
    fields (RFC 9213), in lower case.
    """
    for name in targets:
        value = fields.get(name)
        said = None if value is None else _read_targeted(value)
        if said is not None:
            return said
    lines = fields.get_all("cache-control")
    return _read_response(lines) if lines else _NOTHING_SAID


def delta_seconds(argument: str | None) -> int | None:
    """Read a number of seconds (§1.2.2), at most `MAX_DELTA`; None if it isn't one."""
    if argument is None or not argument.isascii() or not argument.isdigit():
        return None
    # Any number of this many digits is too large, and int() would take its time over a long one.
    significant = argument.lstrip("0")
    return MAX_DELTA if len(significant) > 10 else min(int(significant or "0"), MAX_DELTA)


def _asked(fields: Fields) -> RequestDirectives:
    lines = fields.get_all("cache-control")
    if lines:
        return _read_request(lines)
    pragma = fields.get_all("pragma")
    return _read_pragma(pragma) if pragma else _NOTHING_ASKED


_NOTHING_ASKED: Final = RequestDirectives()
_NOTHING_SAID: Final = ResponseDirectives()


@remembered()
def _read_request(lines: tuple[str, ...]) -> RequestDirectives:
    found = _directives(lines)
    return RequestDirectives(
        max_age=_seconds(found, "max-age"),
        # Without an argument any staleness is fine (§5.2.1.2); a wrong argument is no consent.
        max_stale=MAX_DELTA
        if found.get("max-stale") == [None]
        else _valid_seconds(found, "max-stale"),
        min_fresh=_seconds(found, "min-fresh", suspicious=MAX_DELTA),
        stale_if_error=_valid_seconds(found, "stale-if-error"),
        no_cache="no-cache" in found,
        no_store="no-store" in found,
        no_transform="no-transform" in found,
        only_if_cached="only-if-cached" in found,
    )


# The field that every response has, and each origin its own.
@remembered(1 << 16)
def _read_response(lines: tuple[str, ...]) -> ResponseDirectives:
    return _response_directives(_directives(lines))


def _response_directives(found: Mapping[str, list[str | None]]) -> ResponseDirectives:
    no_cache, no_cache_fields = _qualified(found, "no-cache")
    private, private_fields = _qualified(found, "private")
    return ResponseDirectives(
        max_age=_seconds(found, "max-age"),
        s_maxage=_seconds(found, "s-maxage"),
        stale_while_revalidate=_valid_seconds(found, "stale-while-revalidate"),
        stale_if_error=_valid_seconds(found, "stale-if-error"),
        immutable="immutable" in found,
        must_revalidate="must-revalidate" in found,
        must_understand="must-understand" in found,
        no_cache=no_cache,
        no_cache_fields=no_cache_fields,
        no_store="no-store" in found,
        no_transform="no-transform" in found,
        private=private,
        private_fields=private_fields,
        proxy_revalidate="proxy-revalidate" in found,
        public="public" in found,
    )


@remembered()
def _read_targeted(value: str) -> ResponseDirectives | None:
    """Read a Dictionary of directives (RFC 9213 §2.1); None if it is invalid or says nothing.

    A time of another type counts as one that can't be right, as it does in Cache-Control; a string
    is taken for what is in it (RFC 9111 §5.2). Of what takes no argument, that which restricts does
    so whatever it is given, and all else only where it is true. What is false isn't said.
    """
    members = parse_dictionary(value)
    if not members:
        return None
    found: dict[str, list[str | None]] = {}
    for name, member in members.items():
        argument = member.value if isinstance(member, Item) else None
        if name in _TIMES:
            found[name] = [str(argument) if type(argument) in {int, str} else None]
        elif name in _QUALIFIED and type(argument) is str:
            found[name] = [argument]
        elif argument is True or (name in _RESTRICTING and argument is not False):
            found[name] = [None]
    return replace(_response_directives(found), targeted=True)


def _read_pragma(lines: tuple[str, ...]) -> RequestDirectives:
    return RequestDirectives(no_cache="no-cache" in _directives(lines))


def _directives(lines: tuple[str, ...]) -> dict[str, list[str | None]]:
    """Return the arguments of each directive by its name in lower case, without quotes.

    Lines are split one by one: a quote that one leaves open is not closed by another.
    """
    found: dict[str, list[str | None]] = {}
    for member in chain.from_iterable(map(split_list, lines)):
        name, equals, argument = member.partition("=")
        argument = argument.strip(" \t")
        unquoted = unquote(argument)
        found.setdefault(name.strip(" \t").lower(), []).append(
            None if not equals else argument if unquoted is None else unquoted
        )
    return found


def _seconds(
    found: Mapping[str, list[str | None]], name: str, *, suspicious: int = 0
) -> int | None:
    """Return the argument of a directive that limits what is fresh enough."""
    arguments = found.get(name)
    if arguments is None:
        return None
    seconds = delta_seconds(arguments[0]) if len(set(arguments)) == 1 else None
    return suspicious if seconds is None else seconds


def _valid_seconds(found: Mapping[str, list[str | None]], name: str) -> int | None:
    """Return the argument of a directive that grants something; a suspicious one grants nothing."""
    arguments = found.get(name)
    if arguments is None or len(set(arguments)) > 1:
        return None
    return delta_seconds(arguments[0])


def _qualified(found: Mapping[str, list[str | None]], name: str) -> tuple[bool, frozenset[str]]:
    """Tell whether a directive stands unqualified, and the field names where it doesn't.

    An argument without any field name in it, or with what can't be one, qualifies nothing; nor
    does one that names a field without which the body can't be read.
    """
    names: frozenset[str] = frozenset()
    arguments = found.get(name, [])
    unqualified = False
    for argument in arguments:
        listed = field_names(argument)
        unqualified |= not listed or not all(map(TOKEN.fullmatch, listed))
        unqualified |= not DESCRIBING.isdisjoint(listed)
        names |= listed
    return unqualified, names
