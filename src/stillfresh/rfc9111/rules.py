"""Rules: what a user wants otherwise than the responses of some URLs say.

A rule matches on what is known of an exchange and settles what it speaks of; of several that
match, the first one that speaks of a matter settles it. What breaks the RFC is said in the `Why`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from stillfresh.errors import ConfigError
from stillfresh.rfc9111.directives import ResponseDirectives

if TYPE_CHECKING:
    from stillfresh.rfc9111.messages import Response

_DEFAULTS: Final = ResponseDirectives()
# Of a pattern of URIs: scheme and authority.
_BEGINNING: Final = re.compile(r"[A-Za-z*][A-Za-z0-9+.*-]*://[^/?#\[\]]*")
_WITH_CONTENT: Final = frozenset({"POST", "QUERY"})
# The directives that a rule may ignore, and the attributes that keep them.
_IGNORABLE: Final = {
    field.name.replace("_", "-"): field.name
    for field in fields(ResponseDirectives)
    if not field.name.endswith("_fields") and field.name != "targeted"
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to do otherwise, and where.

    Attributes:
        url: matches the normalised URI: a pattern as of a shell (`https://api.example/*`), or a
            regular expression for all of it. A pattern is of the whole URI, so it begins with the
            scheme, whose case and the host's don't matter, or with `*`. Default: any.
        methods: the request methods it is for. Default: any.
        statuses: the status codes it is for. Default: any.
        content_types: patterns of media types without parameters (`image/*`). Default: any.
        fresh_for: the freshness lifetime, in seconds, whatever the response says (§4.2.1). A
            response that may not be stored needs `ignore` besides.
        fresh_by_default: the freshness lifetime, in seconds, of a response that gives none, in the
            place of a heuristic (§4.2.2).
        heuristic_fraction: as of `Policy`, for these responses (§4.2.2).
        heuristic_cap: as of `Policy`, for these responses.
        never_store: store nothing, and use nothing that is stored.
        always_revalidate: use what is stored only when the origin has said that it is good.
        ignore: response directives to go by as if they weren't there, such as `no-store`.
        key_without: names of query parameters that the key leaves out (§2); patterns too.
        key_with_content: the key is made of method and content too, and of what describes that
            (Content-Type, ...), so that what a POST, a QUERY or a GraphQL request is answered by
            can be stored (RFC 9110 §9.3.3). Without `methods` it is for POST and QUERY.

    Raises:
        ConfigError: a value is out of its range, or the key would depend on the response.
    """

    url: str | re.Pattern[str] | None = None
    methods: AbstractSet[str] | None = None
    statuses: Collection[int] | None = None
    content_types: AbstractSet[str] | None = None
    fresh_for: float | None = None
    fresh_by_default: float | None = None
    heuristic_fraction: float | None = None
    heuristic_cap: float | None = None
    never_store: bool = False
    always_revalidate: bool = False
    ignore: AbstractSet[str] = frozenset()
    key_without: AbstractSet[str] = frozenset()
    key_with_content: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name in ("methods", "statuses", "content_types", "ignore", "key_without"):
            value = getattr(self, name)
            if isinstance(value, str | bytes) or not isinstance(value, Iterable | None):
                msg = f"{name} is a set of several, not {value!r}"
                raise ConfigError(msg)
            if value is not None:
                object.__setattr__(self, name, frozenset(value))
        for name in ("fresh_for", "fresh_by_default", "heuristic_cap"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds >= 0:
                msg = f"{name} is a number of seconds, not {seconds!r}"
                raise ConfigError(msg)
        if self.heuristic_fraction is not None and not 0 <= self.heuristic_fraction <= 1:
            msg = f"heuristic_fraction is between 0 and 1, not {self.heuristic_fraction!r}"
            raise ConfigError(msg)
        if isinstance(self.url, str):
            object.__setattr__(self, "url", _as_normalised(self.url))
        unknown = self.ignore - _IGNORABLE.keys()
        if unknown:
            msg = f"no response directive is called {', '.join(sorted(unknown))}"
            raise ConfigError(msg)
        of_response = self.statuses is not None or self.content_types is not None
        if of_response and (self.key_without or self.key_with_content or self.never_store):
            msg = "the key, and whether to look at what is stored, can't depend on the response"
            raise ConfigError(msg)

    def is_for(self, url: str, method: str) -> bool:
        """Tell whether it matches a request."""
        if self.methods is not None and method not in self.methods:
            return False
        return self.is_for_url(url)

    def is_for_url(self, url: str) -> bool:
        """Tell whether it matches requests for a normalised URI, by some method."""
        return self.url is None or _pattern(self.url).fullmatch(url) is not None

    def is_for_response(self, response: Response) -> bool:
        """Tell whether what it says of responses matches this one."""
        if self.statuses is not None and response.status not in self.statuses:
            return False
        if self.content_types is None:
            return True
        media_type = (response.fields.get("content-type") or "").partition(";")[0].strip().lower()
        return any(fnmatch.fnmatchcase(media_type, wanted.lower()) for wanted in self.content_types)


# The names of CacheControl's heuristics, for who comes from there. What they do to the fields of a
# response, these do to the decision: what is handed out is what the origin has sent.

# The status codes of what CacheControl stores; it would keep an error for a day too, otherwise.
_KEPT: Final = frozenset({200, 203, 300, 301, 308})


class OneDayCache(Rule):
    """Fresh for a day where the response doesn't say for how long.

    CacheControl's goes by Expires alone, and puts aside any `Cache-Control`; here max-age is heeded
    as well, and so are no-store and no-cache.
    """

    __slots__ = ()

    def __init__(self, *, url: str | re.Pattern[str] | None = None) -> None:
        """Be for the URLs that `url` matches, as of a `Rule`."""
        super().__init__(url=url, statuses=_KEPT, fresh_by_default=86_400)


class ExpiresAfter(Rule):
    """Fresh for so long, whatever the response says: `ExpiresAfter(hours=1)`.

    As with CacheControl's, not even no-store and no-cache are heeded; but `private` is, which keeps
    users apart, and the time counts from when the response was made (Date, Age).
    """

    __slots__ = ()

    def __init__(self, *, url: str | re.Pattern[str] | None = None, **period: float) -> None:
        """Take the arguments of `datetime.timedelta`, and be for the URLs that `url` matches."""
        super().__init__(
            url=url,
            statuses=_KEPT,
            fresh_for=timedelta(**period).total_seconds(),
            ignore=frozenset({"no-cache", "no-store"}),
        )


class LastModified(Rule):
    """Fresh for a tenth of the time since it was modified, for a day at most (§4.2.2).

    That is what a `Policy` does anyway; the rule is for one that does otherwise.
    """

    __slots__ = ()

    def __init__(self, *, url: str | re.Pattern[str] | None = None) -> None:
        """Be for the URLs that `url` matches, as of a `Rule`."""
        super().__init__(url=url, heuristic_fraction=0.1, heuristic_cap=86_400)


class Terms(NamedTuple):
    """What the rules settle for one exchange."""

    fresh_for: float | None = None
    fresh_by_default: float | None = None
    heuristic_fraction: float | None = None
    heuristic_cap: float | None = None
    never_store: bool = False
    always_revalidate: bool = False
    ignore: frozenset[str] = frozenset()

    @property
    def gives_lifetime(self) -> bool:
        """Whether a rule says how long a response is fresh that doesn't say so itself."""
        return self.fresh_for is not None or self.fresh_by_default is not None


NO_TERMS: Final = Terms()


def terms(rules: Sequence[Rule], url: str, method: str, response: Response | None) -> Terms:
    """Return what `rules` settle; of a response nothing is settled before there is one."""
    of_request = [rule for rule in rules if rule.is_for(url, method)]
    of_response = (
        [] if response is None else [rule for rule in of_request if rule.is_for_response(response)]
    )
    return Terms(
        _first(rule.fresh_for for rule in of_response),
        _first(rule.fresh_by_default for rule in of_response),
        _first(rule.heuristic_fraction for rule in of_response),
        _first(rule.heuristic_cap for rule in of_response),
        any(rule.never_store for rule in of_request),
        any(rule.always_revalidate for rule in of_response),
        next((frozenset(rule.ignore) for rule in of_response if rule.ignore), frozenset()),
    )


def ignored_parameters(rules: Sequence[Rule], url: str, method: str) -> frozenset[str]:
    """Return the query parameters that the key of a request leaves out."""
    for rule in rules:
        if rule.key_without and rule.is_for(url, method):
            return frozenset(rule.key_without)
    return frozenset()


def keys_content(rules: Sequence[Rule], url: str, method: str) -> bool:
    """Tell whether the key of a request is made of its content too.

    Only a rule that names others makes it so for more than POST and QUERY: what a DELETE does must
    be done each time.
    """
    return any(
        rule.key_with_content
        and (rule.methods is not None or method in _WITH_CONTENT)
        and rule.is_for(url, method)
        for rule in rules
    )


def may_key_content(rules: Sequence[Rule], url: str) -> bool:
    """Tell whether there may be responses to requests with content for a URI."""
    return any(rule.key_with_content and rule.is_for_url(url) for rule in rules)


def _first(said: Iterable[float | None]) -> float | None:
    return next((seconds for seconds in said if seconds is not None), None)


def without(said: ResponseDirectives, ignored: frozenset[str]) -> ResponseDirectives:
    """Return directives as if those of these names had not been there."""
    # With field names they may be of any length. That is rare, and not worth remembering.
    if said.no_cache_fields or said.private_fields:
        return _without(said, ignored)
    return _remembered_without(said, ignored)


def _without(said: ResponseDirectives, ignored: frozenset[str]) -> ResponseDirectives:
    names = {_IGNORABLE[name] for name in ignored}
    names |= {f"{name}_fields" for name in names & {"no_cache", "private"}}
    changes = {name: getattr(_DEFAULTS, name) for name in names}
    return replace(said, **changes)


_remembered_without: Final = lru_cache(maxsize=256)(_without)


def _as_normalised(pattern: str) -> str:
    """Return a pattern as URIs are normalised: scheme and host in lower case (RFC 3986 §6.2.2.1).

    Raises:
        ConfigError: no URI can match it.
    """
    found = _BEGINNING.match(pattern)
    if found is not None:
        return found[0].lower() + pattern[found.end() :]
    if not pattern.startswith(("*", "?", "[")):
        msg = f"{pattern!r} is no URL: begin with the scheme ('https://{pattern}') or with '*'"
        raise ConfigError(msg)
    return pattern


@lru_cache(maxsize=256)
def _pattern(url: str | re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(url)) if isinstance(url, str) else url
