"""Why tests can't or shall not pass from a Python client library, by the test's id.

A required test that is listed here may fall short without failing the run. One that is listed and
passes after all fails it, as does an id that the suite doesn't have: the list stays as short as it
can be. What will be implemented doesn't belong here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

REASONS: Final[Mapping[str, str]] = {}
