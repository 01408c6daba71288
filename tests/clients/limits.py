"""What clients can't do, with the reasons: which of the behaviours fail, and have to.

`docs/clients.md` shows them.
"""

from typing import Final

_INTERIM: Final = (
    "http.client skips 100 and takes any other interim response for the final one, as requests and "
    "urllib3 do without a cache"
)
OF_HTTP_CLIENT: Final = {
    f"test_an_interim_response_is_not_the_response[{status}]": _INTERIM for status in (102, 103)
}
OF_HTTPX: Final = {
    "test_stored_cookies_are_shown": (
        "a client takes cookies from what it sees in the head, and would set them again: a "
        "Set-Cookie that was stored has been heard, and is not shown"
    ),
}
_STREAMS: Final = (
    "aiohttp hands out every response before anybody says how its body is to be read, so a long "
    "one is checked while it streams; what is damaged is missing from the next request on"
)
_STRICT: Final = "aiohttp's parser refuses such a response, with a cache or without"
OF_AIOHTTP: Final = {
    "test_a_long_body_damaged_is_a_miss_where_all_of_it_is_asked_for": _STREAMS,
    "test_a_damaged_beginning_is_not_gone_on_with[FileCache-long]": _STREAMS,
    "test_a_damaged_beginning_is_not_gone_on_with[SeparateBodyFileCache-long]": _STREAMS,
    "test_a_length_that_is_too_short": _STRICT,
    "test_chunks_say_more_than_a_length": _STRICT,
}
