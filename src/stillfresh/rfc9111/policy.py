"""The user's settings, and the two questions a cache asks.

`on_request`: may the stored response answer this request? `on_response`: what becomes of what the
origin said? Both are pure: the same arguments give the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stillfresh.errors import ConfigError
from stillfresh.rfc9111 import freshness, storing, validation
from stillfresh.rfc9111.decisions import (
    Forward,
    Forwarded,
    Pass,
    Reason,
    Refresh,
    RequestDecision,
    ResponseDecision,
    Revalidate,
    Serve,
    Store,
    Unsatisfiable,
    Why,
    why,
)
from stillfresh.rfc9111.directives import request_directives, response_directives
from stillfresh.rfc9111.fields import content_length
from stillfresh.rfc9111.keys import CREDENTIALS, primary_key, vary_names
from stillfresh.rfc9111.messages import Request, Response, StoredResponse

if TYPE_CHECKING:
    from stillfresh.rfc9111.directives import RequestDirectives, ResponseDirectives
    from stillfresh.rfc9111.freshness import Lifetime

_DAY: Final = 86_400.0
_LOOKED_UP: Final = frozenset({"GET", "HEAD"})
_STORED: Final = frozenset({"GET"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a user may decide. The defaults are those of a private cache that keeps to the letter.

    Attributes:
        shared: serve more than one user (§3.5, §5.2.2.7, §5.2.2.10). Default: private.
        heuristic_fraction: the part of a response's age since Last-Modified for which it is fresh
            where nothing says how long (§4.2.2). 0 turns heuristics off. Default: 0.1.
        heuristic_cap: the longest such time, in seconds. Default: one day.
        max_body: bodies longer than this many bytes are not stored. Default: no limit.
        isolate: names of request fields that keep users apart, beside Authorization (always) and
            Cookie (for responses that are `private`). Their values are kept as digests.
        secret: the key of those digests, at least 16 bytes. Caches on several machines that are
            to share what credentials selected need the same one. Default: a random one, kept in
            the cache.

    Raises:
        ConfigError: a value is out of its range.
    """

    shared: bool = False
    heuristic_fraction: float = 0.1
    heuristic_cap: float = _DAY
    max_body: int | None = None
    isolate: frozenset[str] = frozenset()
    secret: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 <= self.heuristic_fraction <= 1:
            msg = f"heuristic_fraction is between 0 and 1, not {self.heuristic_fraction!r}"
            raise ConfigError(msg)
        if not self.heuristic_cap >= 0:
            msg = f"heuristic_cap is a number of seconds, not {self.heuristic_cap!r}"
            raise ConfigError(msg)
        if self.max_body is not None and self.max_body < 0:
            msg = f"max_body is a number of bytes or None, not {self.max_body!r}"
            raise ConfigError(msg)
        if self.secret is not None and len(self.secret) < 16:
            msg = "secret has at least 16 bytes"
            raise ConfigError(msg)
        object.__setattr__(self, "isolate", frozenset(name.lower() for name in self.isolate))

    def __repr__(self) -> str:
        """Show what differs from the defaults, but never the secret."""
        shown = [
            f"{name}={getattr(self, name)!r}"
            for name in ("shared", "heuristic_fraction", "heuristic_cap", "max_body", "isolate")
            if getattr(self, name) != getattr(_DEFAULT, name)
        ]
        if self.secret is not None:
            shown.append("secret=...")
        return f"Policy({', '.join(shown)})"

    @property
    def concealed(self) -> frozenset[str]:
        """The request fields whose values are kept as digests only."""
        return CREDENTIALS | self.isolate if self.isolate else CREDENTIALS

    def looks_up(self, request: Request) -> bool:
        """Tell whether what is stored may have a part in answering (§4)."""
        return request.method in _LOOKED_UP

    def selecting_names(self, response: Response) -> frozenset[str]:
        """Return the request fields that select a response: Vary's, and those that isolate."""
        said = response_directives(response.fields)
        names = vary_names(response.fields) | self.isolate
        if not (self.shared and storing.is_for_everybody(said)):
            names |= {"authorization"}
        if said.private:
            names |= {"cookie"}
        return names

    def lifetime(self, stored: StoredResponse) -> Lifetime:
        """Return the freshness lifetime of a stored response (§4.2.1)."""
        said = response_directives(stored.response.fields)
        return self._lifetime(stored.response, said, stored.response_time)

    def on_request(
        self,
        request: Request,
        stored: StoredResponse | None,
        now: float,
        *,
        missed: Forwarded = Forwarded.URI_MISS,
    ) -> RequestDecision:
        """Decide what to do with a request, given the stored response that it selects (§4).

        `missed` says what kind of miss it is where there is none: of the URI or of the variant.
        """
        if not self.looks_up(request):
            return Forward(why(Reason.METHOD, request.method), Forwarded.METHOD)
        asked = request_directives(request.fields)
        own = _asks_for_itself(request)
        if own is not None:
            if asked.only_if_cached:
                return Unsatisfiable(why(Reason.ONLY_IF_CACHED, own.sentence))
            return Forward(own, Forwarded.REQUEST)
        if stored is None:
            return _nothing(asked, missed)
        said = response_directives(stored.response.fields)
        age = freshness.current_age(stored, now)
        limit = self._lifetime(stored.response, said, stored.response_time)
        ttl = limit.seconds - age
        obstacle = self._obstacle(asked, said, age, limit)
        if obstacle is None:
            detail = f"{limit.source}, age {age:.0f}"
            if ttl > 0:
                reason = Why(Reason.FRESH, f"fresh: {detail}")
            else:
                reason = Why(Reason.STALE_ALLOWED, f"stale: {detail}, max-stale={asked.max_stale}")
            return Serve(reason, with_age(stored.response, age), age, ttl)
        if asked.only_if_cached:
            return Unsatisfiable(why(Reason.ONLY_IF_CACHED, obstacle.sentence))
        kind = Forwarded.REQUEST if ttl > 0 and _is_of_request(obstacle) else Forwarded.STALE
        conditions = validation.validators(stored.response)
        # What a 304 says would be stored, which a request with no-store forbids (§5.2.1.5).
        if request.method == "HEAD" or asked.no_store or not conditions:
            return Forward(obstacle, kind)
        asking = request._replace(fields=request.fields.replacing(*conditions))
        return Revalidate(obstacle, asking, kind)

    def on_response(
        self,
        request: Request,
        response: Response,
        stored: StoredResponse | None,
        request_time: float,
        response_time: float,
    ) -> ResponseDecision:
        """Decide what becomes of a response to `request`, sent on at `request_time` (§3, §4.3).

        `stored` is the stored response that the request selects. A 304 is about it only where the
        request carries the cache's own conditions; one to conditions of the caller's never gets
        here with a `stored`.
        """
        asked = request_directives(request.fields)
        said = response_directives(response.fields)
        if stored is not None and response.status == 304:
            if not validation.not_modified_is_about(stored, response):
                return Pass(why(Reason.OTHER_NOT_MODIFIED), drop=True)
            return self._refreshed(
                Reason.NOT_MODIFIED, request, stored, response, request_time, response_time
            )
        if stored is not None and request.method == "HEAD" and response.status == 200:
            if not validation.head_agrees(stored, response):
                return Pass(why(Reason.HEAD_DISAGREES), drop=True)
            return self._refreshed(
                Reason.HEAD_AGREES, request, stored, response, request_time, response_time
            )
        refused = storing.refusal(
            request,
            response,
            asked,
            said,
            shared=self.shared,
            methods=_STORED,
        )
        if refused is not None:
            # What a newer answer may not be kept is no reason to go on with an older one.
            superseded = refused.reason in {Reason.RESPONSE_NO_STORE, Reason.PRIVATE}
            return Pass(refused, drop=superseded and stored is not None)
        if "transfer-encoding" in response.fields:
            # It overrides Content-Length (RFC 9112 §6.3), which then says nothing about the body.
            response = response._replace(fields=response.fields.without({"content-length"}))
        length = content_length(response.fields)
        if self.max_body is not None and length is not None and length > self.max_body:
            return Pass(why(Reason.TOO_LARGE, f"{length} bytes of at most {self.max_body}"))
        limit = self._lifetime(response, said, response_time)
        useful = limit.seconds > 0 or validation.validators(response)
        if not useful and not said.stale_while_revalidate and not said.stale_if_error:
            return Pass(why(Reason.NO_USE, limit.source), drop=stored is not None)
        kept = StoredResponse(
            url=primary_key(request.url),
            response=response._replace(
                fields=storing.storable_fields(
                    response.fields, said, response_time, shared=self.shared
                )
            ),
            request_time=request_time,
            response_time=response_time,
        )
        return Store(why(Reason.STORABLE, limit.source), kept)

    def _obstacle(
        self,
        asked: RequestDirectives,
        said: ResponseDirectives,
        age: float,
        limit: Lifetime,
    ) -> Why | None:
        """Return what keeps a stored response from being served as it is, or None (§4)."""
        if asked.no_cache:
            return why(Reason.REQUEST_NO_CACHE)
        if said.no_cache:
            return why(Reason.RESPONSE_NO_CACHE)
        if asked.max_age is not None and age > asked.max_age:
            return why(Reason.REQUEST_MAX_AGE, f"max-age={asked.max_age}, age {age:.0f}")
        ttl = limit.seconds - age
        if asked.min_fresh is not None and ttl < asked.min_fresh:
            detail = f"min-fresh={asked.min_fresh}, fresh for {max(0.0, ttl):.0f}"
            return why(Reason.REQUEST_MIN_FRESH, detail)
        if ttl > 0:
            return None
        if (
            asked.max_stale is not None
            and -ttl <= asked.max_stale
            and not self._must_not_be_stale(said)
        ):
            return None
        return Why(Reason.STALE, f"stale: {limit.source}, age {age:.0f}")

    def _must_not_be_stale(self, said: ResponseDirectives) -> bool:
        """Tell whether the response forbids to be served stale (§4.2.4)."""
        if said.must_revalidate:
            return True
        # §5.2.2.10: s-maxage carries the meaning of proxy-revalidate.
        return self.shared and (said.proxy_revalidate or said.s_maxage is not None)

    def _refreshed(
        self,
        reason: Reason,
        request: Request,
        stored: StoredResponse,
        response: Response,
        request_time: float,
        response_time: float,
    ) -> ResponseDecision:
        now_stored = validation.updated(
            stored, response, request_time, response_time, shared=self.shared
        )
        refused = storing.prohibition(
            request,
            now_stored.response.status,
            request_directives(request.fields),
            response_directives(now_stored.response.fields),
            shared=self.shared,
        )
        if refused is not None:
            return Pass(refused, drop=refused.reason is not Reason.REQUEST_NO_STORE)
        return Refresh(why(reason), now_stored)

    def _lifetime(self, response: Response, said: ResponseDirectives, received: float) -> Lifetime:
        return freshness.lifetime(
            response,
            said,
            received,
            shared=self.shared,
            heuristic_fraction=self.heuristic_fraction,
            heuristic_cap=self.heuristic_cap,
        )


_DEFAULT: Final = Policy()


def with_age(response: Response, age: float) -> Response:
    """Return the head of a stored response as it is sent: with its age (§4, §5.1)."""
    fields = response.fields.replacing(("Age", str(int(age))))
    return Response(response.status, fields, response.reason, response.version)


def _asks_for_itself(request: Request) -> Why | None:
    if "range" in request.fields:
        return why(Reason.RANGE)
    if validation.has_preconditions(request):
        return why(Reason.PRECONDITION)
    if storing.has_content(request):
        return why(Reason.REQUEST_CONTENT)
    return None


def _nothing(asked: RequestDirectives, missed: Forwarded) -> RequestDecision:
    reason = why(
        Reason.NOT_SELECTED if missed is Forwarded.VARY_MISS else Reason.NO_STORED,
    )
    if asked.only_if_cached:
        return Unsatisfiable(why(Reason.ONLY_IF_CACHED, reason.sentence))
    return Forward(reason, missed)


def _is_of_request(reason: Why) -> bool:
    return reason.reason in {
        Reason.REQUEST_NO_CACHE,
        Reason.REQUEST_MAX_AGE,
        Reason.REQUEST_MIN_FRESH,
    }
