"""Cache groups (RFC 9875): responses of one origin that are invalidated together."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from stillfresh.memo import remembered
from stillfresh.rfc9111.invalidation import SAFE
from stillfresh.rfc9111.structured import parse_list, strings

if TYPE_CHECKING:
    from stillfresh.rfc9111.fields import Fields
    from stillfresh.rfc9111.messages import Request, Response

# Ours, where §2 and §3 ask for 32 at least: each group costs a look-up whenever the response is
# used, or a write when it is invalidated, and how many there are is the server's to say.
MAX_GROUPS: Final = 128

_NO_GROUPS: Final[frozenset[str]] = frozenset()


def cache_groups(fields: Fields) -> frozenset[str]:
    """Return the groups that a response belongs to (§2): the first `MAX_GROUPS` it names."""
    value = fields.get("cache-groups")
    return _NO_GROUPS if value is None else _groups_in(value)


def invalidated_groups(request: Request, response: Response) -> frozenset[str]:
    """Return the groups, of the target's origin, that are doubtful after this exchange (§3).

    Any status counts, unlike in RFC 9111 §4.4: an error says as plainly what it changed.
    """
    value = response.fields.get("cache-group-invalidation")
    return _NO_GROUPS if value is None or request.method in SAFE else _groups_in(value)


def group_key(url: str, group: str) -> str:
    """Derive the key under which a cache keeps when a group was last invalidated.

    `url` is the primary key of any of its members: groups of one name in two origins are two
    (§2.1). The key is the origin's root with a fragment, which neither a URI has as a key nor, of
    this form, a variant.
    """
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0]
    name = hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=16)
    return f"{scheme}://{authority}/#group={name.hexdigest()}"


@remembered()
def _groups_in(value: str) -> frozenset[str]:
    # RFC 9651 §2: a List that isn't one of Strings throughout is ignored as a whole.
    names = strings(parse_list(value) or ())
    return _NO_GROUPS if names is None else frozenset(names[:MAX_GROUPS])
