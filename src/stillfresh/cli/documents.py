"""What `--json` writes: for each entry, or for all there is to count, one JSON document in a line.

Scripts rely on the names; `docs/command.md` says what each means. Where the RFCs have a word it is
theirs. Moments are RFC 3339's in UTC, to the second, which sort as text and which jq reads.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillfresh import Content, EntryInfo, Stats


def line_of(document: dict[str, Any]) -> str:
    """Write a document in ASCII, so that nothing in it can move a cursor about."""
    # JSON takes it as it is, terminals don't.
    return json.dumps(document).replace("\x7f", "\\u007f")


def entry_document(listed: EntryInfo, content: Content) -> dict[str, Any]:
    """Say all that is known of an entry."""
    part = content.part
    return {
        "url": content.url,
        "status": content.status,
        "media_type": content.content_type,
        "about": content.about,
        "content_length": listed.body_size,
        "content_range": None
        if part is None
        else {"first_pos": part.first, "last_pos": part.last, "complete_length": part.size},
        "size": listed.size,
        "stored_at": _moment(listed.stored_at),
        "used_at": _moment(listed.used_at),
        "kept_until": _moment(listed.expires_at),
        "foreign": listed.foreign,
        "key": listed.key,
        "name": listed.name,
    }


def stats_document(stats: Stats) -> dict[str, Any]:
    """Say all that was counted; the hosts are in the order of their sizes."""
    largest = sorted(stats.hosts.items(), key=lambda item: item[1][1], reverse=True)
    return {
        "entries": stats.entries,
        "size": stats.bytes,
        "oldest": _moment(stats.oldest),
        "newest": _moment(stats.newest),
        "hits": stats.hits,
        "misses": stats.misses,
        "served": stats.served,
        "hosts": [
            {"host": host or None, "entries": entries, "size": size}
            for host, (entries, size) in largest
        ],
    }


def _moment(seconds: float | None) -> str | None:
    """Write a moment; None if no calendar has it."""
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OSError, OverflowError, ValueError):
        return None
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
