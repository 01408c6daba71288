"""Run the public HTTP cache test suite against each of our clients behind a small proxy.

    python -m tests.conformance [--client NAME ...] [--shared | --private] [--only TEST_ID ...]
                                [--verbose] [--json FILE]

The suite is the npm package `http-cache-tests`, the one behind cache-tests.fyi. Its client sends
requests through `proxy.py` to its origin server, and compares what both of them saw.

Two runs for each client, each with a new cache, by the package's own selection (`runTests` in
client/runner.mjs):

- shared: what it runs against a reverse proxy, all tests but those marked `browser_only`. The
  `Surrogate-Control` suite is among them, as it is for the package's command line.
- private: what it runs in a browser, all tests but those marked `browser_skip`, which are about
  shared caches or about what scripts don't get to see. As in a browser, the client doesn't check
  whether Set-Cookie came through, and doesn't add the `Pragma` and `Cache-Control` of no meaning
  that it sends to keep a browser's cache out of the way. Where a test asks a browser's `fetch` for
  a cache mode, as the two about `immutable` do, there is nothing in node that would listen.

That makes 350 tests for a shared cache (165 required, 95 optimal, 90 checks) and 294 for a private
one (147, 68, 79). Figures from the suite's repository are of other tests: it has gone on since this
release, without a new version number.

Tests that the origin's connections broke off under are run once more, which is said.

What the scores mean is in `scoring.py`. The exit code is 0 if every required test passes or has a
reason in `reasons.py`, and no reason has outlived its need; 1 if not; 2 if the suite can't run.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.clients import CLIENTS
from tests.conformance.proxy import ReverseProxy
from tests.conformance.reasons import reasons_for
from tests.conformance.scoring import (
    Mode,
    Score,
    broken_off,
    comparison,
    outlived,
    report,
    score,
    unexcused,
)
from tests.conformance.suite import SuiteError, install, origin_log, origin_server, run_client


def main() -> int:
    options = _options()
    # As Ctrl-C, so that nothing that was started is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        scores = {
            client: _run(client, options.modes, options.only, verbose=options.verbose)
            for client in options.client or CLIENTS
        }
    except SuiteError as error:
        sys.stderr.write(f"conformance: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    if options.json is not None:
        results = {
            client: {each.mode.value: each.as_json(reasons_for(client)) for each in found}
            for client, found in scores.items()
        }
        text = json.dumps(results, indent=1, ensure_ascii=False)
        options.json.write_text(f"{text}\n", encoding="utf-8")
    _say(*comparison(scores), "")
    return max(_conclude(client, found) for client, found in scores.items())


def _options() -> argparse.Namespace:
    what, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=what)
    parser.add_argument(
        "--client", nargs="+", choices=list(CLIENTS), metavar="NAME", help=", ".join(CLIENTS)
    )
    which = parser.add_mutually_exclusive_group()
    for mode in Mode:
        which.add_argument(
            f"--{mode.value}",
            dest="modes",
            action="store_const",
            const=[mode],
            help=f"only as a {mode.value} cache",
        )
    parser.add_argument("--only", nargs="+", default=[], metavar="TEST_ID", help="only these tests")
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="show the tests that pass and the checks as well; with --only, the messages too",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.set_defaults(modes=list(Mode))
    return parser.parse_args()


def _run(client: str, modes: Sequence[Mode], only: Sequence[str], *, verbose: bool) -> list[Score]:
    install()
    dump = verbose and bool(only)
    scores = []
    for mode in modes:
        with (
            origin_server() as origin,
            ReverseProxy(origin, client, shared=mode is Mode.SHARED) as proxy,
        ):
            data = run_client(proxy.url, mode, only, dump=dump)
            if again := broken_off(data, reasons_for(client)):
                _say(f"{client}: broken off, and tried once more: {', '.join(again)}")
                data["results"].update(run_client(proxy.url, mode, again, dump=dump)["results"])
            result = score(data, mode, only)
        if unknown := set(only) - result.known:
            raise SuiteError(f"no such test: {', '.join(sorted(unknown))}")
        if dump:
            sys.stderr.write(origin_log().read_text(encoding="utf-8"))
        _say(f"{client}: {report(result, reasons_for(client), verbose=verbose)}", "")
        scores.append(result)
    return scores


def _conclude(client: str, scores: Sequence[Score]) -> int:
    """Say what keeps a client's runs from being a success, and return the exit code."""
    short = unexcused(scores, reasons_for(client))
    unneeded = outlived(scores, reasons_for(client))
    _say(*(f"{client}: reason no longer needed: {name}" for name in unneeded))
    if short:
        _say(f"{client}: required tests that fall short without a reason: {len(short)}")
    return int(bool(short or unneeded))


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
