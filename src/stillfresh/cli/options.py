"""Options that several commands have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import click

from stillfresh import ConfigError
from stillfresh.caches.urls import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

cache_option: Final[Callable[[Any], Any]] = click.option(
    "--cache",
    envvar="STILLFRESH_CACHE",
    metavar="URL",
    help="The cache, such as file:///path/to/folder.  [default: what STILLFRESH_CACHE says, or one"
    " in your cache folder]",
)
"""Which cache a command is about."""


if TYPE_CHECKING:
    _IntParamType = click.ParamType[int]
else:
    # That it says what it converts to is new in Click 8.4.
    _IntParamType = click.ParamType


class Size(_IntParamType):
    """A number of bytes: `500M`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        try:
            return parse_size(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Days(click.FloatRange):
    """A number of days: `0.5`."""

    def __init__(self) -> None:
        """Take none below zero."""
        super().__init__(min=0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        days: float = super().convert(value, param, ctx)
        if math.isnan(days):
            self.fail(f"{value!r} is no number of days", param, ctx)
        return days
