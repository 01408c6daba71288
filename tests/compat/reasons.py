"""Why tests of CacheControl's can't pass with our caches, by what is swapped and the test's id.

One that is listed here may fail without failing the run. One that is listed and passes after all
fails it, as does an id that the suite doesn't have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_OBJECTS: Final = (
    "the test keeps a response object or a mock where its controller would keep bytes; a cache "
    "that copies, counts and checks what it is given takes bytes only"
)
_COMMANDS: Final = (
    "the test demands the command SETEX of a mock that is no client, for a value that is no bytes; "
    "ours writes in its own form, with a connection of its own"
)
_CONTROLLER: Final = "test_cache_control.py::TestCacheControllerResponse::"
_REQUEST: Final = "test_cache_control.py::TestCacheControlRequest::"

_REDIS: Final = "test_storage_redis.py::TestRedisCache::"

REASONS: Final[Mapping[str, Mapping[str, str]]] = {
    "caches": {
        "test_storage_filecache.py::TestSeparateBodyFileCache"
        "::test_body_actually_stored_separately": (
            "the test writes over a body and demands that it be served; ours is a miss then. It "
            "also demands that a short body have a file of its own: ours rides along in the entry "
            "file up to 16 KiB, since a second file costs more than it holds"
        ),
        f"{_REDIS}test_set_expiration_datetime": _COMMANDS,
        f"{_REDIS}test_set_expiration_datetime_aware": _COMMANDS,
        f"{_REDIS}test_set_expiration_int": _COMMANDS,
    },
    "DictCache": {
        f"{_CONTROLLER}test_cache_response_no_store": _OBJECTS,
        f"{_REQUEST}test_cache_request_no_headers": _OBJECTS,
        f"{_REQUEST}test_cache_request_fresh_max_age": _OBJECTS,
        f"{_REQUEST}test_cache_request_unfresh_max_age": _OBJECTS,
        f"{_REQUEST}test_cache_request_fresh_expires": _OBJECTS,
        f"{_REQUEST}test_cache_request_unfresh_expires": _OBJECTS,
        f"{_REQUEST}test_cached_request_with_bad_max_age_headers_not_returned": _OBJECTS,
        "test_etag.py::TestETag::test_etags_get_example": _OBJECTS,
        "test_etag.py::TestETag::test_etags_get_no_cache": _OBJECTS,
        "test_etag.py::TestETag::test_etags_get_with_range": _OBJECTS,
        "test_etag.py::TestDisabledETags::test_expired_etags_if_none_match_response": _OBJECTS,
        "test_max_age.py::TestMaxAge::test_client_max_age_0": _OBJECTS,
        "test_max_age.py::TestMaxAge::test_client_max_age_3600": _OBJECTS,
    },
}
