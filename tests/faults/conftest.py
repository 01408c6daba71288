"""How much is tried, and the figures at the end."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator

import pytest

from tests.faults.children import small_disk
from tests.faults.tally import PROPERTY, Tally

__all__ = ["small_disk"]


class Effort:
    """How often something is tried: `effort(40, soak=200)`."""

    def __init__(self, *, soaking: bool) -> None:
        self.soaking = soaking

    def __call__(self, normally: int, *, soak: int) -> int:
        return soak if self.soaking else normally


@pytest.fixture
def effort(pytestconfig: pytest.Config) -> Effort:
    return Effort(soaking=bool(pytestconfig.getoption("soak")))


@pytest.fixture
def tally() -> Tally:
    """What was tried in a test, and what went wrong; it is printed at the end of the run."""
    return Tally()


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """Don't log the failures that these tests bring about by the hundred."""
    log = logging.getLogger("stillfresh")
    before = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        told = getattr(item, "funcargs", {}).get("tally")
        if isinstance(told, Tally):
            title = (item.module.__doc__ or "").split(":")[0] if hasattr(item, "module") else ""
            item.user_properties.append((PROPERTY, told.as_property(title)))
