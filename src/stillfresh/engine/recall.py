"""What was decided last about a stored response, for whoever asks the same again.

Most hits are of few responses, by clients that say the same in each request. Such a hit differs
from the one before by nothing but the time: a record, a policy and the fields of a request never
change. So only its age is worked out anew, and once a second the head that says it.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from stillfresh.rfc9111 import cache_status

if TYPE_CHECKING:
    from stillfresh.rfc9111.decisions import Serve
    from stillfresh.rfc9111.messages import Request, Response, StoredResponse
    from stillfresh.rfc9111.policy import Policy

# Among what is known about a stored response.
_NAME: Final = "recall"


class Recall:
    """A decision that stands for as long as the stored response is fresh."""

    __slots__ = ("_decision", "_fields", "_head", "_method", "_policy")

    def __init__(self, policy: Policy, request: Request, decision: Serve) -> None:
        """Take the decision, and what else it depends on than the time."""
        self._policy = policy
        self._method = request.method
        # Nobody asks with the same ones when they are gone; and they may be long.
        self._fields = weakref.ref(request.fields)
        self._decision = decision
        # What was decided, what the cache said of it, and the head that says both.
        self._head: tuple[Response, str, Response] | None = None

    def is_of(self, policy: Policy, request: Request) -> bool:
        """Tell whether such a request was answered."""
        return (
            self._fields() is request.fields
            and self._method == request.method
            and self._policy is policy
        )

    def again(self, request: Request, stored: StoredResponse, now: float) -> Serve | None:
        """Decide as `Policy.on_request` would; None if that might decide otherwise by now."""
        decision = self._policy.again(request, stored, now, self._decision)
        if decision is not None:
            self._decision = decision
        return decision

    def head(self, decision: Serve, member: str) -> Response:
        """Return the head to send, in which the cache says `member`."""
        last, response = self._head, decision.response
        if last is not None and last[0] is response and last[1] == member:
            return last[2]
        head = cache_status.appended(response, member)
        self._head = response, member, head
        return head


def recalled(stored: StoredResponse, policy: Policy, request: Request) -> Recall | None:
    """Return what was decided about such a request when it was last answered with `stored`."""
    recall: Recall | None = stored.__dict__.get(_NAME)
    return recall if recall is not None and recall.is_of(policy, request) else None


def remember(
    stored: StoredResponse, policy: Policy, request: Request, decision: Serve
) -> Recall | None:
    """Keep a decision, if it stands."""
    if not policy.stands(request, decision):
        return None
    known: dict[Any, Any] = stored.__dict__
    recall = known[_NAME] = Recall(policy, request, decision)
    return recall
