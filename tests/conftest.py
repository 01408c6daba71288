"""What has to happen before the tests are imported, and what many of them ask for."""

from __future__ import annotations

import gc
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.faults.tally import PROPERTY, figures_of
from tests.origin import Origin

if TYPE_CHECKING:
    from tests.redis_servers import ClusterSetup, RedisServer, SentinelSetup

pytest.register_assert_rewrite("stillfresh.testing.conformance")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak", action="store_true", help="try every fault for minutes instead of seconds"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples of a property than when it soaks."""
    settings.register_profile("stillfresh", max_examples=1000 if config.getoption("soak") else 25)
    settings.load_profile("stillfresh")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Keep the tests themselves, which are many, from being looked through for garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests that are marked `one_in(n)` run one in n: always the same, and all that soak.

    They are those of large tables, and of suites that others go through in full.
    """
    if config.getoption("soak"):
        return
    left_out = []
    for item in items:
        mark = item.get_closest_marker("one_in")
        if mark is not None and zlib.crc32(item.nodeid.encode()) % mark.args[0]:
            left_out.append(item)
    if left_out:
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the faults have come to; here, for below it is only read where tests are run."""
    told = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    for line in figures_of(told):
        terminalreporter.write_line(line)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A server of the test's own, closed when it is over."""
    with Origin() as running:
        yield running


# Redis is started when the first test asks for it, and that is when its client is imported.


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    from tests.redis_servers import RedisServer

    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSetup]:
    from tests.redis_servers import SentinelSetup

    with SentinelSetup(tmp_path_factory.mktemp("sentinel")) as setup:
        yield setup


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSetup]:
    from tests.redis_servers import ClusterSetup

    with ClusterSetup(tmp_path_factory.mktemp("cluster")) as setup:
        yield setup
