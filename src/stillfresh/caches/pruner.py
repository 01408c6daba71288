"""Pruning behind the callers' backs."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Final

from stillfresh.forks import call_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

# How long closing lets pruning come to its end, in seconds: where every process is short, nobody
# else would do it.
_PATIENCE: Final = 5.0
# And where nothing more is stored until it is done.
_LONG_PATIENCE: Final = 60.0
# And how long it waits then for it to stop, which it does before the next entry.
_STOPPING: Final = 1.0


class Pruner:
    """Prunes in a thread, once at a time."""

    def __init__(self, prune: Callable[[Callable[[], bool]], None]) -> None:
        """Have nothing to do; `prune`, a method, is given what says that it is to stop.

        Its object is not kept alive by this: it may be what has the pruner.
        """
        self._prune = weakref.WeakMethod(prune)
        self._stopped = threading.Event()
        self._renew()
        call_in_children(self._renew)

    def _renew(self) -> None:
        """Begin, in this process: threads of its parent, and what they held, are not here."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        stopped, self._stopped = self._stopped.is_set(), threading.Event()
        if stopped:
            self._stopped.set()

    def start(self) -> None:
        """Begin, unless that is under way."""
        prune = self._prune()
        with self._lock:
            if (
                prune is None
                or self._stopped.is_set()
                or (self._thread is not None and self._thread.is_alive())
            ):
                return
            # A daemon: a process that ends in the middle leaves nothing undone that the next
            # one wouldn't do.
            self._thread = threading.Thread(
                target=prune,
                args=(self._stopped.is_set,),
                name="stillfresh-prune",
                daemon=True,
            )
            with contextlib.suppress(RuntimeError):
                self._thread.start()

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until it is done, `timeout` seconds at most; tell whether it is."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join(timeout)
            return not thread.is_alive()
        return True

    def stop(self, *, urgent: bool = False) -> None:
        """Come to an end, sooner or later, and begin no more.

        Where it is `urgent`, that is sooner: nobody else would get any further.
        """
        self.settle(_LONG_PATIENCE if urgent else _PATIENCE)
        self._stopped.set()
        self.settle(_STOPPING)
