"""A package index on this machine, and pips of fresh virtual environments to use it.

A pip runs as it is, or with our cache in the place of its own: then a few lines put
`SeparateBodyFileCache` where pip has `SafeFileCache`, and give CacheControl's name to the copy of
CacheControl that pip brings along, so that the class is of the base class which that asks for.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import Final

from stillfresh.rfc9111.dates import format_date
from tests.origin import Document, Origin

PROJECT: Final = "demo"
# Seconds for one run of pip, and for what it waits for: pip's own limit is 15, and then it asks
# again, which a machine that is busy would have it do.
PATIENCE: Final = 90.0

_WITH_OURS: Final = """
    import sys
    from importlib import import_module

    sys.path.append({library!r})
    for name in ("cachecontrol", "cachecontrol.cache", "cachecontrol.controller"):
        sys.modules[name] = import_module("pip._vendor." + name)
    for name in ("msgpack", "platformdirs"):
        sys.modules[name] = import_module("pip._vendor." + name)

    from pip._internal.network import cache, download, session
    from stillfresh.integrations.cachecontrol import SeparateBodyFileCache

    for module in (cache, download, session):
        module.SafeFileCache = SeparateBodyFileCache

    from pip._internal.cli.main import main

    sys.exit(main())
"""


class Index:
    """An index with one project, as PyPI has it: pages to be validated, files that never change."""

    def __init__(self, origin: Origin, now: float) -> None:
        self.origin = origin
        self._date = {"Date": format_date(now)}
        self._files: dict[str, bytes] = {}
        # Stale when it comes: of a fresh one, which pip asks about depends on its version.
        stale = {"Cache-Control": "max-age=600, public", "Date": format_date(now - 9000)}
        self._page = Document(b"", headers={"Content-Type": "text/html"} | stale)
        origin.on(f"/simple/{PROJECT}/", self._page)

    @property
    def url(self) -> str:
        return self.origin.url("/simple/")

    def publish(self, release: str, content: bytes = b"", size: int = 0) -> Document:
        """Put a wheel there, which holds a module of that content and a file of that size."""
        name = f"{PROJECT}-{release}-py3-none-any.whl"
        wheel = make_wheel(release, content, size)
        self._files[name] = wheel
        forever = {"Cache-Control": "max-age=365000000, immutable, public"} | self._date
        document = Document(wheel, etag=f'"{release}"', headers=forever)
        self.origin.on(f"/files/{name}", document)
        links = "".join(
            f'<a href="/files/{name}#sha256={hashlib.sha256(wheel).hexdigest()}">{name}</a>\n'
            for name, wheel in self._files.items()
        )
        page = (
            f"<!DOCTYPE html><html><head><title>Links for {PROJECT}</title></head>\n{links}</html>"
        )
        self._page.body = page.encode()
        self._page.etag = f'"{len(self._files)} files"'
        return document

    def taken(self) -> list[str]:
        """Return the paths that were asked for since this was last called, in their order."""
        taken = [request.path for request in self.origin.received]
        self.origin.received.clear()
        return taken


def make_wheel(release: str, content: bytes, size: int) -> bytes:
    info = f"{PROJECT}-{release}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: {release}\n"
    files = {
        f"{PROJECT}.py": content,
        f"{PROJECT}.bin": os.urandom(size),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in (files | {f"{info}/RECORD": record.encode()}).items():
            archive.writestr(name, data)
    return made.getvalue()


@dataclass(frozen=True, slots=True)
class Pip:
    """The pip of one virtual environment.

    Attributes:
        home: where the environment is.
        ours: whether our cache is in the place of its own.
        cache: its cache folder.
    """

    home: Path
    ours: bool
    cache: Path

    @property
    def http(self) -> Path:
        """Where it keeps responses."""
        return self.cache / "http-v2"

    def start(self, index: Index, *arguments: str) -> subprocess.Popen[bytes]:
        """Start to install the project from an index; what it says can be read."""
        program = [str(self.home / "with_ours.py")] if self.ours else ["-m", "pip"]
        return subprocess.Popen(
            [
                *(str(self.home / "bin" / "python"), *program, "install", "--quiet"),
                *("--index-url", index.url, "--trusted-host", "127.0.0.1"),
                *("--disable-pip-version-check", "--no-input", "--no-deps", "--force-reinstall"),
                *("--no-compile", "--timeout", f"{PATIENCE:.0f}"),
                *("--cache-dir", str(self.cache), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(self.home),
        )

    def install(self, index: Index, *arguments: str, release: str = "1.0") -> str:
        """Install a release, see that it goes well, and return what pip says."""
        return finish(self.start(index, *arguments, f"{PROJECT}=={release}"))

    def installed(self) -> bytes:
        """Return the content of the module that is installed."""
        (file,) = self.home.glob(f"lib/python*/site-packages/{PROJECT}.py")
        return file.read_bytes()


def finish(process: subprocess.Popen[bytes]) -> str:
    """Wait for a pip that has to succeed, and return what it says."""
    with process:
        try:
            said, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, said.decode()
    return str(said, "utf-8")


def make_pip(home: Path, cache: Path, *, ours: bool) -> Pip:
    """Make a virtual environment whose pip is the one that runs the tests."""
    venv.EnvBuilder(symlinks=True).create(home)
    (site,) = home.glob("lib/python*/site-packages")
    # By a file, since to remove all files of a folder pip renames it, and follows no links there.
    tools = home / "tools"
    tools.mkdir()
    (tools / "pip").symlink_to(_package("pip"))
    (site / "tools.pth").write_text(str(tools))
    library = home / "library"
    information = library / f"stillfresh-{version('stillfresh')}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: stillfresh\nVersion: {version('stillfresh')}\n"
    )
    for name in ("stillfresh", "xxhash"):
        (library / name).symlink_to(_package(name))
    program = dedent(_WITH_OURS).format(library=str(library))
    (home / "with_ours.py").write_text(program)
    return Pip(home, ours, cache)


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _environment(home: Path) -> dict[str, str]:
    """Leave nothing of the user's settings."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "LC_ALL": "C.UTF-8"}


def stillfresh(*arguments: str, cache: Path) -> str:
    """Run our command on a folder, and return what it says."""
    command: Sequence[str] = [sys.executable, "-m", "stillfresh.cli", *arguments]
    done = subprocess.run(
        [*command, "--cache", cache.as_uri()],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
