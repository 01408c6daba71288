"""Why tests can't or shall not pass from a Python client library, by the test's id.

A required test that is listed here may fall short without failing the run. One that is listed and
passes after all fails it, as does an id that the suite doesn't have: the list stays as short as it
can be. What will be implemented doesn't belong here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_SERVER: Final = (
    "no cache can pass: the origin destroys the connection, and the test wants the number of the "
    "request in a response that the origin never sends"
)
_SURROGATE: Final = (
    "Surrogate-Control is no RFC's field; the test wants a cache that has said of itself, in "
    "Surrogate-Capability, that it is one"
)
_LIAR: Final = (
    "the origin's Content-Range is of six bytes and its body of five: nobody knows which bytes "
    "they are, and a cache that guessed would hand out wrong ones"
)

REASONS: Final[Mapping[str, str]] = {
    "stale-close-must-revalidate": _NO_SERVER,
    "stale-close-no-cache": _NO_SERVER,
    "stale-close-proxy-revalidate": _NO_SERVER,
    "stale-close-s-maxage=2": _NO_SERVER,
    "304-etag-update-response-ETag": (
        "the 304 has another strong validator than the stored response, so by RFC 9111 §4.3.4 it "
        "says nothing about it, and the response that it is about has to be fetched"
    ),
    "cc-resp-immutable-stale": (
        "the test is of a browser's reload, which adds max-age=0 to the request; a library sends "
        "what its caller says"
    ),
    "partial-store-partial-reuse-partial": _LIAR,
    "partial-store-partial-reuse-partial-absent": _LIAR,
    "partial-store-partial-reuse-partial-byterange": _LIAR,
    "partial-store-partial-reuse-partial-suffix": _LIAR,
    "partial-store-partial-complete": (
        "the stored part has no strong validator, so by RFC 9111 §3.4 no other part can be "
        "combined with it, and to ask for one would be of no use"
    ),
    "vary-normalise-lang-order": (
        "of languages with the same weight some servers take the first for the one that is wanted "
        "most (RFC 9110 §12.5.4), so in another order it is another request"
    ),
    "surrogate-fresh-cc-nostore": _SURROGATE,
    "surrogate-max-age-me-target": _SURROGATE,
    "surrogate-max-age-case-insensitive": (
        "the names in a targeted field are in lower case (RFC 9213 §2.1, RFC 9651 §3.2)"
    ),
    "conditional-lm-fresh-no-lm": (
        "without Last-Modified a response is as new as its Date (RFC 9110 §13.1.3), which is later "
        "than the date that is asked about: 200 is right"
    ),
}

# What only one of the clients can't do, beside what none of them can.
_HEARD: Final = (
    "a client of httpx takes cookies from what it sees in the head: a Set-Cookie that was stored "
    "has been heard, and showing it again would set it again"
)
_OF_HTTPX: Final[Mapping[str, str]] = {
    "304-etag-update-response-Set-Cookie": _HEARD,
    "headers-store-Set-Cookie": _HEARD,
    "headers-store-Transfer-Encoding": "h11 refuses a response with an unknown transfer coding",
}
_LONGER: Final = "aiohttp's parser refuses a body that is longer than its Content-Length"
OF_A_CLIENT: Final[Mapping[str, Mapping[str, str]]] = {
    "httpx": _OF_HTTPX,
    "httpx2": _OF_HTTPX,
    "aiohttp": {
        "304-etag-update-response-Content-Length": _LONGER,
        "headers-store-Content-Length": _LONGER,
    },
}


def reasons_for(client: str) -> Mapping[str, str]:
    """Return the reasons that hold for a client."""
    return {**REASONS, **OF_A_CLIENT.get(client, {})}
