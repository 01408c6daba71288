"""What went wrong on the way to the origin: an exit status and a sentence for each error."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from requests import exceptions as errors
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    InvalidChunkLength,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from stillfresh import BodyLost
from stillfresh.cli.exits import Exit
from stillfresh.cli.text import without_users

if TYPE_CHECKING:
    from collections.abc import Iterator

# requests leaves some of urllib3's errors as they are, and raises OSError for a CA bundle that is
# missing, ValueError for a redirect that is no URL, and TypeError for a proxy with a user and
# without a host.
FAILURES: Final = (errors.RequestException, HTTPError, OSError, ValueError, TypeError)

_HOSTLESS: Final = re.compile("@([:/]|$)")


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a download.

    Attributes:
        exit: the status.
        message: the sentence.
        lies_in_body: it is what has come that is of no use, and not that no more did.
    """

    exit: Exit
    message: str
    lies_in_body: bool = False


def failure_of(
    error: Exception, url: str, timeout: float, *, redirected: bool, receiving: bool
) -> Failure:
    """Explain one of `FAILURES`.

    Args:
        error: what was raised.
        url: the URL that the user gave.
        timeout: the limit that was set, in seconds.
        redirected: whether there has been a response to the first request.
        receiving: whether the body had begun to come.

    Raises:
        TypeError: it is this error, and no proxy is to blame for it.
    """
    if isinstance(error, TypeError):
        if not any(_HOSTLESS.search(proxy) for proxy in getproxies().values()):
            raise error
        return Failure(Exit.USAGE, "the request cannot be made: a proxy is named without a host")
    host = _host(_asked_url(error) or url)
    chain = list(_chain(error))
    reason = _reason(chain)
    if any(isinstance(one, BodyLost) for one in chain):
        return Failure(Exit.BROKEN_OFF, f"the stored body is damaged: {error}", lies_in_body=True)
    found = _timeout(chain, host, timeout) or _no_connection(chain, host, reason)
    if found is not None:
        return found
    if any(isinstance(one, errors.SSLError | ssl.SSLError) for one in chain):
        return Failure(Exit.TLS, f"TLS with {host} failed: {reason}")
    if isinstance(error, errors.TooManyRedirects):
        return Failure(Exit.REDIRECT, "too many redirects")
    if isinstance(error, errors.ContentDecodingError | DecodeError):
        return Failure(Exit.BROKEN_OFF, f"the body cannot be decoded: {reason}", lies_in_body=True)
    if receiving:
        return Failure(Exit.BROKEN_OFF, f"the body broke off: {reason}")
    # A header that is refused is one of the response's.
    if isinstance(error, ValueError) and not isinstance(error, errors.InvalidHeader):
        if redirected:
            return Failure(Exit.REDIRECT, f"a redirect leads nowhere: {without_users(str(error))}")
        return Failure(Exit.USAGE, f"the request cannot be made: {error}")
    if isinstance(error, OSError) and not isinstance(error, errors.RequestException):
        return Failure(Exit.TLS, f"TLS cannot be used: {error}")
    return Failure(Exit.NETWORK, f"no response from {host}: {reason}")


def _timeout(chain: list[BaseException], host: str, timeout: float) -> Failure | None:
    for one in chain:
        # A connection that is refused counts as one that took too long, for urllib3.
        if isinstance(one, ConnectTimeoutError) and not isinstance(one, NewConnectionError):
            return Failure(Exit.TIMEOUT, f"no connection to {host} within {timeout:g} s")
        if isinstance(one, errors.Timeout | ReadTimeoutError):
            return Failure(Exit.TIMEOUT, f"nothing came from {host} for {timeout:g} s")
    return None


def _no_connection(chain: list[BaseException], host: str, reason: str) -> Failure | None:
    for one in chain:
        if isinstance(one, NameResolutionError):
            return Failure(Exit.NAME, f"cannot resolve the name of {host}: {reason}")
        if isinstance(one, NewConnectionError):
            return Failure(Exit.CONNECTION, f"cannot connect to {host}: {reason}")
        if isinstance(one, errors.ProxyError):
            return Failure(Exit.CONNECTION, f"the proxy did not connect to {host}: {reason}")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Go from an error to the cause of its causes."""
    seen: set[int] = set()
    following: object = error
    while isinstance(following, BaseException) and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = (
            getattr(following, "reason", None)
            if isinstance(getattr(following, "reason", None), BaseException)
            else following.__cause__ or following.__context__
        )


def _reason(chain: list[BaseException]) -> str:
    """Say what a chain of errors is about, without numbers and class names."""
    cause = chain[-1]
    for one in chain:
        if isinstance(one, IncompleteRead) and not isinstance(one, InvalidChunkLength):
            if not one.expected:
                # What was read is of the last chunk, then, and mostly nothing.
                return "the connection ended before it did"
            partial: object = one.partial  # urllib3's has only its length
            read = partial if isinstance(partial, int) else len(one.partial)
            return f"{read} bytes read, {one.expected} more expected"
    if isinstance(cause, ValueError) and not isinstance(cause, HTTPError | OSError):
        return "what came next is no HTTP"  # such as the length of a chunk
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause).strip() or type(cause).__name__


def _asked_url(error: Exception) -> str | None:
    """Return the URL of the request that failed, which a redirect may have led to."""
    request = getattr(error, "request", None)
    return getattr(request, "url", None)


def _host(url: str) -> str:
    """Name a host and its port, but no user or password."""
    return urlsplit(url).netloc.rpartition("@")[2] or url
