"""What `import stillfresh` gives, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import stillfresh
from stillfresh import (
    BodyLost,
    CacheClosed,
    CacheError,
    CacheFull,
    CacheUnavailable,
    ConfigError,
    CorruptEntry,
    StoreError,
)

CLIENTS = {
    "aiohttp": {"aiohttp"},
    "httpx": {"httpx"},
    "httpx2": {"httpx2"},
    "requests": {"requests", "urllib3"},
    "urllib3": {"urllib3"},
}
OPTIONAL = sorted(
    {"cachecontrol", "click", "filelock", "redis", "rich", "trio"}.union(*CLIENTS.values())
)


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own, where warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_all_that_is_promised_is_there() -> None:
    for name in stillfresh.__all__:
        assert getattr(stillfresh, name) is not None
    assert len(set(stillfresh.__all__)) == len(stillfresh.__all__)


def test_nothing_public_is_left_out() -> None:
    modules = {"caches", "cli", "clients", "engine", "errors", "events", "integrations", "rfc9111"}
    modules |= {"forks", "memo", "testing"}
    public = {name for name in vars(stillfresh) if not name.startswith("_")} - modules
    assert public <= set(stillfresh.__all__)


def test_importing_it_pulls_in_nothing_optional() -> None:
    done = python(f"import sys, stillfresh; print(set(sys.modules) & set({OPTIONAL}))")
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_brings_its_own_library_only(client: str) -> None:
    # What a library imports by itself, where it is installed, is the library's.
    before = f"import sys, {client}; own = set(sys.modules)"
    done = python(
        f"{before}; import stillfresh.clients.{client}; "
        f"print((set(sys.modules) - own) & set({OPTIONAL})); "
        f"print({CLIENTS[client]} <= set(sys.modules))"
    )
    assert (done.stdout, done.stderr) == ("set()\nTrue\n", "")


@pytest.mark.parametrize(
    ("client", "missing", "told"),
    [
        ("aiohttp", "aiohttp", "aiohttp 3.12"),
        ("httpx", "httpx", "httpx"),
        ("httpx2", "httpx2", "httpx2"),
        ("requests", "requests", "requests"),
        ("requests", "urllib3", "requests"),
        ("urllib3", "urllib3", "urllib3"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(client: str, missing: str, told: str) -> None:
    done = python(
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import stillfresh\n"
        "try:\n"
        f"    import stillfresh.clients.{client}\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert done.stdout == (
        f"stillfresh.clients.{client} needs {told}: pip install 'stillfresh[{client}]'\n"
    )


def test_a_missing_cachecontrol_is_named_with_its_extra() -> None:
    done = python(
        "import sys; sys.modules['cachecontrol'] = None\n"
        "try:\n"
        "    import stillfresh.integrations.cachecontrol\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert done.stdout == (
        "stillfresh.integrations.cachecontrol needs CacheControl: "
        "pip install 'stillfresh[cachecontrol]'\n"
    )


def test_a_missing_pytest_is_named_by_the_suite_for_it() -> None:
    done = python(
        "import sys; sys.modules['pytest'] = None\n"
        "try:\n"
        "    from stillfresh.testing.conformance import CacheConformance\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert done.stdout == "stillfresh.testing.conformance needs pytest: pip install pytest\n"


def test_where_there_is_no_filelock_no_lock_is_the_default() -> None:
    done = python(
        "import sys; sys.modules['filelock'] = None\n"
        "from stillfresh.integrations.cachecontrol import FileCache\n"
        "print(FileCache('web').lock_class)\n"
    )
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_it_says_its_version() -> None:
    assert stillfresh.__version__ == version("stillfresh")


def test_all_errors_are_of_one_family() -> None:
    for failure in (CorruptEntry, BodyLost, CacheFull, CacheUnavailable):
        assert issubclass(failure, StoreError)
    for error in (StoreError, ConfigError, CacheClosed):
        assert issubclass(error, CacheError)
    assert not issubclass(ConfigError, StoreError)
    assert not issubclass(CacheClosed, StoreError)
    assert issubclass(BodyLost, OSError)
    assert issubclass(ConfigError, ValueError)
