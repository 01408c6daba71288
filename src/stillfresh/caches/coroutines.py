"""One implementation for blocking and for asynchronous callers.

What both need is a coroutine over ports. Ports that answer at once never suspend it, so a blocking
caller gets to its end with a single `send(None)`; an asynchronous one awaits it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

T = TypeVar("T")

Settle: TypeAlias = "Callable[[Any], Coroutine[Any, Any, Any]]"
"""Makes of what a port has answered that which it stands for."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose ports never suspend.

    Raises:
        RuntimeError: one did.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    msg = "a port of a blocking client suspended"
    raise RuntimeError(msg)


async def at_once(answer: T) -> T:
    """Take the answer of a blocking port, which is here."""
    return answer


async def awaited(answer: Awaitable[T]) -> T:
    """Wait for the answer of an asynchronous port."""
    return await answer
