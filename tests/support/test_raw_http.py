"""The HTTP client that hides nothing."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support import raw_http
from tests.support.raw_http import CutResponseError, RawConnection, RawResponse
from tests.support.workers import Workers


@pytest.fixture
def canned() -> Iterator[Callable[[bytes], int]]:
    """Serves fixed bytes to one connection, having read a request, and closes."""
    threads: list[threading.Thread] = []
    listeners: list[socket.socket] = []

    def serve(answer: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(answer)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(65536):
                    pass

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        port: int = listener.getsockname()[1]
        return port

    yield serve
    for thread in threads:
        thread.join(5)
    for listener in listeners:
        listener.close()


Canned = Callable[[bytes], int]


class TestRawHttp:
    """The client that hides nothing."""

    def test_headers_as_they_came(self, canned: Canned) -> None:
        """Order, case, number and bytes of header lines are kept."""
        port = canned(
            b"HTTP/1.1 200 Very OK\r\n"
            b"X-B: 1\r\nx-a:\t \xff \r\nX-b:2\r\nContent-Length: 2\r\n\r\nhi"
        )
        response = raw_http.get(port, "/")
        assert response == RawResponse(
            status=200,
            reason=b"Very OK",
            headers=[(b"X-B", b"1"), (b"x-a", b"\xff"), (b"X-b", b"2"), (b"Content-Length", b"2")],
            body=b"hi",
        )
        assert response.headers_named("x-B") == [b"1", b"2"]
        assert response.header(b"X-A") == b"\xff"
        assert response.header("none") is None

    @pytest.mark.parametrize(
        ("answer", "method", "body"),
        [
            (b"HTTP/1.1 200 OK\r\n\r\nto the end", "GET", b"to the end"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", b""),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", b""),
            (b"HTTP/1.1 204\r\n\r\n", "GET", b""),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s"
                % b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
                "GET",
                b"abc0123456789",
            ),
        ],
    )
    def test_bodies(self, canned: Canned, answer: bytes, method: str, body: bytes) -> None:
        """A body ends where HTTP says that it ends."""
        assert raw_http.request(canned(answer), method, "/").body == body

    def test_trailers_and_interim_responses(self, canned: Canned) -> None:
        """What stands before and behind the response is kept apart."""
        port = canned(
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n\r\n"
        )
        response = raw_http.get(port, "/")
        assert [r.status for r in response.interim] == [103]
        assert response.trailers == [(b"X-T", b"1")]

    @pytest.mark.parametrize(
        ("answer", "body"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b"abc"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde", b"abcde"),
        ],
    )
    def test_a_cut_response(self, canned: Canned, answer: bytes, body: bytes) -> None:
        """A body that ends too early is an error that shows what had come."""
        with pytest.raises(CutResponseError) as caught:
            raw_http.get(canned(answer), "/")
        assert caught.value.partial is not None
        assert caught.value.partial.body == body

    def test_a_cut_head(self, canned: Canned) -> None:
        """A head that ends too early is an error too."""
        with pytest.raises(CutResponseError, match=r"HTTP/1\.1 2"):
            raw_http.get(canned(b"HTTP/1.1 2"), "/")

    def test_request_bytes(self) -> None:
        """Requests are exactly what was asked for."""
        made = raw_http.request_bytes("POST", b"/\xff?a", {"X-a": "1"}, b"body")
        assert made == (
            b"POST /\xff?a HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: 1\r\nContent-Length: 4\r\n\r\nbody"
        )
        assert raw_http.request_bytes("GET", "/", [("host", "x")]) == (
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        )

    def test_with_a_real_server(self, workers: Workers) -> None:
        """Keep-alive, pipelining, and hanging up in both ways."""
        worker = workers.start("tests.support.asgi:CounterApp", args=["--factory"])
        with RawConnection(worker.port) as connection:
            assert connection.get("/").text == "run 1"
            connection.send_request("GET", "/")
            connection.send_request("HEAD", "/")
            connection.send(raw_http.request_bytes("POST", "/", (), b"x"))
            assert connection.read_response().text == "run 2"
            assert connection.read_response().body == b""
            assert connection.read_response("POST").text == "run 4"
            connection.send_request("GET", "/", {"Connection": "close"})
            assert connection.read_head().status == 200
            assert connection.read_exactly(5) == b"run 5"
            assert connection.closed_by_server()
        for hang_up in (RawConnection.close, RawConnection.abort):
            connection = RawConnection(worker.port)
            connection.send(b"GET / HTTP/1.1\r\nHo")
            hang_up(connection)
        assert raw_http.get(worker.port, "/").text == "run 6"
