"""What an exchange answers: a head, where its body is, and what the cache has done for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic

from stillfresh.engine.ports import E, U, W

if TYPE_CHECKING:
    from stillfresh.engine.body import Lost
    from stillfresh.engine.recorder import Recorder
    from stillfresh.rfc9111.decisions import Pieces, Why
    from stillfresh.rfc9111.messages import Response


class Outcome(Enum):
    """Where an answer came from."""

    HIT = "hit"
    REVALIDATED = "revalidated"
    COMPLETED = "completed"
    MISS = "miss"
    UNSATISFIABLE = "unsatisfiable"


@dataclass(slots=True)
class CacheInfo:
    """What the cache did for one answer.

    Attributes:
        outcome: hit, revalidated, completed (the beginning was stored, the rest came from the
            origin), miss or unsatisfiable.
        why: the reason for that, with its section of the RFC.
        key: the key of the stored response, or of the one that would have been.
        age: of a stored response when it was served, in seconds.
        ttl: how long the response stays fresh, in seconds; negative if it is stale.
        stored: whether the answer is in the cache now. Of a miss that is known when its body has
            been read.
        storing: why it was stored, or why not.
        collapsed: whether it was served what another request, made at the same time, had fetched
            (RFC 9111 §4): False if it waited for that in vain, None if it didn't wait.
    """

    outcome: Outcome
    why: Why
    key: str
    age: float | None = None
    ttl: float | None = None
    stored: bool = False
    storing: Why | None = None
    collapsed: bool | None = None

    @property
    def from_cache(self) -> bool:
        """Whether all of the body came out of the cache."""
        return self.outcome is Outcome.HIT or self.outcome is Outcome.REVALIDATED

    def __str__(self) -> str:
        """Say it in one line."""
        text = f"{self.outcome.value}: {self.why}"
        return text if self.storing is None else f"{text}; {self.storing}"


@dataclass(slots=True)
class Answer(Generic[E, W, U]):
    """What to hand to the caller: a head, and where its body is.

    The body is in `entry`: all of it, or the `pieces` it is made of. Or it is with `upstream`, to
    be recorded on its way if there is a `recorder`. Of a completed answer it is in both, the entry
    first, and all of it is recorded. Or there is none. Where reading `entry` fails, `lost` takes
    note of that.
    """

    response: Response
    info: CacheInfo
    entry: E | None = None
    upstream: U | None = None
    recorder: Recorder[E, W] | None = None
    lost: Lost | None = None
    pieces: Pieces | None = None
