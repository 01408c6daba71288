"""What an entry holds, for people who look into a cache; also where nobody wrote down its key.

A record of ours names its URL. Other programs' entries are known by what they hold: the response's
fields, and of what pip keeps, the project that a wheel or a page of an index is about.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stillfresh.engine import legacy, records
from stillfresh.errors import StoreError
from stillfresh.rfc9111.keys import primary_of

if TYPE_CHECKING:
    from stillfresh.caches.base import BaseCache, Entry, EntryInfo
    from stillfresh.rfc9111.messages import StoredResponse
    from stillfresh.rfc9111.ranges import Part

# An index's page of a project that is larger than this is not read for its name.
_PAGE: Final = 1 << 20
_TITLE: Final = re.compile(rb"<title>\s*Links for ([^<\s]{1,200})\s*</title>", re.IGNORECASE)
_METADATA: Final = re.compile(r"[^/]+\.dist-info/METADATA")
_NOWHERE: Final = "http://unknown.invalid/"


@dataclass(frozen=True, slots=True)
class Content:
    """What can be told of an entry.

    Attributes:
        url: what it answers; None where nobody wrote that down.
        status: of the response; None if there is none.
        content_type: the media type, without parameters.
        about: of a wheel the project and version, of a page of a package index its project.
        part: the first byte, the last one and the size of the whole (None if unknown) where the
            body is only a part of it, kept to be completed (RFC 9111 §3.3); None where it is all.
    """

    url: str | None = None
    status: int | None = None
    content_type: str | None = None
    about: str | None = None
    part: Part | None = None


def describe(cache: BaseCache, listed: EntryInfo) -> Content:
    """Look into an entry that `entries()` has listed; what is damaged or gone tells nothing.

    Raises:
        CacheClosed: the cache has been closed.
    """
    try:
        entry = cache.open_listed(listed)
        if entry is None:
            return Content(url=_url(listed.key))
        with entry:
            return _describe(entry, listed)
    except StoreError:
        return Content(url=_url(listed.key))


def _describe(entry: Entry, listed: EntryInfo) -> Content:
    stored, body = _stored(entry)
    if stored is None:
        return Content(url=_url(listed.key))
    fields = stored.response.fields
    content_type = (fields.get("content-type") or "").partition(";")[0].strip().lower() or None
    file = io.BytesIO(body) if body else _Body(entry)
    about = None
    # It is only a label, and what others have made can be wrong in any way.
    with contextlib.suppress(Exception):
        coding = (fields.get("content-encoding") or "").strip().lower()
        about = _project(file, content_type or "", coding)
    return Content(_url(listed.key), stored.response.status, content_type, about, stored.part)


def _stored(entry: Entry) -> tuple[StoredResponse | None, bytes]:
    """Return the response, and its body where the record has that in it."""
    with contextlib.suppress(StoreError):
        if legacy.is_legacy(entry.metadata):
            stored, body = legacy.decode(entry.metadata, _NOWHERE, lambda _, value: value)
            return stored, body
        return records.decode(entry.metadata), b""
    return None, b""


def _url(key: str | None) -> str | None:
    return None if key is None or "://" not in key else primary_of(key)


def _project(file: io.BytesIO | _Body, content_type: str, coding: str) -> str | None:
    import zipfile

    if not coding and zipfile.is_zipfile(file):
        return _wheel(file)
    if not content_type.startswith(("text/html", "application/vnd.pypi.simple.")):
        return None
    file.seek(0)
    page = file.read(_PAGE)
    if coding == "gzip":
        page = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(page, _PAGE)
    if content_type.endswith("+json"):
        name = json.loads(page).get("name")
        return f"index page of {name}" if isinstance(name, str) else None
    title = _TITLE.search(page)
    return None if title is None else f"index page of {title[1].decode('utf-8', 'replace')}"


def _wheel(file: io.BytesIO | _Body) -> str | None:
    import email
    import zipfile

    with zipfile.ZipFile(file) as archive:
        name = next((name for name in archive.namelist() if _METADATA.fullmatch(name)), None)
        if name is None:
            return None
        with archive.open(name) as stream:
            metadata = email.message_from_bytes(stream.read(_PAGE))
    return f"{metadata['Name']} {metadata['Version']}"


class _Body(io.RawIOBase):
    """The body of an entry as a file to go about in."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._entry.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        if self._at >= self._entry.size:
            return b""
        self._entry.seek(self._at)
        chunk = self._entry.read(size)
        self._at += len(chunk)
        return chunk

    def readall(self) -> bytes:
        return self.read()
