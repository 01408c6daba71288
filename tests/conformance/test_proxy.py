import socket
from collections.abc import Iterator
from email.parser import BytesHeaderParser

import pytest

from tests.conformance.clients import CLIENTS
from tests.conformance.proxy import ReverseProxy
from tests.origin import Framing, Origin, Raw, Reply

FRESH = {"Cache-Control": "max-age=60"}


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def proxy(origin: Origin, client: str) -> Iterator[ReverseProxy]:
    with ReverseProxy(origin.url("").rstrip("/"), client, shared=True) as running:
        yield running


def exchange(
    proxy: ReverseProxy, path: str, *lines: str, method: str = "GET", body: bytes = b""
) -> bytes:
    """Send a bare request, and return all that comes until the connection ends."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        head = [f"{method} {path} HTTP/1.1", "Host: test", "Connection: close, x-hop", *lines]
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def taken_apart(answer: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, _, fields = head.partition(b"\r\n")
    return status.decode(), BytesHeaderParser().parsebytes(fields).items(), body


def test_a_request_arrives_as_it_was_sent(proxy: ReverseProxy, origin: Origin, client: str) -> None:
    origin.on("/", Reply())
    lines = ("X-Hop: 1", "TE: trailers", "A: 1", "a: 2", "Content-Length: 4")
    exchange(proxy, "/?q=%20", *lines, method="M-SEARCH", body=b"body")
    (request,) = origin.received
    assert (request.method, request.target, request.body) == ("M-SEARCH", "/?q=%20", b"body")
    # requests has a mapping, which joins them.
    lines_of_a = [("A", "1, 2")] if client == "requests" else [("A", "1"), ("a", "2")]
    expected = [("Host", f"127.0.0.1:{origin.port}"), *lines_of_a, ("Content-Length", "4")]
    assert [name.lower() for name, _ in request.headers] == [name.lower() for name, _ in expected]
    assert [value for _, value in request.headers] == [value for _, value in expected]


def test_a_response_arrives_as_it_was_sent(proxy: ReverseProxy, origin: Origin) -> None:
    fields = [("A", "1"), ("A", "2"), ("Connection", "B, keep-alive"), ("B", "3"), ("C", "4")]
    origin.on("/", Reply(203, [*fields, ("Content-Encoding", "gzip")], b"not gzip"))
    status, headers, body = taken_apart(exchange(proxy, "/"))
    assert status == "HTTP/1.1 203 Non-Authoritative Information"
    assert headers[:-1] == [
        ("A", "1"),
        ("A", "2"),
        ("C", "4"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", "8"),
    ]
    assert headers[-1][0] == "Cache-Status"
    assert body == b"not gzip"


def test_the_second_request_is_a_hit(proxy: ReverseProxy, origin: Origin) -> None:
    origin.on("/", Reply(headers=[*FRESH.items(), ("A", "1"), ("A", "2")], body=b"body"))
    first, second = (taken_apart(exchange(proxy, "/")) for _ in range(2))
    assert "fwd=uri-miss" in dict(first[1])["Cache-Status"]
    assert dict(second[1])["Cache-Status"].startswith("stillfresh; hit;")
    assert [value for name, value in second[1] if name == "A"] == ["1", "2"]
    assert second[2] == first[2] == b"body"
    assert len(origin.received) == 1


def test_a_body_of_unknown_length_is_chunked(proxy: ReverseProxy, origin: Origin) -> None:
    origin.on("/", Reply(headers=FRESH, body=b"body", framing=Framing.CHUNKED))
    for _ in range(2):
        _, headers, body = taken_apart(exchange(proxy, "/"))
        assert ("Transfer-Encoding", "chunked") in headers
        assert body == b"4\r\nbody\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)], ids=["HEAD", "204", "304"]
)
def test_where_there_is_no_body_none_is_sent(
    proxy: ReverseProxy, origin: Origin, method: str, status: int
) -> None:
    origin.on("/", Reply(status, body=b"body"))
    found, headers, body = taken_apart(exchange(proxy, "/", method=method))
    assert found.startswith(f"HTTP/1.1 {status} ")
    assert body == b""
    assert dict(headers).get("Content-Length") == ("4" if method == "HEAD" else None)
    assert "Transfer-Encoding" not in dict(headers)


@pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED])
def test_a_truncated_body_is_seen_to_be_truncated(
    proxy: ReverseProxy, origin: Origin, framing: Framing
) -> None:
    pieces = [b"x" * 100, b"y" * 100]
    headers = FRESH | ({"Content-Length": "200"} if framing is Framing.LENGTH else {})
    origin.on("/", Reply(headers=headers, body=pieces, framing=framing, cut_after=150))
    for _ in range(2):
        status, received, body = taken_apart(exchange(proxy, "/"))
        assert status == "HTTP/1.1 200 OK"
        assert "fwd=uri-miss" in dict(received)["Cache-Status"]
        if framing is Framing.LENGTH:
            assert ("Content-Length", "200") in received
            assert len(body) < 200
        else:
            assert ("Transfer-Encoding", "chunked") in received
            assert not body.endswith(b"0\r\n\r\n")


def test_what_the_origin_gets_wrong_is_a_bad_gateway(proxy: ReverseProxy, origin: Origin) -> None:
    origin.on("/", Raw(b""))
    status, _, _ = taken_apart(exchange(proxy, "/"))
    assert status == "HTTP/1.1 502 Bad Gateway"


def test_an_interim_response_is_skipped_or_no_good(
    proxy: ReverseProxy, origin: Origin, client: str
) -> None:
    origin.on("/", Raw(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"))
    status, _, _ = taken_apart(exchange(proxy, "/"))
    on_http_client = client in {"requests", "urllib3"}
    assert status == f"HTTP/1.1 {'502 Bad Gateway' if on_http_client else '200 OK'}"


def test_a_connection_stays_open(proxy: ReverseProxy, origin: Origin) -> None:
    origin.on("/", Reply(body=b"body"))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            answer = b""
            while not answer.endswith(b"body"):
                answer += connection.recv(65536)
