"""What a program that uses aiohttp says to a type checker: never run, read by mypy."""

from typing import assert_type

import aiohttp

from stillfresh import CacheInfo, Policy
from stillfresh.clients.aiohttp import CachedResponse, CacheMiddleware

URL = "https://example.org/"


async def responses_say_what_the_cache_did() -> None:
    async with aiohttp.ClientSession(middlewares=[CacheMiddleware()]) as session:
        async with session.get(URL) as r:
            assert_type(await r.text(), str)
        async with session.get(URL) as r:
            assert isinstance(r, CachedResponse)
            assert_type(r.from_cache, bool)
            assert_type(r.cache, CacheInfo)


async def one_cache_for_several_sessions() -> None:
    async with CacheMiddleware("memory:", offload=True, policy=Policy()) as cached:
        for _ in range(2):
            async with aiohttp.ClientSession(middlewares=(cached,)) as session:
                r = await session.get(URL)
                if isinstance(r, CachedResponse):
                    assert_type(r.cache.why.sentence, str)
        await cached.settle()
