"""Body files beside a database: one file for each body, in a folder for all of a database.

A file's name is the version it belongs to. It is locked while it is written, and until a row names
it; what nobody names and nobody locks was a killed writer's.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from typing import TYPE_CHECKING, Final, NoReturn

from stillfresh.caches.entryfiles import InFile
from stillfresh.caches.files import fail, write_all
from stillfresh.caches.generations import BODY_NAME
from stillfresh.caches.locks import create_held, is_held
from stillfresh.caches.pruning import DryRun
from stillfresh.errors import CorruptEntry, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from stillfresh.caches.directory import Directory
    from stillfresh.caches.pruning import PruneReport

# Its time is when somebody has last swept.
_SWEPT: Final = ".stillfresh-pruned"
_TRIES: Final = 5


class BodyFiles:
    """The body files in one root, by the number of their folder."""

    def __init__(self, tree: Directory) -> None:
        """Keep them in the root of `tree`."""
        self._tree = tree

    def open(self, number: int, version: str, size: int) -> InFile | None:
        """Open a body; None where there is none.

        Raises:
            CorruptEntry: it can't be what was written.
        """
        try:
            with self._tree.folder(_folder(number)) as folder:
                fd, status = folder.open(version)
        except FileNotFoundError:
            return None
        except OSError as error:
            msg = f"the body file can't be read: {error.strerror}"
            raise CorruptEntry(msg) from error
        source = InFile(fd, 0)
        if status.st_size != size:
            source.close()
            msg = f"a body file of {status.st_size} bytes where {size} were written"
            raise CorruptEntry(msg)
        return source

    def create(self, number: int, version: str) -> BodySink:
        """Begin a body that nobody knows yet.

        Raises:
            StoreError: it can't be made.
        """
        for attempt in range(_TRIES):
            try:
                with self._tree.folder(_folder(number), create=True) as folder:
                    fd = create_held(functools.partial(folder.create, version))
            except OSError as error:
                # Somebody may remove the folder before there is something in it.
                if attempt == _TRIES - 1 or not isinstance(error, FileNotFoundError):
                    self.fail_to_write(error)
            else:
                return BodySink(self, number, version, fd)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def fail_to_write(self, error: OSError) -> NoReturn:
        """Raise `error` as a `StoreError` that says what failed, and where."""
        fail(error, f"writing a body in {self._tree.root}")

    def unlink(self, number: int, version: str) -> bool:
        """Remove a body, and say whether it is gone."""
        try:
            with self._tree.folder(_folder(number)) as folder:
                folder.unlink(version)
        except FileNotFoundError:
            return True
        except (OSError, StoreError):
            return False
        return True

    def is_swept(self, seconds: float) -> bool:
        """Tell whether somebody has swept within so many seconds; if not, it is taken as done now.

        Raises:
            OSError, StoreError: that can't be noted.
        """
        fd = self._tree.open_beside(_SWEPT, os.O_RDWR)
        try:
            status = os.fstat(fd)
            # A new one is empty, and as old as it gets.
            if status.st_size and 0 <= time.time() - status.st_mtime < seconds:
                return True
            os.ftruncate(fd, 0)
            os.write(fd, b"\n")
            return False
        finally:
            os.close(fd)

    def sweep(
        self,
        number: int,
        named: Container[str],
        is_named: Callable[[str], bool],
        report: PruneReport,
        dry_run: DryRun,
    ) -> None:
        """Remove bodies that no row names and nobody writes, and the folder if it is empty.

        Those `named` were named a moment ago, and are not looked at.
        """
        with contextlib.suppress(OSError):
            with self._tree.folder(_folder(number)) as folder:
                for name in folder.names(BODY_NAME):
                    if name in named:
                        continue
                    with contextlib.suppress(OSError):
                        fd, status = folder.open(name)
                        try:
                            # In this order: a writer lets go when a row names it.
                            if is_held(fd) or is_named(name):
                                continue
                            if dry_run is DryRun.NO:
                                folder.unlink(name)
                        finally:
                            os.close(fd)
                        report.swept += 1
                        report.swept_bytes += status.st_size
            if dry_run is DryRun.NO:
                os.rmdir(os.path.join(self._tree.root, _folder(number)))
                report.directories += 1


class BodySink:
    """Writes one body file.

    Attributes:
        number: of the folder that it lies in.
    """

    __slots__ = ("_fd", "_files", "_version", "number")

    def __init__(self, files: BodyFiles, number: int, version: str, fd: int) -> None:
        self.number = number
        self._files = files
        self._version = version
        self._fd = fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append.

        Raises:
            StoreError: it can't be written.
        """
        try:
            write_all(self._fd, data)
        except OSError as error:
            self._files.fail_to_write(error)

    def finish(self, *, durable: bool) -> bool:
        """Tell whether it is still there, all of it, and on the disk if it is to be `durable`.

        Raises:
            StoreError: it can't be written.
        """
        try:
            if durable:
                os.fsync(self._fd)
            return os.fstat(self._fd).st_nlink > 0
        except OSError as error:
            self._files.fail_to_write(error)

    def remove(self) -> None:
        """Leave no trace."""
        if self._fd >= 0:
            self._files.unlink(self.number, self._version)
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def _folder(number: int) -> str:
    return f"bodies-{number}"
