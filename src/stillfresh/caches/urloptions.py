"""What stands behind the question mark of a cache's URL: options by name, and none but known ones.

One that nobody knows is named, since it is most likely misspelt; but where an "@" follows, it may
be a piece of a password that isn't quoted as it should be, and nothing of it is repeated.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from stillfresh.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# As all names of options are. Anything else may be anything.
_NAME: Final = re.compile(r"[a-z_]{1,40}")


def options_of(query: str, known: Collection[str], scheme: str) -> dict[str, str]:
    """Read the options in a URL's query; of one that is given twice, the last counts.

    Raises:
        ConfigError: some are not `known` in URLs of that scheme.
    """
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = [name for name in given if name not in known]
    if unknown:
        may_be_named = "@" not in query and all(map(_NAME.fullmatch, unknown))
        which = f" {_listed([repr(name) for name in unknown])}" if may_be_named else ""
        several = "s" if len(unknown) > 1 else ""
        there_are = _listed(sorted(known))
        msg = f"unknown option{several}{which} of a {scheme}: URL; there are {there_are}"
        raise ConfigError(msg)
    return given


def _listed(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
