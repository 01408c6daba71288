"""What has to happen before the clients' tests are imported, and how much of them is run."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.origin import Origin

pytest.register_assert_rewrite("tests.clients.behaviours")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the behaviours that one client is put through in full, put the others through samples.

    A class that is `sampled` runs every behaviour with the first and the last of its parameters:
    what lies between concerns the engine, which is the same behind all clients. `--soak` runs all.
    """
    if config.getoption("soak", default=False):
        return
    groups: dict[tuple[object, str], list[pytest.Item]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and getattr(item.cls, "sampled", False):
            groups.setdefault((item.cls, item.originalname), []).append(item)
    left_out = {item for group in groups.values() for item in group[1:-1]}
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=list(left_out))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that vouches for itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate", folder / "key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> Path:
    """What vouches for `tls_origin`."""
    return certificate[0]


@pytest.fixture
def tls_origin(certificate: tuple[Path, Path]) -> Iterator[Origin]:
    """A server with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Origin(tls=context) as running:
        yield running
