"""The names that entries have in Redis; `redisstore` says which there are."""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

import xxhash

from stillfresh.caches import frames
from stillfresh.caches.entry import host_of
from stillfresh.caches.redislinks import hash_part
from stillfresh.errors import ConfigError
from stillfresh.memo import remembered

IS_PIECE: Final = re.compile(rb":sf:[0-9a-f]{16}:\d+\Z")
# How the name of a claim ends. By its name it is a piece, of a version that no entry has: so it is
# in no listing.
IS_CLAIM: Final = re.compile(rb":00\Z")
# How the name of an odd key begins.
_DIGEST: Final = "sf:{"
_GLOB: Final = re.compile(rb"([*?\[\]^\\-])")


class Place(NamedTuple):
    """Where one key's entry is."""

    key: str
    name: bytes
    stem: bytes

    def claim(self) -> bytes:
        """Return the name of what says that somebody is fetching it."""
        return b"%b%016x:00" % (self.stem, xxhash.xxh3_64_intdigest(self.name))


class Names:
    """The names that keys have in the database."""

    def __init__(self, prefix: str) -> None:
        """Have all names begin with `prefix`.

        Raises:
            ConfigError: an opening brace in it isn't closed, or has nothing in it.
        """
        self._prefix = frames.encode_key(prefix)
        self._has_tag = hash_part(self._prefix) != self._prefix
        if b"{" in self._prefix and not self._has_tag:
            msg = f"in the prefix {prefix!r}, a hash tag is opened and not closed, or empty"
            raise ConfigError(msg)
        self.pattern = _GLOB.sub(rb"\\\1", self._prefix) + b"*"
        # What is looked up is claimed, fetched and stored, or asked for again soon.
        self.place = remembered()(self._place)

    def _place(self, key: str) -> Place:
        """Say where the entry of a key is.

        For a few odd keys the name is a digest: no piece could be in the slot of the key's own
        name, or that would look like a piece's.
        """
        name = self._prefix + frames.encode_key(key)
        tag = hash_part(name)
        if not tag or b"}" in tag or (b":sf:" in name and IS_PIECE.search(name)):
            digest = hashlib.sha256(name).hexdigest()
            name = self._prefix + f"{_DIGEST}{digest}}}".encode()
            tag = hash_part(name)
        if self._has_tag:
            return Place(key, name, self._prefix + b":sf:")
        return Place(key, name, self._prefix + b"{" + tag + b"}:sf:")

    def may_be_of(self, name: bytes, host: str) -> bool:
        """Tell whether a name may be that of an entry of `host`; a digest always may be."""
        key = self.key_of(name)
        return key is None or key.startswith(_DIGEST) or host_of(key) == host

    def key_of(self, name: bytes) -> str | None:
        """Return the key of another program's value, or None if it can't be told."""
        try:
            key = name[len(self._prefix) :].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return None
        return key if self.place(key).name == name else None
