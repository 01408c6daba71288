"""What the exit status of the command means.

Where curl has a number for the same thing, it is curl's, so that scripts needn't learn new ones.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """An exit status."""

    OK = 0
    DAMAGED = 1
    DECLINED = 1
    USAGE = 2
    NAME = 6
    CONNECTION = 7
    BROKEN_OFF = 18
    HTTP_ERROR = 22
    OUTPUT = 23
    TIMEOUT = 28
    TLS = 35
    REDIRECT = 47
    NETWORK = 56
    CACHE = 74
    NOT_STORED = 78
    INTERRUPTED = 130
    READER_GONE = 141
    TERMINATED = 143


MEANINGS: Final = {
    Exit.OK: "the response has a status below 400",
    Exit.USAGE: "wrong usage: an option, the URL, the cache",
    Exit.NAME: "the host's name cannot be resolved",
    Exit.CONNECTION: "no connection to the host, or to the proxy",
    Exit.BROKEN_OFF: "the body broke off, or cannot be decoded",
    Exit.HTTP_ERROR: "the status is 400 or above; the body is written all the same",
    Exit.OUTPUT: "the output cannot be written",
    Exit.TIMEOUT: "nothing came for as long as --timeout says",
    Exit.TLS: "TLS failed: a certificate, most likely",
    Exit.REDIRECT: "too many redirects, or one that leads nowhere",
    Exit.NETWORK: "another failure of the network, or no HTTP",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.READER_GONE: "whoever read the output has stopped, as `head` does",
    Exit.TERMINATED: "terminated (SIGTERM)",
}
