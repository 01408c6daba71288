"""Which request a command is about, and the session that would make it.

`get` makes it, `explain` says what would be done with it, and `show` what it selects: it has to be
the same one, down to the header fields that nobody has typed.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from requests import PreparedRequest

    from stillfresh import BaseCache
    from stillfresh.clients.requests import CachedSession

Headers: TypeAlias = dict[str, str | bytes]

# All before the last "@", but for the scheme.
_USER: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:/+)?.*@", re.DOTALL)
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def session_on(cache: BaseCache | str | None) -> CachedSession:
    """Open a session as the command has it.

    Raises:
        ConfigError: the cache can't be made sense of.
    """
    from stillfresh import __version__
    from stillfresh.clients.requests import CachedSession

    session = CachedSession(cache)
    session.headers["User-Agent"] = f"stillfresh/{__version__}"
    return session


@contextmanager
def refused() -> Iterator[None]:
    """Say what is wrong with a request that can't be made."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(f"the request cannot be made: {error}") from error


def auth_of(headers: Headers) -> Callable[[PreparedRequest], PreparedRequest] | None:
    """Return what leaves a request with the credentials it was given, if it was given any.

    Or a password in ~/.netrc would take the place of the header.
    """
    given = any(name.lower() == "authorization" for name in headers)
    return _unchanged if given else None


def _unchanged(request: PreparedRequest) -> PreparedRequest:
    return request


def _a_url(_: click.Context, __: click.Parameter, value: str) -> str:
    return _checked_url(value)


def requested_url(value: str) -> str:
    """Return the URL that requests would ask for, which writes some characters otherwise.

    User and password are left out: they are no part of what is asked for.

    Raises:
        BadParameter: it is none.
    """
    from requests import PreparedRequest

    prepared = PreparedRequest()
    prepared.prepare_url(_checked_url(value), None)
    parts = urlsplit(prepared.url or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def requested_host(value: str) -> str:
    """Return a host, and its port if there is one, as it is in the URLs that requests asks for.

    What can't be in any is left as it is: nothing is stored of it.
    """
    try:
        return urlsplit(requested_url(f"http://{value}/")).netloc or value
    except click.BadParameter:
        return value


def _checked_url(value: str) -> str:
    from requests import PreparedRequest, RequestException

    try:
        if any("\ud800" <= one <= "\udfff" for one in value):
            # Bytes that the locale has no characters for.
            value = os.fsencode(value).decode("utf-8")
    except UnicodeDecodeError:
        raise click.BadParameter(f"{_shown(value)!r} is not UTF-8") from None
    try:
        if urlsplit(value).scheme.lower() not in {"http", "https"}:
            lacks_no_more = value.strip("/ ") and ":" not in value
            hint = f"; did you mean https://{_shown(value).lstrip('/')}?" if lacks_no_more else ""
            raise click.BadParameter(f"{_shown(value)!r} is neither http:// nor https://{hint}")
        PreparedRequest().prepare_url(value, None)
    except (RequestException, ValueError) as error:
        # Which part of it that names is anybody's guess.
        text = str(error) if "@" not in value else f"{_shown(value)!r} is no URL"
        raise click.BadParameter(text) from None
    return value


def _shown(value: str) -> str:
    """Return what may be shown of a URL, or of what was to be one: not a password.

    Wherever that is, since it can't be told from the rest by who doesn't understand it.
    """
    return _USER.sub(r"\1", value)


def _a_method(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if not _TOKEN.fullmatch(value):
        raise click.BadParameter(f"{value!r} can't be a method")
    return value.upper()


def _headers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> Headers:
    """Read headers, and join the values of one that was given more than once (RFC 9110 §5.3)."""
    spelt: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for line in values:
        name, colon, value = line.partition(":")
        if not colon:
            # Nor is what follows a name that lacks its colon: it may be a secret.
            name = line.partition(" ")[0] if " " in line else ""
            which = f"{name!r} is followed by no colon" if _TOKEN.fullmatch(name) else "no colon"
            raise click.BadParameter(f"{which}; write 'Name: value'")
        if not _TOKEN.fullmatch(name):
            raise click.BadParameter(f"{name!r} can't be the name of a header")
        if any(character in value for character in "\r\n\0"):
            raise click.BadParameter(f"the value of {name} has a line break in it")
        spelt.setdefault(name.lower(), name)
        several.setdefault(name.lower(), []).append(value.strip())
    headers: Headers = {}
    for name, each in several.items():
        value = ("; " if name == "cookie" else ", ").join(each)
        # What isn't ASCII goes out as it was typed.
        headers[spelt[name]] = value if value.isascii() else os.fsencode(value)
    return headers


url_argument: Final[Callable[[Any], Any]] = click.argument("url", callback=_a_url)
"""What is asked for."""


def method_option(help_text: str) -> Callable[[Any], Any]:
    """Take the method of a request."""
    return click.option("-X", "--method", callback=_a_method, metavar="METHOD", help=help_text)


def headers_option(help_text: str) -> Callable[[Any], Any]:
    """Take header fields of a request."""
    return click.option(
        "-H",
        "--header",
        "headers",
        callback=_headers,
        multiple=True,
        metavar="'NAME: VALUE'",
        help=help_text,
    )
