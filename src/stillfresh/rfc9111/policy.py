"""The user's settings, and the questions a cache asks of them.

`on_request`: may the stored response answer this request? `on_response`: what becomes of what the
origin said? `on_failure`: and if it says nothing? All are pure: the same arguments give the same
answer. The answers are worked out in `reuse` and `reception`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from stillfresh.errors import ConfigError
from stillfresh.rfc9111 import freshness, keys, reception, reuse, rules, storing
from stillfresh.rfc9111.decisions import Forwarded
from stillfresh.rfc9111.directives import response_directives
from stillfresh.rfc9111.keys import CREDENTIALS, vary_names

if TYPE_CHECKING:
    from stillfresh.rfc9111.decisions import (
        RequestDecision,
        ResponseDecision,
        Serve,
        Store,
        Why,
    )
    from stillfresh.rfc9111.directives import ResponseDirectives
    from stillfresh.rfc9111.freshness import Lifetime
    from stillfresh.rfc9111.messages import Request, Response, StoredResponse
    from stillfresh.rfc9111.rules import Rule, Terms

_DAY: Final = 86_400.0
_CACHED: Final = frozenset({"GET", "HEAD"})
_CDN: Final = ("CDN-Cache-Control",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a user may decide. The defaults are those of a private cache that keeps to the letter.

    Names, codes and rules are given in whatever holds several, and kept in frozensets and tuples.

    Attributes:
        shared: serve more than one user (§3.5, §5.2.2.7, §5.2.2.10). Default: private.
        heuristic_fraction: the part of a response's age since Last-Modified for which it is fresh
            where nothing says how long (§4.2.2). 0 turns heuristics off. Default: 0.1.
        heuristic_cap: the longest such time, in seconds. Default: one day.
        methods: of GET and HEAD, those that are answered from the cache (§4). Default: both.
            Others are by a rule with `key_with_content`.
        statuses: the only status codes to be stored (§3). Default: all that the RFC allows.
        max_body: bodies longer than this many bytes are not stored. Default: no limit.
        stale_while_revalidate: for how many seconds a stale response is served at once and
            validated behind (RFC 5861 §3). Default: as each response says; 0 is never.
        stale_if_error: for how many seconds a stale response stands in where the origin fails or
            can't be reached (RFC 5861 §4, §4.2.4). Default: as each response and request says; 0
            is never.
        isolate: names of request fields that keep users apart, beside Authorization (always) and
            Cookie (for responses that are `private`). Their values are kept as digests.
        secret: the key of those digests, at least 16 bytes. Caches on several machines that are
            to share what credentials selected need the same one. Default: a random one, kept in
            the cache.
        targets: the fields that speak to this cache in the place of Cache-Control and Expires,
            the most specific first (RFC 9213). Default: CDN-Cache-Control for a shared cache,
            none for a private one.
        match_language: where a response varies by Accept-Language, give it also to a request
            whose one most wanted language it is in (Content-Language). Default: no, since that
            is more than §4.1 says.
        collapse_wait: for how many seconds a request waits for another that is fetching the same,
            so that many at once make one to the origin (§4). 0 is never, a day the most. Default:
            five seconds.
        rules: what is otherwise for some URLs; the first that speaks of a matter settles it.
            `OneDayCache`, `ExpiresAfter` and `LastModified` are some that CacheControl has.

    Raises:
        ConfigError: a value is out of its range.
    """

    shared: bool = False
    heuristic_fraction: float = 0.1
    heuristic_cap: float = _DAY
    methods: AbstractSet[str] = _CACHED
    statuses: Collection[int] | None = None
    max_body: int | None = None
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None
    isolate: AbstractSet[str] = frozenset()
    secret: bytes | None = None
    targets: Sequence[str] | None = None
    match_language: bool = False
    collapse_wait: float = 5.0
    rules: Sequence[Rule] = ()
    # The request fields whose values are kept as digests only.
    concealed: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 <= self.heuristic_fraction <= 1:
            _refuse("heuristic_fraction is between 0 and 1", self.heuristic_fraction)
        if not self.heuristic_cap >= 0:
            _refuse("heuristic_cap is a number of seconds", self.heuristic_cap)
        if self.max_body is not None and self.max_body < 0:
            _refuse("max_body is a number of bytes or None", self.max_body)
        for name in ("stale_while_revalidate", "stale_if_error"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds >= 0:
                _refuse(f"{name} is a number of seconds or None", seconds)
        if not 0 <= self.collapse_wait <= _DAY:
            _refuse("collapse_wait is a number of seconds, a day at most", self.collapse_wait)
        if self.secret is not None and len(self.secret) < 16:
            msg = "secret has at least 16 bytes"
            raise ConfigError(msg)
        for name in ("methods", "statuses", "isolate", "targets", "rules"):
            value = getattr(self, name)
            if value is None and name in {"statuses", "targets"}:
                continue
            if isinstance(value, str | bytes) or not isinstance(value, Iterable):
                _refuse(f"{name} takes several", value)
        put = object.__setattr__
        put(self, "methods", frozenset(self.methods))
        if not self.methods <= _CACHED:
            _refuse("methods are of GET and HEAD", sorted(self.methods - _CACHED))
        if self.statuses is not None:
            put(self, "statuses", frozenset(self.statuses))
        put(self, "isolate", frozenset(name.lower() for name in self.isolate))
        put(self, "concealed", CREDENTIALS | self.isolate)
        targets = (_CDN if self.shared else ()) if self.targets is None else self.targets
        put(self, "targets", tuple(name.lower() for name in targets))
        put(self, "rules", tuple(self.rules))

    def __repr__(self) -> str:
        """Show what differs from the defaults, but never the secret."""
        shown = [
            f"{name}={'...' if name == 'secret' else repr(value)}"
            for name, value in (
                (one.name, getattr(self, one.name)) for one in fields(self) if one.repr
            )
            if value != getattr(_DEFAULTS[self.shared], name) or (name == "shared" and value)
        ]
        return f"Policy({', '.join(shown)})"

    # What the engine wants to know before it can ask.

    def primary_key(self, request: Request) -> str:
        """Return the primary key of a request (§2), by the rules.

        Raises:
            ValueError: its URL is no absolute one with a host.
        """
        url = keys.primary_key(request.url)
        if not self.rules:
            return url
        ignored = rules.ignored_parameters(self.rules, url, request.method)
        key = keys.without_parameters(url, ignored) if ignored else url
        if self._keys_content(url, request):
            content = request.content or b""
            key = keys.with_content(key, request.method, content, request.fields)
        return key

    def wants_content(self, method: str, url: str) -> bool:
        """Tell whether the key of such a request is made of its content too."""
        if not self.rules:
            return False
        try:
            return rules.keys_content(self.rules, keys.primary_key(url), method)
        except ValueError:
            return False

    def looks_up(self, request: Request) -> bool:
        """Tell whether what is stored may have a part in answering (§4)."""
        if not self.rules:
            return request.method in self.methods
        url = keys.primary_key(request.url)
        if rules.terms(self.rules, url, request.method, None).never_store:
            return False
        return request.method in self.methods or self._keys_content(url, request)

    def stores(self, request: Request) -> bool:
        """Tell whether responses to such a request may be stored (§3)."""
        if request.method == "GET":
            return "GET" in self.methods
        return bool(self.rules) and self._keys_content(keys.primary_key(request.url), request)

    def collapses(self, request: Request) -> bool:
        """Tell whether such a request may wait for another one's response, or be waited for (§4).

        Not if all that it could be given is its own: a part, the answer to a condition, what the
        origin says now.
        """
        return self.collapse_wait > 0 and self.stores(request) and reuse.may_share(self, request)

    def said(self, request: Request, response: Response) -> ResponseDirectives:
        """Return what a response says to this cache, by the rules (§5.2.2, RFC 9213)."""
        said = response_directives(response.fields, self.targets or ())
        if not self.rules:
            return said
        ignored = self.terms(request, response).ignore
        return rules.without(said, ignored) if ignored else said

    def terms(self, request: Request, response: Response | None) -> Terms:
        """Return what the rules settle for an exchange."""
        if not self.rules:
            return rules.NO_TERMS
        url = keys.primary_key(request.url)
        return rules.terms(self.rules, url, request.method, response)

    def selecting_names(self, request: Request, response: Response) -> frozenset[str]:
        """Return the request fields that select a response: Vary's, and those that isolate."""
        said = self.said(request, response)
        names = vary_names(response.fields) | self.isolate
        if not (self.shared and storing.is_for_everybody(said)):
            names |= {"authorization"}
        if said.private:
            names |= {"cookie"}
        return names

    def lifetime(self, request: Request, stored: StoredResponse) -> Lifetime:
        """Return the freshness lifetime of a stored response (§4.2.1)."""
        return self.understood(request, stored)[1]

    def understood(
        self, request: Request, stored: StoredResponse
    ) -> tuple[ResponseDirectives, Lifetime]:
        """Return what a stored response says to this cache, and its freshness lifetime."""
        if not self.rules:
            # Then neither depends on the request.
            return stored.known(
                _understood,
                self.targets or (),
                self.shared,
                self.heuristic_fraction,
                self.heuristic_cap,
            )
        response = stored.response
        said = self.said(request, response)
        return said, self._lifetime_of(request, response, said, stored.response_time)

    def _lifetime_of(
        self, request: Request, response: Response, said: ResponseDirectives, received: float
    ) -> Lifetime:
        """Return the freshness lifetime of a response received at `received`."""
        terms = self.terms(request, response)
        fraction, cap = terms.heuristic_fraction, terms.heuristic_cap
        own = freshness.lifetime(
            response,
            said,
            received,
            shared=self.shared,
            heuristic_fraction=self.heuristic_fraction if fraction is None else fraction,
            heuristic_cap=self.heuristic_cap if cap is None else cap,
            by_default=terms.fresh_by_default,
        )
        ruled = terms.fresh_for
        if ruled is None:
            return own
        return freshness.Lifetime(ruled, f"{ruled:.0f} by a rule", against=ruled > own.seconds)

    # The questions.

    def on_request(
        self,
        request: Request,
        stored: StoredResponse | None,
        now: float,
        *,
        size: int | None = None,
        missed: Forwarded = Forwarded.URI_MISS,
    ) -> RequestDecision:
        """Decide what to do with a request, given the stored response that it selects (§4).

        `size` is how many bytes of body are stored. `missed` says what kind of miss it is where
        there is no stored response: of the URI or of the variant.
        """
        return reuse.decide(self, request, stored, now, size, missed)

    def stands(self, request: Request, decision: Serve) -> bool:
        """Tell whether that is the decision on such a request for as long as it is fresh (§4.2)."""
        return reuse.stands(self, request, decision)

    def again(
        self, request: Request, stored: StoredResponse, now: float, last: Serve
    ) -> Serve | None:
        """Decide as `on_request` on a request about which `last` stands; None if that is over."""
        return reuse.again(self, request, stored, now, last)

    def answer(
        self, request: Request, stored: StoredResponse, now: float, size: int | None, reason: Why
    ) -> Serve | None:
        """Answer with a response that has just been validated; None if it has not all of it."""
        return reuse.answer(self, request, stored, now, size, reason)

    def on_failure(
        self,
        request: Request,
        stored: StoredResponse,
        now: float,
        failure: str,
        *,
        size: int | None = None,
    ) -> Serve | None:
        """Decide whether a stored response stands in for an origin that failed (§4.2.4)."""
        return reuse.on_failure(self, request, stored, now, size, failure)

    def on_response(
        self,
        request: Request,
        response: Response,
        stored: StoredResponse | None,
        request_time: float,
        response_time: float,
    ) -> ResponseDecision:
        """Decide what becomes of a response to `request`, sent on at `request_time` (§3, §4.3).

        `stored` is the stored response that the request selects.
        """
        return reception.decide(self, request, response, stored, request_time, response_time)

    def on_completion(
        self,
        request: Request,
        response: Response,
        stored: StoredResponse,
        request_time: float,
        response_time: float,
    ) -> Store | None:
        """Decide whether a 206 is the rest of a stored part (§3.4); None if it is not."""
        return reception.complete(self, request, response, stored, request_time, response_time)

    def useful_for(self, request: Request, stored: StoredResponse) -> float:
        """Tell for how many seconds from its arrival a response may be of use.

        That is while it is fresh, while it may be served stale (RFC 5861), and for a while in
        which the origin may well confirm it (§4.3): as long again as it was fresh, at least a week
        and at most thirty days.
        """
        return reuse.useful_for(self, request, stored)

    def may_key_content(self, url: str) -> bool:
        """Tell whether responses to contents may be stored for a URI, whatever the method."""
        return bool(self.rules) and rules.may_key_content(self.rules, keys.primary_key(url))

    def keys_content(self, request: Request) -> bool:
        """Tell whether the key of this request is made of its content too."""
        return bool(self.rules) and self._keys_content(keys.primary_key(request.url), request)

    def _keys_content(self, url: str, request: Request) -> bool:
        return request.content is not None and rules.keys_content(self.rules, url, request.method)


def _understood(
    stored: StoredResponse,
    targets: Sequence[str],
    shared: bool,  # noqa: FBT001 - one of the details that it is asked with
    heuristic_fraction: float,
    heuristic_cap: float,
) -> tuple[ResponseDirectives, Lifetime]:
    response = stored.response
    said = response_directives(response.fields, targets)
    return said, freshness.lifetime(
        response,
        said,
        stored.response_time,
        shared=shared,
        heuristic_fraction=heuristic_fraction,
        heuristic_cap=heuristic_cap,
    )


def _refuse(expected: str, value: Any) -> None:
    msg = f"{expected}, not {value!r}"
    raise ConfigError(msg)


_DEFAULTS: Final = {shared: Policy(shared=shared) for shared in (False, True)}
