"""What `--json` writes: for each entry, or for all there is to count, one JSON document in a line.

Scripts rely on the names; `docs/command.md` says what each means. Where the RFCs have a word it is
theirs. Moments are RFC 3339's in UTC, to the second, which sort as text and which jq reads.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillfresh import Content, EntryInfo, Explanation, Stats, Variant, Why


def line_of(document: dict[str, Any]) -> str:
    """Write a document in ASCII, so that nothing in it can move a cursor about."""
    # JSON takes it as it is, terminals don't.
    return json.dumps(document).replace("\x7f", "\\u007f")


def entry_document(listed: EntryInfo, content: Content) -> dict[str, Any]:
    """Say all that is known of an entry."""
    return {
        "url": content.url,
        "status": content.status,
        "media_type": content.content_type,
        "about": content.about,
        # What has no body beside it may have one in it, or none.
        "content_length": None if listed.foreign and not listed.body_size else listed.body_size,
        "content_range": _content_range(content.part),
        "size": listed.size,
        "stored_at": _moment(listed.stored_at),
        "used_at": _moment(listed.used_at),
        "kept_until": _moment(listed.expires_at),
        "foreign": listed.foreign,
        "key": listed.key,
        "name": listed.name,
    }


def variant_document(variant: Variant, *, selected: bool) -> dict[str, Any]:
    """Say all that is known of a stored response, but for secrets."""
    return {
        "url": variant.url,
        "key": variant.key,
        "status": variant.status,
        "reason": variant.reason,
        "header": [
            {"name": name, "value": None if is_secret(name) else value}
            for name, value in variant.fields
        ],
        "selected": selected,
        "selected_by": [
            {
                "name": name,
                "value": None if name in variant.concealed else value,
                "concealed": name in variant.concealed,
            }
            for name, value in variant.selection
        ],
        "content_length": variant.size,
        "content_range": _content_range(variant.part),
        "received_at": _moment(variant.received_at),
        "age": int(variant.age),
        "freshness_lifetime": int(variant.lifetime),
        "lifetime_source": variant.source,
        "fresh_until": _moment(variant.seen_at + variant.ttl),
        "strong_validator": variant.has_strong_validator,
        "why": _why(variant.why),
        "foreign": variant.foreign,
    }


def explanation_document(told: Explanation) -> dict[str, Any]:
    """Say what would be done with a request; stored responses are as in `variant_document`."""
    stored, selected = told.stored, told.selected
    return {
        "method": told.method,
        "url": told.url,
        "key": told.key,
        "decision": told.verdict.value,
        "why": _why(told.why),
        "status": told.status,
        "stored": stored and variant_document(stored, selected=stored is selected),
        "selected": selected and variant_document(selected, selected=True),
        "differing": list(told.differing),
        "origin_asked": told.asked is not None,
        "added": [{"name": name, "value": value} for name, value in told.asked or ()],
        "refreshed_behind": told.refreshes,
    }


def _why(why: Why) -> dict[str, str]:
    return {"reason": why.reason.name.lower(), "sentence": why.sentence, "section": why.section}


def _content_range(part: tuple[int, int, int | None] | None) -> dict[str, int | None] | None:
    if part is None:
        return None
    first, last, size = part
    return {"first_pos": first, "last_pos": last, "complete_length": size}


def is_secret(name: str) -> bool:
    """Tell whether what a header field says is nobody's business."""
    return name.lower() in {"set-cookie", "set-cookie2"}


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
