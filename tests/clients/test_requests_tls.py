"""Who the server is, and who the client is, as TLS knows it."""

from pathlib import Path

import pytest
import requests

from stillfresh import MemoryCache, Outcome, Reason
from stillfresh.clients.requests import CachedResponse, CachedSession
from stillfresh.testing import ManualClock
from tests.origin import Origin, Reply


@pytest.fixture
def origin(tls_origin: Origin) -> Origin:
    tls_origin.on("/", Reply(headers={"Cache-Control": "max-age=60"}, body=b"hello"))
    return tls_origin


def get(session: CachedSession, origin: Origin, **options: object) -> CachedResponse:
    response = session.get(origin.url("/"), **options)  # type: ignore[arg-type]
    assert isinstance(response, CachedResponse)
    assert response.content == b"hello"
    return response


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_what_nobody_vouches_for_is_neither_stored_nor_served(
    origin: Origin, certificate: tuple[Path, Path]
) -> None:
    vouched = str(certificate[0])
    cache = MemoryCache()
    with CachedSession(cache) as session:
        unverified = get(session, origin, verify=False)
        assert unverified.headers["Cache-Status"] == (
            "stillfresh; fwd=bypass; fwd-status=200; "
            'detail="the server\'s certificate is not verified (RFC 9110 section 4.3.4)"'
        )
        assert "not verified" in str(unverified.cache)
        assert not list(cache.entries())
        assert get(session, origin, verify=vouched).cache.outcome is Outcome.MISS
        assert get(session, origin, verify=vouched).cache.outcome is Outcome.HIT
        # Anything that is no is no, as requests takes it.
        for verify in (False, 0, ""):
            assert get(session, origin, verify=verify).cache.outcome is Outcome.MISS
        # Or the environment's own bundle is taken.
        session.trust_env = False
        session.verify = None  # type: ignore[assignment]
        assert get(session, origin, verify=None).cache.outcome is Outcome.MISS


def test_a_client_certificate_keeps_answers_apart(
    origin: Origin, certificate: tuple[Path, Path]
) -> None:
    mine = (str(certificate[0]), str(certificate[1]))
    vouched = str(certificate[0])
    with CachedSession(MemoryCache()) as session:
        assert not get(session, origin, verify=vouched, cert=mine).from_cache
        assert get(session, origin, verify=vouched, cert=mine).from_cache
        assert not get(session, origin, verify=vouched).from_cache
        assert get(session, origin, verify=vouched, cert=mine).from_cache
    assert all(request.header("Authorization") is None for request in origin.received)


def test_a_certificate_that_is_wrong_is_nothing_to_get_over_with_what_is_stored(
    origin: Origin, certificate: tuple[Path, Path]
) -> None:
    """stale-if-error is about an origin that can't be reached, not about somebody else's."""
    clock = ManualClock()
    headers = {"Cache-Control": "max-age=60, stale-if-error=3600", "ETag": '"1"'}
    origin.on("/", Reply(headers=headers, body=b"hello"))
    vouched = str(certificate[0])
    with CachedSession(MemoryCache(clock=clock), clock=clock) as session:
        get(session, origin, verify=vouched)
        clock.advance(61)
        # Connections of their own, since one that has been verified is.
        session.get_adapter(origin.url("/")).close()
        with pytest.raises(requests.exceptions.SSLError):
            session.get(origin.url("/"))
        assert get(session, origin, verify=vouched).cache.outcome is Outcome.MISS
        clock.advance(61)
        origin.close()
        served = get(session, origin, verify=vouched)
        assert served.cache.why.reason is Reason.STALE_IF_ERROR
