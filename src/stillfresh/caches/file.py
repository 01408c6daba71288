"""Caches in a directory, in the layout that CacheControl and pip fixed: `a/b/c/d/e/abcde…`.

The file of that name is the entry. It is a frame (see `frames`) that holds the body too, or names
a body file beside it. A commit is one rename of a finished entry file into its place, so a reader
sees the old version or the new one, and needs no lock. The body file of a version is written
before, under a name that only the coming entry file knows, and removed after the next version has
taken the place; a reader who had opened the old entry file but not its body yet starts over.

A file that doesn't begin with a frame's magic is another program's value, and is handed out as it
is. Only where the root was made by this library (it bears a tag) must such a value look like one
of CacheControl's: anything else there is damage.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from stillfresh import events
from stillfresh.caches import frames, theirs
from stillfresh.caches.base import (
    BodySource,
    BoundedCache,
    Claim,
    Entry,
    EntryInfo,
    EntryWriter,
    Expires,
    InMemory,
    SeparateBodyBaseCache,
    moment,
)
from stillfresh.caches.claims import DirectoryClaims
from stillfresh.caches.directory import Directory
from stillfresh.caches.entryfiles import (
    AT_ONCE,
    FOREIGN,
    InFile,
    Look,
    file_name,
    look_at,
    look_in,
    look_up,
    rewrite,
    stamp,
    touch,
)
from stillfresh.caches.expiry import is_past
from stillfresh.caches.files import fail, read_all, store_error
from stillfresh.caches.filesink import FileSink
from stillfresh.caches.frames import BODY_ELSEWHERE, HAS_BODY, Frame
from stillfresh.caches.lately import Lately
from stillfresh.caches.pairing import Pairing
from stillfresh.caches.present import Present, sweep
from stillfresh.caches.pruner import Pruner
from stillfresh.caches.pruning import (
    Bounds,
    DryRun,
    Progress,
    PruneReport,
    Repair,
    VerifyReport,
)
from stillfresh.caches.upkeep import LOW, Upkeep, empty
from stillfresh.errors import BodyLost, CacheFull, CacheUnavailable, CorruptEntry, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    # What becomes of a frame; None if it isn't the one that is to be changed.
    _Changed: TypeAlias = Callable[[Frame], Frame | None]


# Bodies up to this size ride along in the entry file of a SeparateBodyFileCache: a second file
# costs more than copying this much again when the metadata is refreshed.
_RIDE_ALONG: Final = 1 << 14
# How often a reader starts over because the version it had found was replaced under its hands.
_TRIES: Final = 16
# How every value of CacheControl and pip begins.
_CACHECONTROL: Final = b"cc="
# A frame whose magic has been damaged still has most of its bytes in common with it.
_RESEMBLES: Final = 5


class DirectoryCache(BoundedCache):
    """What the two file caches have in common: all but where a long body goes."""

    # Bodies longer than this have a file of their own; None is never.
    _ride_along: int | None = None

    def __init__(
        self,
        directory: str | os.PathLike[str],
        forever: bool = False,  # noqa: FBT001, FBT002 - the classic signature
        filemode: int = 0o600,
        dirmode: int = 0o700,
        lock_class: Callable[[str], Any] | None = None,
        *,
        max_bytes: int | None = None,
        max_age: float | None = None,
        durable: bool = False,
        allow_unsafe_root: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep entries below `directory`, which is made when first written to.

        Args:
            directory: the root.
            forever: `delete` does nothing.
            filemode: mode of new files, whatever the umask.
            dirmode: mode of new directories, whatever the umask.
            lock_class: makes a lock from a path, like those of `filelock`. Writers then take it
                as well, on one file in the root, where it can be had within a moment. Nothing
                needs it.
            max_bytes: the most that all entries may take, whatever processes write them, as long
                as all have the same bound: what others write is found at the next pruning only.
                When enough has been written they are pruned, in a thread, the least recently used
                first. Default: no bound.
            max_age: entries not used for longer than this many seconds go when it is pruned.
                Default: no bound.
            durable: wait at each commit until the entry is on the disk (fsync). Without it a
                power cut may lose what was stored last, or leave it damaged: that is then seen,
                and a miss, so a cache has little use for it.
            allow_unsafe_root: use a root that another user owns or may write to.
            clock: the time, in seconds since the epoch.

        Raises:
            ConfigError: the root is a file, belongs to another user, or others may write to it
                (and `dirmode` doesn't say that they may).
        """
        super().__init__(clock=clock)
        self.directory = directory
        self.forever = forever
        self.filemode = filemode
        self.dirmode = dirmode
        self.durable = durable
        self._lock_class = lock_class
        self._trusted = allow_unsafe_root
        self._tree = Directory(
            directory, filemode=filemode, dirmode=dirmode, trusted=allow_unsafe_root
        )
        self._bounds = Bounds(max_bytes=max_bytes, max_age=max_age)
        self._begin()

    def __repr__(self) -> str:
        """Name the cache and its directory."""
        return f"{type(self).__name__}({os.fspath(self.directory)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings; what threads have in hand stays here."""
        mine = {"_pairing", "_present", "_upkeep", "_pruner", "_claims", "_looks"}
        return {name: value for name, value in vars(self).items() if name not in mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the settings in another process."""
        vars(self).update(state)
        self._begin()

    def _begin(self) -> None:
        self._present = Present(self._tree.root, self._lock_class)
        self._upkeep = Upkeep(self._tree, self._bounds, self._clock)
        self._pruner = Pruner(self._prune_by_itself)
        self._claims = DirectoryClaims(self._tree)
        # The last looks at entry files: where nobody has touched one since, it is known what stands
        # in it beside the body.
        self._looks: Lately[str, Look] = Lately()

    def _bound(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._upkeep = Upkeep(self._tree, bounds, self._clock)

    @property
    def place(self) -> str:
        return self._tree.root

    def claim(self, key: str, seconds: float) -> Claim | None:
        self._check_open()
        return self._claims.claim(key)

    @property
    def lock_class(self) -> Callable[[str], Any] | None:
        """What makes a lock from a path, as given."""
        return self._lock_class

    def path(self, key: str) -> str:
        """Return the path of the entry file of `key`, whether it exists or not."""
        return self._tree.path(file_name(key))

    def open(self, key: str) -> Entry | None:
        """Follow the entry file to the version it names."""
        return self._follow(key, used=True)

    def peek(self, key: str) -> Entry | None:
        return self._follow(key, used=False)

    def _follow(self, key: str, *, used: bool) -> Entry | None:
        self._check_open()
        name = file_name(key)
        headless: str | None = None
        try:
            for _ in range(_TRIES):
                try:
                    return self._open_present(name, key, used=used)
                except _BodyMissingError as missing:
                    # Either its writer has just removed it, and there is another version by now,
                    # or it is gone for good.
                    if missing.version == headless:
                        msg = "the body file is missing"
                        raise CorruptEntry(msg) from None
                    headless = missing.version
        except FileNotFoundError:
            return None
        except OSError as error:
            fail(error, f"reading in {self._tree.root}")
        # Writers replace it faster than it can be opened.
        return None

    def writer(self, key: str) -> EntryWriter:
        """Write beside what is there, and take its place at the commit."""
        self._check_open()
        version = frames.new_version()
        return EntryWriter(
            FileSink(
                self._tree,
                key,
                version,
                self._ride_along,
                replace=self._present.replace,
                check_open=self._check_open,
                check_room=self._check_room,
                published=self._note,
                # More would not be there any more after the next pruning.
                max_bytes=None if self.max_bytes is None else int(self.max_bytes * LOW),
                durable=self.durable,
            ),
            version=version,
            clock=self._clock,
            remove=lambda: self.remove(key),
        )

    def _change(
        self, key: str, old: bytes | None, metadata: bytes, version: str, expires: Expires
    ) -> bool:
        """Append an amendment to the entry file, or write it anew if it has had many.

        Another program's entry is never updated: that answers False.
        """
        self._check_open()
        now = self._clock()
        expires_at = moment(expires, now)
        name = file_name(key)

        def changed(frame: Frame) -> Frame | None:
            """Return what becomes of a frame, if that is what is to be changed."""
            if (
                frame.version != version
                or is_past(frame.expires_at, now)
                or (old is not None and frame.metadata != old)
            ):
                return None
            return frame._replace(metadata=metadata, stored_at=now, expires_at=expires_at)

        try:
            if is_past(expires_at, now):
                return self._end_present(name, changed, old)
            done = self._change_as_seen(name, changed) or self._change_present(name, changed, old)
        except FileNotFoundError:
            return False
        except OSError as error:
            fail(error, f"updating in {self._tree.root}")
        if done:
            self._note(frames.HEAD_SIZE + len(metadata))
        return done

    def _change_as_seen(self, name: str, changed: _Changed) -> bool:
        """Amend the entry file if it is as it was when it was opened last."""
        look = self._looks.last(name)
        if look is None or (frame := changed(look.frame)) is None:
            return False
        opened = self._tree.open_to_append(name)
        if opened is None:
            return False
        fd, status = opened
        try:
            return look.is_of(status) and look.is_in(fd) and self._amend(name, fd, frame, look)
        finally:
            os.close(fd)

    def _amend(self, name: str, fd: int, frame: Frame, look: Look) -> bool:
        amended = self._present.amend(fd, frame, look)
        if amended is None:
            return False
        self._looks.note(name, amended, amended.size)
        return True

    def _change_present(self, name: str, changed: _Changed, old: bytes | None) -> bool:
        """Amend the entry file as it is, or write it anew."""
        with self._tree.leaf(name) as leaf:
            fd, status = leaf.open_to_append(name)
            try:
                look = look_in(fd, status)
                if look is None or (frame := changed(look.frame)) is None:
                    return False
                if self._amend(name, fd, frame, look):
                    return True
                temporary = rewrite(leaf, name, frame, fd)
            finally:
                os.close(fd)
            try:
                return self._present.replace_version(leaf, name, frame.version, temporary, old)
            finally:
                sweep(leaf, temporary)

    def _end_present(self, name: str, changed: _Changed, old: bytes | None) -> bool:
        """Remove what would have expired by its change."""
        with self._tree.leaf(name) as leaf:
            look = look_up(leaf, name)
            if look is None or changed(look.frame) is None:
                return False
            return self._present.unlink_version(leaf, name, look.frame.version, old)

    def remove(self, key: str) -> bool:
        """Remove the entry file, then its body file; with `forever`, nothing."""
        self._check_open()
        if self.forever:
            return False
        name = file_name(key)
        try:
            with self._tree.leaf(name) as leaf:
                return self._present.unlink(leaf, name)
        except FileNotFoundError:
            return False
        except OSError as error:
            fail(error, f"removing in {self._tree.root}")

    def entries(self) -> Iterator[EntryInfo]:
        """List the entry files in the order of their names, other programs' too."""
        self._check_open()
        now = self._clock()
        try:
            for listed in self._upkeep.listing():
                if not is_past(listed.expires_at, now):
                    yield listed
        except OSError as error:
            fail(error, f"listing {self._tree.root}")

    def open_listed(self, listed: EntryInfo) -> Entry | None:
        """Open an entry by its file, whether its key is known or not."""
        self._check_open()
        try:
            return self._open_present(listed.name, listed.key, used=False)
        except (FileNotFoundError, _BodyMissingError):
            return None
        except OSError as error:
            fail(error, f"reading in {self._tree.root}")

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        max_age: float | None = None,
        dry_run: DryRun = DryRun.NO,
        progress: Progress | None = None,
    ) -> PruneReport:
        """Remove what is over the bounds, what killed writers have left, and empty directories.

        That is expired entries, those not used for over `max_age` seconds, and the least recently
        used ones until `max_bytes` are left. A bound that isn't given is the cache's own. What is
        used or replaced meanwhile stays.

        Raises:
            StoreError: the backend failed, or another process is pruning.
            ConfigError: a bound is negative.
        """
        self._check_open()
        dry_run = DryRun(dry_run)
        bounds = Bounds(
            max_bytes=self.max_bytes if max_bytes is None else max_bytes,
            max_age=self.max_age if max_age is None else max_age,
        )
        try:
            report = self._upkeep.prune(
                bounds, self._present.turn, dry_run=dry_run, progress=progress
            )
        except OSError as error:
            fail(error, f"pruning {self._tree.root}")
        if report is None:
            msg = f"another process is pruning {self._tree.root}"
            raise CacheUnavailable(msg)
        return report

    def verify(
        self, *, repair: Repair = Repair.REPORT, progress: Progress | None = None
    ) -> VerifyReport:
        """Check the length and digest of every entry; remove what is damaged if asked to.

        Other programs' entries bear no digest: of theirs it is looked at whether a body that
        there should be is there.

        Raises:
            StoreError: the backend failed.
        """
        self._check_open()
        repair = Repair(repair)
        report = VerifyReport()
        try:
            for done, listed in enumerate(self._upkeep.listing(), 1):
                self._verify(listed, repair, report)
                if progress is not None:
                    progress(done, None)
        except OSError as error:
            fail(error, f"verifying {self._tree.root}")
        return report

    def close(self) -> None:
        """Let go of everything held open; pruning that is under way stops."""
        super().close()
        self._claims.close()
        self._pruner.stop(urgent=self._upkeep.is_full())

    def _verify(self, listed: EntryInfo, repair: Repair, report: VerifyReport) -> None:
        name = listed.name
        try:
            problem = self._problem(name)
            if problem is not None:
                # Whoever replaces it removes the older body file under the reader's hands.
                problem = self._problem(name)
            if problem is None:
                report.unchecked += listed.foreign
                report.checked += not listed.foreign
                return
            report.damaged[name] = problem
            if repair is Repair.REMOVE:
                with self._tree.leaf(name) as leaf:
                    report.repaired += self._present.unlink_damaged(
                        leaf, name, lambda: self._problem(name) is not None
                    )
        except FileNotFoundError:
            return

    def _problem(self, name: str) -> str | None:
        """Tell what is wrong with an entry.

        Raises:
            FileNotFoundError: it is gone, or has expired.
        """
        try:
            entry = self._open_present(name, None, used=False, anew=True)
            if entry is None:
                raise FileNotFoundError
            with entry:
                entry.verify()
                return self._foreign_problem(entry)
        except (BodyLost, CorruptEntry, _BodyMissingError) as error:
            return str(error)

    def _foreign_problem(self, entry: Entry) -> str | None:
        """Tell what is wrong with another program's entry, as far as this cache knows its body."""
        del entry
        return None

    def _note(self, written: int) -> None:
        """Count what was written, and begin to prune when that is enough."""
        if not self._bounds or not self._upkeep.is_due(written):
            return
        if self._upkeep.has_few():
            self._prune_by_itself(lambda: False)
        else:
            self._pruner.start()

    def _check_room(self) -> None:
        if self._upkeep.is_full():
            self._pruner.start()
            msg = f"{self._tree.root} is full, and being pruned"
            raise CacheFull(msg)

    def _prune_by_itself(self, stopped: Callable[[], bool]) -> None:
        bound = self.max_bytes
        bounds = Bounds(max_bytes=None if bound is None else int(bound * LOW), max_age=self.max_age)
        try:
            report = self._upkeep.prune(bounds, self._present.turn, stopped=stopped)
        except StoreError as error:
            self._swallow("prune", "", error)
        except OSError as error:
            self._swallow("prune", "", store_error(error, f"pruning {self._tree.root}"))
        else:
            if report is not None:
                events.emit(self.hook, events.Pruned("", str(report)))

    def clear(self) -> None:
        """Remove every file of the layout and the directories it leaves empty.

        Files of other names are left alone, and so is what is being written. Entries of other
        programs in the same layout are entries of this cache, and go too.
        """
        self._check_open()
        try:
            for leaf in self._tree.leaves():
                with leaf:
                    empty(leaf)
            self._tree.remove_empty()
        except OSError as error:
            fail(error, f"clearing {self._tree.root}")

    def _open_present(
        self, name: str, key: str | None, *, used: bool = True, anew: bool = False
    ) -> Entry | None:
        """Open an entry file, of a `key` or, with None, of whichever it says.

        It counts as `used` unless it is only looked at. What is remembered of it counts for
        nothing if it is to be read `anew`.
        """
        look = None if anew else self._looks.last(name)
        fd, status = self._tree.open(name)
        try:
            data = read_all(fd, min(status.st_size, AT_ONCE))
            now = self._clock()
            # What was used when the clock was ahead has been used now, as far as anybody knows.
            used = used and not 0 <= now - status.st_atime < self._bounds.recency
            if not data.startswith(frames.MAGIC):
                self._refuse_damage(data)
                if used:
                    touch(fd, now, status)
                return self._open_foreign(name, data, fd, status)
            if look is None or not (look.is_of(status) and data.startswith(look.head)):
                look = look_at(data, fd, status)
                if look.room:
                    self._looks.note(name, look, look.size)
            frame = look.frame
            if frame.key != key and (key is not None or file_name(frame.key) != name):
                msg = "the file holds the entry of another key"
                raise CorruptEntry(msg)
            if is_past(frame.expires_at, now):
                return None
            if used:
                touch(fd, now, status)
            source: BodySource | bytes
            if frame.flags & BODY_ELSEWHERE:
                source = self._open_body(name, frame)
            elif len(data) == status.st_size:
                source = frames.body_of(frame, data)
            else:
                source, fd = InFile(fd, frames.HEAD_SIZE), -1
            return Entry(
                frame.metadata,
                version=frame.version,
                size=frame.body_size,
                source=source,
                digest=frame.digest,
                has_body=bool(frame.flags & HAS_BODY),
                expires_at=frame.expires_at,
            )
        finally:
            if fd >= 0:
                os.close(fd)

    def _open_body(self, name: str, frame: Frame) -> InFile:
        try:
            fd, status = self._tree.open(name, f".{frame.version}.body")
        except FileNotFoundError:
            raise _BodyMissingError(frame.version) from None
        source = InFile(fd, 0)
        if status.st_size != frame.body_size:
            source.close()
            msg = f"a body file of {status.st_size} bytes where {frame.body_size} were written"
            raise CorruptEntry(msg)
        return source

    def _open_foreign(self, name: str, data: bytes, fd: int, status: os.stat_result) -> Entry:
        """Take another program's file as it is, with the body file it has by its convention."""
        value = data + read_all(fd, status.st_size - len(data))
        version = stamp(status)
        try:
            body_fd, body_status = self._tree.open(name, ".body")
        except FileNotFoundError:
            return Entry(
                value, version=version, size=0, source=InMemory(b""), digest=None, has_body=False
            )
        return Entry(
            value,
            version=f"{version}+{stamp(body_status)}",
            size=body_status.st_size,
            source=InFile(body_fd, 0),
            digest=None,
        )

    def _refuse_damage(self, data: bytes) -> None:
        if data.startswith(_CACHECONTROL):
            return
        common = sum(a == b for a, b in zip(data, frames.MAGIC, strict=False))
        # After a power failure there may be NULs where bytes never reached the disk.
        if (
            not data
            or data.startswith(bytes(len(frames.MAGIC)))
            or common >= min(_RESEMBLES, len(data))
            or self._tree.is_ours()
        ):
            msg = "neither an entry nor another program's value"
            raise CorruptEntry(msg)


class FileCache(DirectoryCache):
    """One file an entry, body included: for small responses."""


class SeparateBodyFileCache(DirectoryCache, SeparateBodyBaseCache):
    """An entry file, and for all but small bodies a body file beside it: for downloads."""

    _ride_along = _RIDE_ALONG

    def _foreign_problem(self, entry: Entry) -> str | None:
        return theirs.problem(entry) if entry.version.startswith(FOREIGN) else None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the settings, with nothing in hand."""
        super().__setstate__(state)
        self._pairing = Pairing(self, self._clock)

    def delete(self, key: str) -> bool:
        """Remove value and body, and say whether there was anything; with `forever`, nothing."""
        if self.forever:
            self._check_open()
            return False
        return super().delete(key)

    def clear(self) -> None:
        """Remove every file of the layout and the directories it leaves empty."""
        self._check_open()
        self._pairing.drop()
        super().clear()


class _BodyMissingError(Exception):
    def __init__(self, version: str) -> None:
        super().__init__("the body file is missing")
        self.version = version
