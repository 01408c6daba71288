"""`make run`: the same URL downloaded twice, and what the cache said each time.

Without a URL there is a server of the demo's own on this machine, so it works anywhere, and then
the second answer has to come from the cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE: Final = b"Is it still fresh?\n" * 1000
_FROM_CACHE: Final = ("hit", "revalidated")


def main() -> int:
    """Run the demo on the URL in `sys.argv`, or on its own; return the exit status."""
    given = sys.argv[1:]
    if len(given) > 1 or (given and given[0].startswith("-")):
        print("usage: python -m stillfresh.cli.demo [URL]", file=sys.stderr)
        return 2
    if given:
        status, _ = _twice(given[0])
        return status
    with _origin() as (url, requests):
        print(f"A server of this demo's own answers at {url}")
        print("with 'Cache-Control: max-age=60' and an ETag.")
        status, from_cache = _twice(url)
        print(f"The server was asked {len(requests)} time(s).")
    return status or (0 if from_cache and len(requests) == 1 else 1)


def _twice(url: str) -> tuple[int, bool]:
    """Get `url` twice; tell the first bad status, and whether the second came from the cache."""
    with tempfile.TemporaryDirectory(prefix="stillfresh-demo-") as place:
        # The same kind of cache as where nobody names one, at another place.
        cache = Path(place, "cache").as_uri().replace("file:", "sqlite:", 1)
        print(f"The cache is new and empty, and is removed afterwards: {cache}\n")
        first, _ = _get(url, cache, place)
        second, told = _get(url, cache, place)
    from_cache = told.startswith(_FROM_CACHE)
    print(
        "The second answer came from the cache."
        if from_cache
        else "The second answer did not come from the cache; the lines above say why."
    )
    return first or second, from_cache


def _get(url: str, cache: str, place: str) -> tuple[int, str]:
    """Run the command; return its exit status and the last line that it wrote on stderr."""
    print(f"$ stillfresh get -o page {url}", flush=True)
    command = [sys.executable, "-m", "stillfresh.cli", "get", "-o", str(Path(place, "page")), url]
    # No proxy knows the demo's own server.
    exempt = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    environment = {
        **os.environ,
        "STILLFRESH_CACHE": cache,
        "no_proxy": f"{exempt},127.0.0.1",
        "PYTHONIOENCODING": "utf-8",
    }
    done = subprocess.run(  # noqa: S603 - this very program
        command, env=environment, stderr=subprocess.PIPE, encoding="utf-8", check=False
    )
    print(done.stderr)
    lines = done.stderr.splitlines()
    return done.returncode, lines[-1] if lines else ""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(_PAGE)))
        self.send_header("Cache-Control", "max-age=60")
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(_PAGE)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Leave the screen to the command."""


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


@contextmanager
def _origin() -> Iterator[tuple[str, list[str]]]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", server.requests
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
