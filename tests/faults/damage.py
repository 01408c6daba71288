"""What can happen to a file, or be in its place."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Around:
    """What else there is.

    Attributes:
        others: the other files of the cache.
        older: what the file held before its last version.
        outside: a directory that is not the cache's.
    """

    others: list[Path]
    older: list[bytes]
    outside: Path


Damage = Callable[[Path, random.Random, Around], None]


def _rewritten(change: Callable[[bytes, random.Random], bytes]) -> Damage:
    """Let a file have other bytes: a new file, as what is open somewhere must not change."""

    def damage(file: Path, chance: random.Random, around: Around) -> None:
        data = change(file.read_bytes(), chance)
        mode = file.stat().st_mode
        file.unlink()
        file.write_bytes(data)
        file.chmod(stat.S_IMODE(mode))

    return damage


def _flip(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _flip_in_head(data: bytes, chance: random.Random) -> bytes:
    return _flip(data[:80], chance) + data[80:]


def _truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) or 1)]


def _lengthen(data: bytes, chance: random.Random) -> bytes:
    return data + chance.randbytes(chance.randrange(1, 5000))


def _garbage(data: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((len(data), chance.randrange(1, 2000))))


def _zero(data: bytes, chance: random.Random) -> bytes:
    # What a crash leaves of blocks that never reached the disk.
    at = chance.randrange(len(data) or 1) // 512 * 512
    end = min(len(data), at + 512 * chance.randrange(1, 9))
    return data[:at] + bytes(max(0, end - at)) + data[end:]


def _delete(file: Path, chance: random.Random, around: Around) -> None:
    file.unlink()


def _swap(file: Path, chance: random.Random, around: Around) -> None:
    other = chance.choice(around.others)
    aside = around.outside / "aside"
    file.rename(aside)
    other.rename(file)
    aside.rename(other)


def _copy_of_another(file: Path, chance: random.Random, around: Around) -> None:
    other = chance.choice(around.others)
    file.unlink()
    shutil.copyfile(other, file)


def _link_to_another(file: Path, chance: random.Random, around: Around) -> None:
    other = chance.choice(around.others)
    file.unlink()
    os.link(other, file)


def _what_it_was(file: Path, chance: random.Random, around: Around) -> None:
    file.unlink()
    file.write_bytes(chance.choice(around.older))


def _directory(file: Path, chance: random.Random, around: Around) -> None:
    file.unlink()
    file.mkdir()


def _full_directory(file: Path, chance: random.Random, around: Around) -> None:
    _directory(file, chance, around)
    (file / "theirs").write_bytes(b"theirs")


def _fifo(file: Path, chance: random.Random, around: Around) -> None:
    file.unlink()
    os.mkfifo(file)


def _socket(file: Path, chance: random.Random, around: Around) -> None:
    file.unlink()
    # The name of a socket may not be long.
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{short}/socket")
        Path(short, "socket").replace(file)


def _device(major: int, minor: int) -> Damage:
    def damage(file: Path, chance: random.Random, around: Around) -> None:
        file.unlink()
        os.mknod(file, stat.S_IFCHR | 0o600, os.makedev(major, minor))

    return damage


def _link_to_itself_elsewhere(file: Path, chance: random.Random, around: Around) -> None:
    target = around.outside / f"{chance.getrandbits(64):x}"
    shutil.move(file, target)
    file.symlink_to(target)


def _link_within(file: Path, chance: random.Random, around: Around) -> None:
    file.unlink()
    file.symlink_to(chance.choice(around.others))


def _link_to_nothing(file: Path, chance: random.Random, around: Around) -> None:
    file.unlink()
    file.symlink_to(around.outside / "nothing")


def _link_in_a_circle(file: Path, chance: random.Random, around: Around) -> None:
    file.unlink()
    file.symlink_to(file)


def _closed(file: Path, chance: random.Random, around: Around) -> None:
    file.chmod(0)


OF_BYTES: Final[dict[str, Damage]] = {
    "flip": _rewritten(_flip),
    "flip in the head": _rewritten(_flip_in_head),
    "truncate": _rewritten(_truncate),
    "lengthen": _rewritten(_lengthen),
    "empty": _rewritten(lambda data, chance: b""),
    "garbage": _rewritten(_garbage),
    "zero": _rewritten(_zero),
    "delete": _delete,
}
OF_FILES: Final[dict[str, Damage]] = {
    "swap": _swap,
    "a copy of another": _copy_of_another,
    "a hard link to another": _link_to_another,
    "what it was before": _what_it_was,
    "no permission": _closed,
}
IN_ITS_PLACE: Final[dict[str, Damage]] = {
    "a directory": _directory,
    "a full directory": _full_directory,
    "a FIFO": _fifo,
    "a socket": _socket,
    "a link to itself elsewhere": _link_to_itself_elsewhere,
    "a link to another": _link_within,
    "a link to nothing": _link_to_nothing,
    "a link in a circle": _link_in_a_circle,
    "an endless device": _device(1, 5),
    "a full device": _device(1, 7),
}
DAMAGES: Final = OF_BYTES | OF_FILES | IN_ITS_PLACE


@functools.cache
def what_can_be_done_here(outside: Path) -> list[str]:
    """Name the damages that this machine lets this user do."""
    possible = []
    for name, damage in DAMAGES.items():
        file, other = outside / "probe", outside / "other"
        for each in (file, other):
            each.write_bytes(bytes(100))
        with contextlib.suppress(OSError, AttributeError):
            damage(file, random.Random(0), Around([other], [b""], outside))
            possible.append(name)
        for each in (file, other):
            put_away(each)
    return possible


def put_away(path: Path) -> None:
    """Remove whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
