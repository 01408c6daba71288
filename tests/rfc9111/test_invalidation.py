"""What unsafe requests throw out: RFC 9111 §4.4."""

import pytest

from stillfresh.rfc9111.invalidation import invalidated_keys
from tests.rfc9111.scenes import URL, get, response, table


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "FOO", "get", "MKCOL"])
@pytest.mark.parametrize("status", [200, 201, 204, 206, 301, 303, 304, 399])
def test_success_of_an_unsafe_or_unknown_method_invalidates_its_target(
    method: str, status: int
) -> None:
    assert invalidated_keys(get(method=method), response(status=status)) == (URL,)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_safe_method_invalidates_nothing(method: str) -> None:
    said = response("Location: /b", "Content-Location: /c")
    assert invalidated_keys(get(method=method), said) == ()


@pytest.mark.parametrize("status", [400, 404, 409, 412, 500, 503, 599])
def test_nor_does_failure(status: int) -> None:
    said = response("Location: /b", "Content-Location: /c", status=status)
    assert invalidated_keys(get(method="POST"), said) == ()


def test_the_target_is_normalised() -> None:
    request = get(method="PUT", url="HTTPS://me@Example.org:443/x/../a#b")
    assert invalidated_keys(request, response()) == (URL,)


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("reference", "also"),
    table(
        {
            "an absolute URI": ("https://example.org/b", ["https://example.org/b"]),
            "a path": ("/b", ["https://example.org/b"]),
            "a relative path": ("b?c", ["https://example.org/b?c"]),
            "a query": ("?c", ["https://example.org/a?c"]),
            "without a scheme": ("//example.org/b", ["https://example.org/b"]),
            "with the default port": ("https://example.org:443/b", ["https://example.org/b"]),
            "with a fragment": ("/b#c", ["https://example.org/b"]),
            "with whitespace around it": ("  /b\t", ["https://example.org/b"]),
            "the target itself": ("/a", []),
            "nothing": ("", []),
            "another host": ("https://example.com/b", []),
            "a host below": ("https://www.example.org/b", []),
            "another host without a scheme": ("//example.com/b", []),
            "another host behind ours": ("https://example.org@example.com/b", []),
            "another scheme": ("http://example.org/b", []),
            "another port": ("https://example.org:8443/b", []),
            "no HTTP URI": ("mailto:me@example.org", []),
            "no URI": ("https://[", []),
            "no port": ("https://example.org:x/b", []),
        }
    ),
)
def test_so_it_does_what_is_named_in_the_same_origin(
    name: str, reference: str, also: list[str]
) -> None:
    keys = invalidated_keys(get(method="POST"), response(f"{name}: {reference}", status=201))
    assert keys == (URL, *also)


def test_both_can_be_named() -> None:
    said = response("Location: /b", "Content-Location: /c")
    assert invalidated_keys(get(method="POST"), said) == (
        URL,
        "https://example.org/b",
        "https://example.org/c",
    )


def test_one_that_is_named_twice_is_invalidated_once() -> None:
    said = response("Location: /b", "Content-Location: /b")
    assert invalidated_keys(get(method="POST"), said) == (URL, "https://example.org/b")
