"""What the tables here are made of: requests, responses and stored responses in few words.

A field line is written as on the wire, `"Cache-Control: max-age=60"`. All times are relative to
`NOW`, and dates are written by the standard library, not by the code under test.
"""

from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

import pytest

from stillfresh.rfc9111.decisions import (
    Forward,
    Forwarded,
    Refresh,
    RequestDecision,
    ResponseDecision,
    Revalidate,
    Serve,
    Store,
)
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.keys import CREDENTIALS, is_selected, selection_of
from stillfresh.rfc9111.messages import Request, Response, Selection, StoredResponse
from stillfresh.rfc9111.policy import Policy
from stillfresh.rfc9111.ranges import Part, complete_head

NOW = 1_700_000_000.0
URL = "https://example.org/a"
PRIVATE = Policy()
SHARED = Policy(shared=True)
BOTH = pytest.mark.parametrize(
    "policy", [pytest.param(PRIVATE, id="private"), pytest.param(SHARED, id="shared")]
)


def table(rows: Mapping[str, object]) -> list[Any]:
    """Make the rows of a parametrized test, each with the sentence that it stands for."""
    return [
        pytest.param(*(row if type(row) is tuple else (row,)), id=sentence)
        for sentence, row in rows.items()
    ]


def date(seconds: float = 0) -> str:
    """Write the moment so many seconds after `NOW` (before it, if negative)."""
    return formatdate(NOW + seconds, usegmt=True)


def fields(*lines: str) -> Fields:
    split = (line.partition(":") for line in lines)
    return Fields((name, value.removeprefix(" ")) for name, _, value in split)


def get(*lines: str, method: str = "GET", url: str = URL) -> Request:
    return Request(method, url, fields(*lines))


def head(*lines: str) -> Request:
    return get(*lines, method="HEAD")


def response(*lines: str, status: int = 200) -> Response:
    """Make a response generated at `NOW`, unless it has a Date of its own."""
    has_date = any(line.lower().startswith("date:") for line in lines)
    return Response(status, fields(*lines) if has_date else fields(f"Date: {date()}", *lines))


def undated(*lines: str, status: int = 200) -> Response:
    return Response(status, fields(*lines))


def received(
    response: Response,
    request: Request | None = None,
    stored: StoredResponse | None = None,
    *,
    policy: Policy = PRIVATE,
    after: float = 0,
    took: float = 0,
) -> ResponseDecision:
    """Tell what becomes of a response that comes `after` seconds, having taken `took` of them."""
    at = NOW + after
    return policy.on_response(request or get(), response, stored, at - took, at)


def stored(
    response: Response,
    request: Request | None = None,
    *,
    policy: Policy = PRIVATE,
    took: float = 0,
) -> StoredResponse:
    """Return what is stored of a response that comes at `NOW`, with what selected it."""
    request = request or get()
    decision = received(response, request, policy=policy, took=took)
    assert isinstance(decision, Store), decision
    kept = decision.stored
    return StoredResponse(
        kept.url,
        kept.response,
        kept.request_time,
        kept.response_time,
        selection(request, kept.response, policy),
    )


def held(response: Response, request: Request | None = None, *, took: float = 0) -> StoredResponse:
    """Return a response as stored at `NOW` by a cache that stores anything."""
    request = request or get()
    return StoredResponse(
        request.url, response, NOW - took, NOW, selection(request, response, PRIVATE)
    )


def part(first: int, last: int, size: int | None, *lines: str) -> StoredResponse:
    """Return what is stored at `NOW` of a response of which only a run of bytes came."""
    kept = held(response(*lines))
    head = complete_head(kept.response, size)
    return kept._replace(response=head, part=Part(first, last, size))


def selection(request: Request, response: Response, policy: Policy) -> Selection:
    return selection_of(request.fields, policy.selecting_names(request, response), conceal)


def asked(
    request: Request,
    stored: StoredResponse | None,
    *,
    policy: Policy = PRIVATE,
    after: float = 0,
    size: int | None = None,
) -> RequestDecision:
    """Tell what becomes of a request that is made so many seconds after `NOW`.

    `size` is how many bytes of body are stored.
    """
    return policy.on_request(request, stored, NOW + after, size=size)


def failed(
    request: Request,
    stored: StoredResponse,
    *,
    policy: Policy = PRIVATE,
    after: float = 0,
    size: int | None = None,
) -> Serve | None:
    """Tell what stands in where the origin fails so many seconds after `NOW`."""
    return policy.on_failure(request, stored, NOW + after, "status 503", size=size)


def completed(
    response: Response,
    stored: StoredResponse,
    request: Request | None = None,
    *,
    policy: Policy = PRIVATE,
    after: float = 0,
) -> Store | None:
    """Tell what a response, asked for after a stored part, completes so many seconds on."""
    at = NOW + after
    return policy.on_completion(request or get(), response, stored, at, at)


def sent(decision: RequestDecision | None, body: bytes) -> bytes:
    """Return what is sent where `body` is what is stored."""
    assert isinstance(decision, Serve), decision
    pieces = (body,) if decision.pieces is None else decision.pieces
    return b"".join(
        piece if isinstance(piece, bytes) else body[piece.first : piece.last + 1]
        for piece in pieces
    )


def is_stored(decision: ResponseDecision) -> bool:
    return isinstance(decision, Store)


def refreshed(decision: ResponseDecision) -> StoredResponse:
    assert isinstance(decision, Refresh), decision
    return decision.stored


def is_served(decision: RequestDecision) -> bool:
    return isinstance(decision, Serve)


def forwarded(decision: RequestDecision) -> Forwarded:
    """Tell why a request goes to the origin, with or without conditions."""
    assert isinstance(decision, Forward | Revalidate), decision
    return decision.forwarded


def conceal(name: str, value: str) -> str:
    """Keep of a credential what can only be compared."""
    return f"a digest of {value!r}" if name in CREDENTIALS else value


def selects(request: Request, stored: StoredResponse) -> bool:
    return is_selected(stored, request.fields, conceal)
