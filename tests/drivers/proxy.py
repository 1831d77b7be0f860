"""A real HTTP proxy on loopback that leads made-up host names to places on this machine."""

import http.client
import http.server
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.drivers.website import served

HOP = {"connection", "keep-alive", "transfer-encoding"}


class Proxy(NamedTuple):
    url: str
    asked: list[str]
    """What it was asked for, in order: `METHOD URL`, or `CONNECT host:port`."""


@contextmanager
def proxy(**places: str) -> Generator[Proxy]:
    """Run a proxy.

    Args:
        places: The URL on this machine behind each name; `model` stands for `model.example`.
    """
    asked: list[str] = []

    def address(name: str | None) -> tuple[str, int]:
        where = urlsplit(places[(name or "").removesuffix(".example")])
        assert where.hostname is not None
        assert where.port is not None
        return where.hostname, where.port

    class Way(http.server.BaseHTTPRequestHandler):
        def parse_request(self) -> bool:
            parsed = super().parse_request()
            asked.append(self.requestline.removesuffix(" HTTP/1.1"))
            return parsed

        def do_CONNECT(self) -> None:
            there = socket.create_connection(address(urlsplit(f"//{self.path}").hostname))
            self.send_response(200)
            self.end_headers()
            with there:
                back = threading.Thread(target=_pass_on, args=(there, self.connection))
                back.start()
                _pass_on(self.connection, there)
                back.join()

        def do_GET(self) -> None:
            where = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            there = http.client.HTTPConnection(*address(where.hostname))
            path = where._replace(scheme="", netloc="").geturl()
            there.request(self.command, path, body, dict(self.headers))
            answer = there.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP:
                    self.send_header(name, value)
            self.end_headers()
            while piece := answer.read1(2**16):
                self.wfile.write(piece)
            there.close()

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with served(Way) as url:
        yield Proxy(url, asked)


def _pass_on(reader: socket.socket, writer: socket.socket) -> None:
    with suppress(OSError):
        while data := reader.recv(2**16):
            writer.sendall(data)
        writer.shutdown(socket.SHUT_WR)
