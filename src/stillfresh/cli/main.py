"""The entry point: a group of commands, and an exit status for whatever ends one.

What the command needs beyond the library itself is optional, so nothing of it is imported before
it is known to be there.
"""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NoReturn

from stillfresh.cli.exits import Exit

if TYPE_CHECKING:
    import click

_NEEDED: Final = ("click", "requests", "rich")


def main() -> NoReturn:
    """Run the command that `sys.argv` names, and exit."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        print(
            f"stillfresh: the command needs {names}: pip install 'stillfresh[cli]'",
            file=sys.stderr,
        )
        sys.exit(Exit.USAGE)
    # As an exception it passes by whoever has to clean up.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: sys.exit(Exit.TERMINATED))
    sys.exit(_run())


def _run() -> int:
    import click

    from stillfresh.cli.text import drop_output, say, without_users

    try:
        # What a command returns is its exit status.
        status: int | None = _group().main(prog_name="stillfresh", standalone_mode=False)
    except click.ClickException as error:
        shown = error
        if isinstance(error, click.UsageError) and not isinstance(error, click.BadParameter):
            # It may be about a URL in the wrong place; where one belongs that has been seen to.
            shown = click.UsageError(without_users(error.format_message()), error.ctx)
        shown.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except OSError as error:
        # What a help text can't be written to, say.
        drop_output()
        if isinstance(error, BrokenPipeError):
            return Exit.READER_GONE
        say(f"the output can't be written: {error.strerror}")
        return Exit.OUTPUT
    return status or Exit.OK


def _group() -> click.Group:
    import click

    from stillfresh.cli.get import get
    from stillfresh.cli.keep import ls, prune, stats, verify
    from stillfresh.cli.look import explain, show
    from stillfresh.cli.remove import clear, rm

    group = click.Group(
        "stillfresh",
        commands=[get, ls, show, explain, rm, stats, prune, verify, clear],
        context_settings={"help_option_names": ["-h", "--help"]},
        help="A persistent HTTP response cache, from the command line.",
    )
    return click.version_option(package_name="stillfresh", message="%(prog)s %(version)s")(group)
