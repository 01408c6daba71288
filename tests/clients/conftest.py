"""What has to happen before the clients' tests are imported, and how much of them is run."""

from __future__ import annotations

import pytest

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
