"""What httpx and httpx2 share, and what blocking and async transports share: nearly all of it.

Neither library is imported here. A client's module says what is to be made (`Library`), and mixes
what is here into that library's classes. One coroutine answers a request in both worlds: the
blocking transport drives it with `run`, since nothing in it ever suspends then.

Bodies are stored as they came; the library decodes them for the caller, from the cache as well.
"""

from stillfresh.clients._httpx.answering import Library
from stillfresh.clients._httpx.bodies import AsyncStream, BlockingStream
from stillfresh.clients._httpx.clients import AsyncClient, BlockingClient
from stillfresh.clients._httpx.transports import AsyncTransport, BlockingTransport

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "AsyncTransport",
    "BlockingClient",
    "BlockingStream",
    "BlockingTransport",
    "Library",
]
