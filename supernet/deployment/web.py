"""Fetches pictures from the web, by http and https alone, with one deadline however a server answers."""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from supernet.runtime.errors import InputError

SCHEMES = ("http", "https")
_MOST_BYTES = 64 << 20  # of a picture
_WAIT, _DEADLINE = 10.0, 60.0  # seconds for each part of an answer, and for the whole picture
_PIECE = 1 << 16
_AS_THEY_ARE = "%/:?#[]@!$&'()*+,;=~"  # in an address: what has a meaning there, and what is quoted already


@dataclass(frozen=True)
class Fetched:
    """The bytes of a picture from the web, still as a file.

    Args:
        address: where it came from.
        raw: the bytes.
    """

    address: str
    raw: bytes


def scheme_of(text: str) -> str:
    """The scheme of an address such as "https://...", or ""."""
    before, mark, _ = text.partition("://")
    return before.lower() if mark and before.isalnum() else ""


def fetched(address: str, *, most: int = _MOST_BYTES, wait: float = _WAIT, deadline: float = _DEADLINE) -> Fetched:
    """Fetches a picture from the web, by http or https alone.

    Args:
        address: of the picture.
        most: how many bytes it may have.
        wait: seconds to wait for each part of an answer.
        deadline: seconds for all of it: connecting, redirections, headers and content. What the system takes to look
            a name up, which has a limit of its own, is not cut short.

    Returns:
        Its bytes; whether they are a picture is still to be seen.

    Raises:
        InputError: there is no network or no such picture, or it is too large or comes too slowly, in one line.
    """
    limit, pieces, size = _Deadline(time.monotonic() + deadline, wait), list[bytes](), 0
    try:
        request = urllib.request.Request(_quoted(address), headers={"User-Agent": "supernet"})
        with _opener(limit).open(request, timeout=wait) as answer:
            while piece := answer.read1(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise InputError(
                        f"{address[:200]}: more than {most >> 20} MiB; fetch it yourself and give the file"
                    )
    except urllib.error.HTTPError as error:
        error.close()
        raise InputError(
            f"{address[:200]}: the server says {error.code} ({error.reason}); look at the address"
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        if isinstance(error, InputError):
            raise
        if limit.over:
            raise InputError(
                f"{address[:200]}: not here after {deadline:g} s; fetch it yourself and give the file"
            ) from None
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise InputError(
            f"{address[:200]}: cannot be fetched ({reason}); is there a network? Else give a file"
        ) from None
    return Fetched(address, b"".join(pieces))


def _quoted(address: str) -> str:
    """An address as a server takes it: what a browser shows as a space or as a letter is written in ASCII."""
    parts = urllib.parse.urlsplit(address)
    path, query = (urllib.parse.quote(part, safe=_AS_THEY_ARE) for part in (parts.path, parts.query))
    return urllib.parse.urlunsplit(parts._replace(path=path, query=query, fragment=""))


@dataclass(frozen=True)
class _Deadline:
    """Until when something must be done, on the monotonic clock, and how long each part of it may take in seconds."""

    end: float
    wait: float

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.end

    def left(self) -> float:
        """Seconds that the next part may take. Raises TimeoutError where there are none."""
        left = min(self.wait, self.end - time.monotonic())
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def connected(self, place: tuple[str, int], *_: object) -> socket.socket:
        """Connects to the first of a host's addresses that answers, as `socket.create_connection` does."""
        failure = OSError(f"{place[0]} has no address")
        for family, kind, protocol, _name, address in socket.getaddrinfo(*place, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self.left())
                sock.connect(address)
                sock.settimeout(self.left())  # for an exchange of keys, before anything is read
                return sock
            except OSError as error:
                sock.close()
                failure = error
        raise failure


class _Paced(io.RawIOBase):
    """What comes from a socket. A time-out starts anew with every byte; here each read has what is left."""

    def __init__(self, sock: socket.socket, limit: _Deadline) -> None:
        self._sock, self._limit, self._file = sock, limit, sock.makefile("rb", buffering=0)

    def makefile(self, *_: object) -> io.BufferedReader:
        """What an answer of `http.client` asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(self._limit.left())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _InTime(urllib.request.AbstractHTTPHandler):
    """Opens http and https over connections that keep a deadline."""

    def __init__(self, limit: _Deadline) -> None:
        super().__init__()
        self._limit = limit

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._made(http.client.HTTPConnection), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._made(http.client.HTTPSConnection), request)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def _made(self, kind: Callable[..., http.client.HTTPConnection]) -> Any:
        limit = self._limit

        def answer(sock: Any, *given: Any, **settings: Any) -> http.client.HTTPResponse:
            return http.client.HTTPResponse(_Paced(sock, limit), *given, **settings)  # type: ignore[arg-type]

        def make(host: str, **settings: Any) -> http.client.HTTPConnection:
            connection: Any = kind(host, **settings)
            connection.response_class, connection._create_connection = answer, limit.connected
            made: http.client.HTTPConnection = connection
            return made

        return make


class _SameKind(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to http and https alone, and does not read what comes with it."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if scheme_of(newurl) not in SCHEMES:
            raise urllib.error.URLError(f"it leads to {newurl[:80]}, which is neither http nor https")
        fp.close()  # it may have any size
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(limit: _Deadline) -> urllib.request.OpenerDirector:
    """Opens http and https and nothing else, neither files of this machine nor ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _InTime(limit),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _SameKind(),
    ):
        opener.add_handler(handler)
    return opener
