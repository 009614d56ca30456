"""One deadline over all that a server does, against sockets on this machine that drip, wait or send in circles."""

import contextlib
import itertools
import socket
import threading

import pytest

from supernet.deployment.web import fetched
from supernet.runtime.errors import InputError

OK = b"HTTP/1.1 200 OK\r\n"
GIVES_UP = 3.0  # seconds after which a server stops, so that a test that fails ends


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def serving():
    """Starts a server that answers each connection with a function of the socket; gives "127.0.0.1:PORT"."""
    with contextlib.ExitStack() as stack:

        def serve(answer):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stack.callback(listener.shutdown, socket.SHUT_RDWR)

            def accept():
                with contextlib.suppress(OSError):
                    while True:
                        client, _ = listener.accept()
                        with client, contextlib.suppress(OSError):
                            answer(client)

            threading.Thread(target=accept, daemon=True).start()
            return f"127.0.0.1:{listener.getsockname()[1]}"

        yield serve


def dripping(begin, drop):
    """Sends a beginning, and then little by little until the client or this server has enough."""

    def answer(client):
        client.recv(4096)
        client.sendall(begin)
        client.settimeout(0.01)
        for _ in range(int(GIVES_UP / 0.01)):
            client.sendall(drop)
            with contextlib.suppress(TimeoutError):
                if not client.recv(4096):
                    return

    return answer


@pytest.mark.parametrize(
    ("scheme", "begin", "drop"),
    [
        ("http", b"", b"H"),
        ("http", OK, b"X"),
        ("http", OK, b"X: y\r\n"),
        ("http", OK + b"Content-Length: 100000\r\n\r\n", b"x"),
        ("http", OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1"),
        ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("https", b"\x16\x03\x03\x40\x00", b"\x02"),
    ],
)
def test_a_server_that_drips_does_not_outlast_the_deadline(serving, scheme, begin, drop):
    address = f"{scheme}://{serving(dripping(begin, drop))}/a.png"
    with pytest.raises(InputError) as error:
        fetched(address, deadline=0.15)
    assert str(error.value) == f"{address}: not here after 0.15 s; fetch it yourself and give the file"


def test_a_server_that_never_answers_does_not_either(serving):
    address = serving(lambda client: client.recv(4096) and client.recv(4096))
    with pytest.raises(InputError, match=r"not here after 0\.1 s"):
        fetched(f"http://{address}/a.png", deadline=0.1)


def test_nor_one_that_accepts_nobody():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # they fill its queue
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        with pytest.raises(InputError, match=r"not here after 0\.1 s"):
            fetched(f"http://127.0.0.1:{listener.getsockname()[1]}/a.png", deadline=0.1)


def test_all_addresses_of_a_host_share_the_deadline(monkeypatch):
    monkeypatch.setenv("no_proxy", "many.test")
    tried = []

    class Silent(socket.socket):
        def connect(self, address):
            tried.append(self.gettimeout())
            threading.Event().wait(self.gettimeout())
            raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", "x")] * 99)
    monkeypatch.setattr(socket, "socket", Silent)
    with pytest.raises(InputError, match=r"not here after 0\.1 s"):
        fetched("http://many.test/a.png", wait=0.04, deadline=0.1)
    assert len(tried) < 10
    assert tried == sorted(tried, reverse=True)


def test_redirections_share_the_deadline_too(serving):
    numbers = itertools.count()

    def answer(client):
        client.recv(4096)
        threading.Event().wait(0.05)
        client.sendall(b"HTTP/1.1 302 Found\r\nLocation: /%d\r\nContent-Length: 0\r\n\r\n" % next(numbers))

    with pytest.raises(InputError, match=r"not here after 0\.12 s"):
        fetched(f"http://{serving(answer)}/a.png", deadline=0.12)


def test_what_comes_with_a_redirection_is_not_read(serving):
    goal = serving(lambda client: client.recv(4096) and client.sendall(OK + b"\r\npicture"))

    def answer(client):
        client.recv(4096)
        client.sendall(
            b"HTTP/1.1 302 Found\r\nLocation: http://%s/b\r\nContent-Length: 9999999\r\n\r\n" % goal.encode()
        )
        client.settimeout(GIVES_UP)
        client.recv(1)  # nothing more comes until the client has closed

    assert fetched(f"http://{serving(answer)}/a.png").raw == b"picture"


def test_a_server_that_is_slow_but_in_time_is_heard(serving):
    def answer(client):
        client.recv(4096)
        for piece in (OK, b"Content-Length: 4\r\n", b"\r\n", b"ab", b"cd"):
            threading.Event().wait(0.01)
            client.sendall(piece)

    assert fetched(f"http://{serving(answer)}/a.png").raw == b"abcd"
