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
