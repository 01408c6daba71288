"""How far a download has come, and whether what came is of use to the next one.

A response with a strong validator that breaks off is kept as a part, and its rest is asked for the
next time (RFC 9111 §3.3, RFC 9110 §13.1.5). Whether that was done is known when it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stillfresh import Outcome, Reason

if TYPE_CHECKING:
    from collections.abc import Collection

    from stillfresh import BaseCache, CacheInfo


@dataclass(slots=True)
class Transfer:
    """One download.

    Attributes:
        answered: whether there was a response at all, if only a redirect.
        received: the bytes of the body so far, decoded.
        info: what the cache did; None before the last response, whose body it is.
        outlives: whether there will be anything in the cache when this process has ended.
    """

    answered: bool = False
    received: int = 0
    info: CacheInfo | None = None
    outlives: bool = False

    def note(self, *_: object, **__: object) -> None:
        """Take notice of a response."""
        self.answered = True

    def begin(self, info: CacheInfo, cache: BaseCache) -> None:
        """Take notice of the last response, whose body is to come."""
        self.info = info
        self.outlives = cache.place is not None

    def goes_on(self, headers: Collection[str]) -> bool:
        """Tell whether the same request, with header fields of these names, would go on from here.

        Of one that has broken off, that is, and was closed.
        """
        info = self.info
        if info is None or info.storing is None or not self.outlives:
            return False
        # Who asks for a part, or with a condition, isn't given the rest of what is stored.
        if any(name.lower() == "range" or name.lower().startswith("if-") for name in headers):
            return False
        reason = info.storing.reason
        # One that was being completed had its beginning in the cache, if it has got no further.
        completing = info.outcome is Outcome.COMPLETED
        return reason is Reason.CUT_OFF or (completing and reason is Reason.BROKEN_OFF)
