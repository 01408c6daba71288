"""What a child made by `fork()` begins anew.

It has its parent's objects and none of its threads: a lock that one of those held will never be
given back, and what the parent has claimed or counted is the parent's.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_methods: Final[set[weakref.WeakMethod[Callable[[], Any]]]] = set()


def call_in_children(method: Callable[[], None]) -> None:
    """Call a method in every child, for as long as its object is there; in no order."""
    _methods.add(weakref.WeakMethod(method, _methods.discard))


def _call_all() -> None:
    for known in list(_methods):
        method = known()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_call_all)
