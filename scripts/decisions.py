"""Print docs/decisions.md: every reason that a decision can have, from the code that gives them."""

import sys

from stillfresh.rfc9111.decisions import Forwarded, Reason

_HEAD = """\
# Why the cache did what it did

Every decision has a reason: a member of `stillfresh.Reason`, a sentence with the numbers of the
case in it, and the section of the RFC that it rests on. `response.cache.why` says why a response
was served or the origin asked, `response.cache.storing` why the answer was kept or not;
the `detail` of `Cache-Status` and the DEBUG log of the logger `stillfresh` show the same.

This page is written by `make docs`.
"""
_REQUEST = """
## Answering a request

| reason | what it means | by |
|---|---|---|
"""
_RESPONSE = """
## Keeping a response

| reason | what it means | by |
|---|---|---|
"""
_FORWARDED = """
## `fwd` in Cache-Status

Why a request went to the origin, in the words of RFC 9211 §2.2:
"""


def page() -> str:
    """Return the text of the page."""
    first = list(Reason).index(Reason.STORABLE)
    rows = [f"| `{reason.name}` | {reason.meaning} | {reason.section} |\n" for reason in Reason]
    words = ", ".join(f"`{word.value}`" for word in Forwarded)
    asked, answered = "".join(rows[:first]), "".join(rows[first:])
    return f"{_HEAD}{_REQUEST}{asked}{_RESPONSE}{answered}{_FORWARDED}{words}.\n"


if __name__ == "__main__":
    sys.stdout.write(page())
