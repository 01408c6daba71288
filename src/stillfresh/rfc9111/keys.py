"""The cache key (RFC 9111 §2), which responses it selects (§4.1), and URI normalisation.

The primary key is the target URI, normalised (RFC 3986 §6.2, RFC 9110 §4.2.3). It keeps neither
fragment nor userinfo: the one never reaches a server, the other is a secret. Under it lies one
variant, with the names of the fields that others are selected by; those lie under keys derived
from the primary one, its generation and the selecting values.
"""

from __future__ import annotations

import hashlib
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from stillfresh.memo import remembered
from stillfresh.rfc9111.fields import DESCRIBING, Fields, field_names, split_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stillfresh.rfc9111.messages import Selection, StoredResponse

CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
"""Fields whose values are secrets: only a keyed digest of them is kept."""

# RFC 9110 §12.5: the lists among the fields that responses are selected by.
_ACCEPTED: Final = frozenset({"accept", "accept-charset", "accept-encoding", "accept-language"})
# Fields that have one value; a comma in it is part of that.
_SINGLE: Final = CREDENTIALS | {
    *("date", "from", "host", "if-modified-since", "if-unmodified-since", "if-range"),
    *("origin", "referer", "user-agent"),
}
_AROUND_COMMA: Final = re.compile(r"[ \t]*,[ \t]*")
_AROUND_SEMICOLON: Final = re.compile(r"[ \t]*;[ \t]*")
_QUALITY: Final = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")

_VARIANT: Final = "#variant="
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# RFC 3986 §3, for URIs with an authority. Of what is before its last "@" nothing is kept.
_ABSOLUTE: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#]*@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%25[^\]/?#]*)?\]|[^:/?#@\[\]\s]*)(?::(?P<port>[0-9]{0,10}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?",
    re.DOTALL,
)
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)
_DOT_SEGMENT: Final = re.compile(r"/\.\.?(?:/|$)")


# There are many, and those that are signed have a KiB or two.
@remembered(1 << 17)
def primary_key(url: str) -> str:
    """Normalise a target URI.

    Raises:
        ValueError: it is no absolute URI with a host.
    """
    match = _ABSOLUTE.fullmatch(url)
    if match is None or not match["host"] or int(match["port"] or 0) > 65535:
        msg = f"{url!r} is not an absolute URL with a host"
        raise ValueError(msg)
    scheme, host, port = match["scheme"].lower(), match["host"].lower(), match["port"]
    if port and int(port) != DEFAULT_PORTS.get(scheme):
        host = f"{host}:{int(port)}"
    path = _encoding_normalised(match["path"] or "/")
    if _DOT_SEGMENT.search(path):
        path = _without_dots(path)
    # An empty query is not the same resource as none (RFC 3986 §6.2.3).
    return f"{scheme}://{host}{path}{_encoding_normalised(match['query'] or '')}"


def variant_key(primary: str, generation: str, selection: Selection) -> str:
    """Derive the key of a variant; it is the URI with a fragment, which no URI has as a key."""
    hasher = hashlib.blake2b(generation.encode(), digest_size=16)
    for name, value in selection:
        part = f"{name}\n" if value is None else f"{name}={value}\n"
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part.encode("utf-8", "surrogatepass"))
    return f"{primary}{_VARIANT}{hasher.hexdigest()}"


def is_variant_key(key: str, primary: str) -> bool:
    """Tell whether a key has been derived from `primary` by `variant_key`."""
    return key.startswith(primary + _VARIANT)


def without_parameters(url: str, names: frozenset[str]) -> str:
    """Leave out the query parameters whose names match one of `names`, patterns as of a shell."""
    base, question, query = url.partition("?")
    kept = [
        piece
        for piece in query.split("&")
        if not any(fnmatchcase(unquote_plus(piece.partition("=")[0]), name) for name in names)
    ]
    return f"{base}?{'&'.join(kept)}" if question and kept else base


def with_content(key: str, method: str, content: bytes, fields: Fields) -> str:
    """Return the key of requests with content, which is a part of it.

    So are the fields that say what its bytes are (RFC 9110 §8), as the definition of QUERY has it.
    """
    hasher = hashlib.blake2b(content, digest_size=16, person=b"content")
    for name in sorted(fields.names & DESCRIBING):
        # The digest so far has one length, so where what follows begins is certain.
        said = f"{name}: {fields.get(name)}".encode("utf-8", "surrogatepass")
        hasher = hashlib.blake2b(hasher.digest() + said, digest_size=16, person=b"described")
    return f"{key}#{method}={hasher.hexdigest()}"


def search_key(url: str) -> str:
    """Return the key of what is known of No-Vary-Search for the path of `url`, a primary key."""
    return f"{primary_of(url).partition('?')[0]}#search"


def primary_of(key: str) -> str:
    """Return the primary key that `key` is derived from, or is."""
    return key.partition("#")[0]


