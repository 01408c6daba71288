"""What has to happen before the tests are imported, and what many of them ask for."""

from collections.abc import Iterator

import pytest

from tests.origin import Origin

pytest.register_assert_rewrite("stillfresh.testing.conformance")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak", action="store_true", help="try every fault for minutes instead of seconds"
    )


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A server of the test's own, closed when it is over."""
    with Origin() as running:
        yield running
