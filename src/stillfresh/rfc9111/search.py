"""No-Vary-Search (draft-ietf-httpbis-no-vary-search): which parameters of a query matter.

The syntax is that of the draft's earlier revisions, which browsers read; by the latest, `except`
comes without `params`, and `params` only with a list. URLs that differ only in what doesn't matter
are equivalent (§6): here, they are equal once `reduced`.
"""

from __future__ import annotations

import re
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, unquote_plus, urlencode

from stillfresh.memo import remembered
from stillfresh.rfc9111.structured import InnerList, Item, parse_dictionary, strings

if TYPE_CHECKING:
    from stillfresh.rfc9111.structured import Member

_NO_NAMES: Final[frozenset[str]] = frozenset()
_FALSE: Final = Item(False, {})
_NOTHING: Final = InnerList((), {})
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


class SearchVariance(NamedTuple):
    """Which parameters a response varies by, and whether their order matters (§4).

    Attributes:
        ignored: names of parameters that don't matter; None if only those that are `kept` do.
        kept: names of parameters that matter where all others are ignored.
        ordered: the order matters of parameters with different names; of equal ones it always does.
    """

    ignored: frozenset[str] | None
    kept: frozenset[str]
    ordered: bool


_DEFAULT: Final = SearchVariance(_NO_NAMES, _NO_NAMES, ordered=True)


def search_variance(value: str | None) -> SearchVariance | None:
    """Read the field (§5.1). None is the default: all of the query matters, as it is written.

    The default is also what a field stands for that isn't valid: it costs no more than a miss.
    """
    return None if value is None else _read(value)


@remembered()
def _read(value: str) -> SearchVariance | None:
    members = parse_dictionary(value)
    if not members:
        return None
    unordered = _boolean(members.get("key-order", _FALSE))
    params = members.get("params", Item("except" in members, {}))
    everything = _boolean(params)
    listed = _names(params) if everything is None else _NO_NAMES
    kept = _names(members.get("except", _NOTHING))
    if unordered is None or listed is None or kept is None:
        return None
    if "except" in members and not everything:
        return None
    variance = SearchVariance(None if everything else listed, kept, ordered=not unordered)
    return None if variance == _DEFAULT else variance


def reduced(url: str, variance: SearchVariance) -> str:
    """Return `url`, a primary key, with the parameters that matter, in one way to write them (§6).

    Parameters are read and written as application/x-www-form-urlencoded.
    """
    # What follows a "#" is of the key: the content of the request.
    url, hash_sign, fragment = url.partition("#")
    rest, _, query = url.partition("?")
    # No URL can say a lone surrogate; read as UTF-8, its encoding stands for U+FFFD.
    query = _SURROGATES.sub("\ufffd", query)
    ignored, kept, ordered = variance
    parameters = [
        parameter
        for parameter in parse_qsl(query, keep_blank_values=True)
        if (parameter[0] in kept if ignored is None else parameter[0] not in ignored)
    ]
    if not ordered:
        parameters.sort(key=itemgetter(0))
    base = f"{rest}?{urlencode(parameters)}" if parameters else rest
    return f"{base}{hash_sign}{fragment}"


def _boolean(member: Member) -> bool | None:
    return member.value if isinstance(member, Item) and isinstance(member.value, bool) else None


def _names(member: Member) -> frozenset[str] | None:
    """Return the names that an inner list of Strings stands for (§5.3)."""
    names = strings(member.items) if isinstance(member, InnerList) else None
    return None if names is None else frozenset(map(unquote_plus, names))