def first_of(key: str) -> str:
    """Return the key of the first variant, which leads to the one under `key`, or is it."""
    return key.partition(_VARIANT)[0]


def changed_key(key: str) -> str:
    """Return the key of when a URI was last invalidated, for responses to contents (§4.4).

    Their own keys have the digests of contents in them, which nobody else knows.
    """
    return f"{primary_of(key)}#changed"


def is_mark(key: str) -> bool:
    """Tell whether there is no response under a key, but what is to be known of several."""
    fragment = key.partition("#")[2]
    return fragment in {"search", "changed"} or fragment.startswith("group=")


def vary_names(fields: Fields) -> frozenset[str]:
    """Return the field names of Vary in lower case; `*` among them fails to match (§4.1)."""
    return field_names(fields.get("vary"))


def selection_of(
    request: Fields, names: Iterable[str], conceal: Callable[[str, str], str]
) -> Selection:
    """Return what `names` select by in a request (§4.1).

    `conceal(name, value)` returns what is kept of a value: a digest, of a credential.
    """
    return tuple([(name, _selecting(request, name, conceal)) for name in sorted(names)])


def is_selected(
    stored: StoredResponse,
    request: Fields,
    conceal: Callable[[str, str], str],
    *,
    by_language: bool = False,
) -> bool:
    """Tell whether a request selects `stored` (§4.1).

    Nothing does if Vary, which a 304 may have changed, names a field that it isn't selected by.
    With `by_language` what was chosen for another Accept-Language counts where this one would
    choose it as well.
    """
    if not stored.known(_may_be_selected):
        return False
    for name, value in stored.selection:
        if _selecting(request, name, conceal) == value:
            continue
        if not (by_language and name == "accept-language" and _is_most_wanted(stored, request)):
            return False
    return True


def normalised(name: str, value: str) -> str:
    """Return one of the spellings of a selecting field's value that mean the same (§4.1).

    Whitespace around commas means nothing, in a list; most unknown fields are lists, and those
    that are known not to be are left alone. Of the fields by which clients state what they
    accept, neither order nor empty members mean anything (RFC 9110 §12.5), nor does case in all
    but Accept, whose parameters may have a case.
    """
    if name in _SINGLE:
        return value.strip(" \t")
    if name in _ACCEPTED:
        return _as_set((name, value))
    return _AROUND_COMMA.sub(",", value).strip(" \t") if '"' not in value else value.strip(" \t")


@remembered()
def _as_set(line: tuple[str, str]) -> str:
    name, value = line
    members = [
        # In a string, whitespace is what it says.
        member if '"' in member else _AROUND_SEMICOLON.sub(";", member)
        for member in split_list(value)
    ]
    if name != "accept":
        members = [member.lower() for member in members]
    if name == "accept-language":
        # Some servers take the first of those with the same weight for the one that is wanted most.
        return ",".join(sorted(members, key=_unwanted))
    return ",".join(sorted(members))


def _unwanted(member: str) -> float:
    """Return what sorts the members of Accept-Language by their weight, the most wanted first."""
    quality = _QUALITY.fullmatch(member.partition(";")[2])
    return -1.0 if quality is None else -float(quality[1])


def _may_be_selected(stored: StoredResponse) -> bool:
    names = {name for name, _ in stored.selection}
    return "*" not in names and vary_names(stored.response.fields) <= names


def _selecting(request: Fields, name: str, conceal: Callable[[str, str], str]) -> str | None:
    value = request.get(name)
    return None if value is None else conceal(name, normalised(name, value))


def _is_most_wanted(stored: StoredResponse, request: Fields) -> bool:
    """Tell whether a response is in the one language that a request wants before all others."""
    language = (stored.response.fields.get("content-language") or "").strip().lower()
    wanted: dict[str, float] = {}
    for member in split_list(request.get("accept-language") or ""):
        tag, _, weight = _AROUND_SEMICOLON.sub(";", member.lower()).partition(";")
        quality = _QUALITY.fullmatch(weight)
        if weight and quality is None:
            return False
        wanted[tag] = 1.0 if quality is None else float(quality[1])
    best = max(wanted.values(), default=0.0)
    most = [tag for tag in wanted if wanted[tag] == best]
    return best > 0 and language != "" and most == [language]


def _encoding_normalised(text: str) -> str:
    return _ENCODED.sub(_decode_unreserved, text) if "%" in text else text


def _decode_unreserved(match: re.Match[str]) -> str:
    octet = int(match[1], 16)
    return chr(octet) if octet in _UNRESERVED else f"%{match[1].upper()}"


def _without_dots(path: str) -> str:
    """Remove dot segments (RFC 3986 §5.2.4)."""
    output: list[str] = []
    segments = path.split("/")
    for segment in segments[1:]:
        if segment == "..":
            if output:
                output.pop()
        elif segment != ".":
            output.append(segment)
    if segments[-1] in {".", ".."}:
        output.append("")
    return "/" + "/".join(output)
