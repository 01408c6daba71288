"""Work behind the caller's back: validating what has been served stale (RFC 5861 §3), in threads.

Once at a time for a key. The threads are daemons, so none keeps the interpreter alive: one that is
killed in the middle leaves no more behind than a killed process does.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from stillfresh.rfc9111.validation import OF_CALLER

if TYPE_CHECKING:
    from collections.abc import Callable

# The request fields, in lower case, that a refresh leaves out: it is made for the cache.
LEFT_OUT: Final = OF_CALLER
# More stale responses than this at once are refreshed by later requests.
_MOST: Final = 8


class Behind:
    """The refreshes of one client."""

    def __init__(self, failed: Callable[[str, Exception], None]) -> None:
        """Have nothing to do; `failed` is told of a key and why it could not be refreshed."""
        self._failed = failed
        self._begin()

    def start(self, key: str, work: Callable[[], None]) -> bool:
        """Do `work` in a thread, unless it is being done for `key`, or too much else is."""
        self._look_whose()
        with self._changed:
            if key in self._keys or len(self._keys) >= _MOST:
                return False
            self._keys.add(key)
        thread = threading.Thread(
            target=self._run, args=(key, work), name="stillfresh-refresh", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # No more threads are to be had, or the interpreter is going down.
            self._end(key)
            return False
        return True

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is under way, `timeout` seconds at most; tell whether nothing is."""
        self._look_whose()
        with self._changed:
            return self._changed.wait_for(lambda: not self._keys, timeout)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._keys: set[str] = set()

    def _look_whose(self) -> None:
        """Begin anew in a child made by `fork()`, which has none of the threads."""
        if os.getpid() != self._pid:
            self._begin()

    def _run(self, key: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            self._failed(key, error)
        finally:
            self._end(key)

    def _end(self, key: str) -> None:
        with self._changed:
            self._keys.discard(key)
            self._changed.notify_all()
