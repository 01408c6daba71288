import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from tests.origin import Cut, Framing, Origin, Raw, Received, Reply


def exchange(origin: Origin, path: str, method: str = "GET") -> bytes:
    """Send a bare request, and return all that comes until the connection ends."""
    with socket.create_connection(("127.0.0.1", origin.port), timeout=10) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_it_sends_what_the_reply_says_and_nothing_else(origin: Origin) -> None:
    origin.on("/", Reply(203, [("A", "1"), ("a", "2")], b"body"))
    assert exchange(origin, "/") == (
        b"HTTP/1.1 203 Non-Authoritative Information\r\nA: 1\r\na: 2\r\n"
        b"Content-Length: 4\r\n\r\nbody"
    )


def test_what_it_does_not_know_is_not_found(origin: Origin) -> None:
    assert exchange(origin, "/").startswith(b"HTTP/1.1 404 ")


def test_the_last_answer_is_for_all_that_follow(origin: Origin) -> None:
    origin.on("/", Reply(200), Reply(500), lambda request: Reply(404))
    statuses = [exchange(origin, "/")[9:12] for _ in range(4)]
    assert statuses == [b"200", b"500", b"404", b"404"]


def test_it_remembers_requests(origin: Origin) -> None:
    url = origin.on("/a", Reply())
    with requests.Session() as session:
        session.get(url + "?q=1", headers={"X-Test": "yes"})
        session.post(url, data=iter([b"one", b"two"]))
    requests.put(origin.url("/b"), data=b"three", timeout=10)
    first, second = origin.received_for("/a")
    assert (first.method, first.target, first.path) == ("GET", "/a?q=1", "/a")
    assert first.header("x-test") == "yes"
    assert first.header("nothing") is None
    assert (second.method, second.body) == ("POST", b"onetwo")
    assert origin.received[2].body == b"three"
    assert [request.connection for request in origin.received] == [1, 1, 2]


def test_head_has_no_body(origin: Origin) -> None:
    origin.on("/", Reply(body=b"body"))
    assert exchange(origin, "/", "HEAD").endswith(b"Content-Length: 4\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(origin: Origin, status: int) -> None:
    origin.on("/", Reply(status, body=b"body"))
    assert exchange(origin, "/").endswith(b"\r\n\r\n")


def test_an_iterable_is_sent_in_chunks(origin: Origin) -> None:
    origin.on("/", Reply(body=[b"ab", b"", b"c"]))
    assert exchange(origin, "/").endswith(b"chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")


def test_an_iterable_may_have_a_length(origin: Origin) -> None:
    origin.on("/", Reply(headers={"Content-Length": "3"}, body=[b"ab", b"c"]))
    assert exchange(origin, "/").endswith(b"Content-Length: 3\r\n\r\nabc")


def test_a_body_may_end_with_the_connection(origin: Origin) -> None:
    url = origin.on("/", Reply(body=b"abc", framing=Framing.CLOSE))
    response = requests.get(url, timeout=10)
    assert response.content == b"abc"
    assert "Content-Length" not in response.headers


def test_a_piece_is_sent_before_the_next_is_there(origin: Origin) -> None:
    gate = threading.Event()

    def body(_: Received) -> Reply:
        def pieces() -> Iterator[bytes]:
            yield b"first"
            assert gate.wait(10)
            yield b"second"

        return Reply(body=pieces())

    with requests.get(origin.on("/", body), stream=True, timeout=10) as response:
        pieces = response.iter_content(None)
        assert next(pieces) == b"first"
        gate.set()
        assert next(pieces) == b"second"


@pytest.mark.parametrize(
    ("reply", "sent"),
    [
        (Reply(body=b"abcdef", cut_after=4), b"abcd"),
        (Reply(body=b"abcdef", cut_after=0), b""),
        (Reply(body=[b"abc", b"def"], cut_after=4), b"3\r\nabc\r\n3\r\nd"),
        (Reply(body=[b"abc", b"def"], cut_after=3), b"3\r\nabc\r\n"),
        (Reply(headers={"Content-Length": "9"}, body=b"abcdef"), b"abcdef"),
        (Reply(headers={"Content-Length": "2"}, body=b"abcdef"), b"abcdef"),
    ],
)
def test_bodies_may_break_off(origin: Origin, reply: Reply, sent: bytes) -> None:
    origin.on("/", reply)
    assert exchange(origin, "/").partition(b"\r\n\r\n")[2] == sent


def test_a_connection_may_be_reset(origin: Origin) -> None:
    origin.on("/", Reply(body=b"abcdef", cut_after=4, cut_by=Cut.RESET))
    with pytest.raises(ConnectionResetError):
        exchange(origin, "/")


def test_anything_may_be_sent(origin: Origin) -> None:
    origin.on("/", Raw(b"nonsense"), Raw())
    assert exchange(origin, "/") == b"nonsense"
    assert exchange(origin, "/") == b""


def test_closing_it_raises_what_a_handler_raised() -> None:
    def fail(_: Received) -> Reply:
        raise LookupError("in the handler")

    origin = Origin()
    origin.on("/", fail)
    assert exchange(origin, "/") == b""
    with pytest.raises(LookupError, match="in the handler"):
        origin.close()


def test_closing_it_ends_what_waits() -> None:
    def wait(_: Received) -> Reply:
        gate.wait()
        return Reply()

    before = threading.active_count()
    with Origin() as origin, requests.Session() as session:
        gate = origin.gate()
        origin.on("/never", wait)
        session.get(origin.on("/", Reply()), timeout=10)  # its connection stays open
        with socket.create_connection(("127.0.0.1", origin.port), timeout=10) as connection:
            connection.sendall(b"GET /never HTTP/1.1\r\n\r\n")
            origin.close()
    assert threading.active_count() == before
