"""HTTP beside the WebSocket, on the same port: the page, `/healthz`, and client secrets.

The WebSocket library reads GET requests only, and answers them through `answer`. A POST is
taken from the connection before the library sees it; what follows a handshake never comes by here.
"""

import asyncio
import mimetypes
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

from agent import protocol, tools
from agent.errors import ProtocolError
from agent.events import ErrorDetail
from agent.objects import SessionConfig, SessionPatch
from server.auth import Doorkeeper, Secret
from server.lobby import Health
from server.settings import Kiosk

PAGE = Path(__file__).parent / "page"
PAGES = {"/": "index.html", "/kiosk": "kiosk.html"}
REALTIME = ("/v1/realtime", "/realtime")
SECRETS = ("/v1/realtime/client_secrets", "/realtime/client_secrets")
POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'none'"
)
LARGEST_HEAD = 2**14
LARGEST_BODY = 2**20
SECONDS_BY_DEFAULT = 600


def get(path: str, kiosk: Kiosk, health: Health) -> Response | None:
    """Answer a GET request; `None` lets the WebSocket handshake go on."""
    where = urlsplit(path).path
    if where in REALTIME:
        return None
    if where == "/healthz":
        return response(HTTPStatus.OK, msgspec.json.encode(health), "application/json")
    if where == "/page/kiosk.json":
        return response(HTTPStatus.OK, msgspec.json.encode(kiosk), "application/json")
    name = PAGES.get(where, where.removeprefix("/page/"))
    known = {file.name: file for file in PAGE.iterdir()}
    if name not in known:
        return response(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return response(HTTPStatus.OK, known[name].read_bytes(), kind)


def response(status: HTTPStatus, body: bytes, kind: str) -> Response:
    headers = Headers(
        {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)


class _Expiry(Struct, frozen=True, forbid_unknown_fields=True):
    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=10, le=7_200)] = SECONDS_BY_DEFAULT


class _Wish(Struct, frozen=True, forbid_unknown_fields=True):
    expires_after: _Expiry = _Expiry()
    session: msgspec.Raw = msgspec.Raw(b'{"type":"realtime"}')


class _Issued(Struct, frozen=True):
    value: str
    expires_at: int
    session: SessionConfig


class _Refused(Struct, frozen=True):
    error: ErrorDetail


class Secrets:
    """Answers `POST /v1/realtime/client_secrets`.

    Args:
        configured: Gives the whole configuration of a session that begins with a secret.
    """

    def __init__(self, doorkeeper: Doorkeeper, configured: Callable[[Secret], SessionConfig]):
        self._doorkeeper = doorkeeper
        self._configured = configured

    def post(self, path: str, headers: Headers, body: bytes) -> Response:
        if path not in SECRETS:
            return _refusal(HTTPStatus.NOT_FOUND, "Nothing can be posted here.", "not_found")
        if not self._doorkeeper.admits_key(headers):
            message = "Incorrect API key provided."
            return _refusal(HTTPStatus.UNAUTHORIZED, message, "invalid_api_key")
        try:
            wish = msgspec.json.decode(body or b"{}", type=_Wish)
            patch = read_session(wish.session)
        except msgspec.DecodeError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error), "invalid_value")
        except ProtocolError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error), error.code, error.param)
        secret = self._doorkeeper.issue(wish.expires_after.seconds, patch)
        issued = _Issued(secret.value, secret.expires_at, self._configured(secret))
        return response(HTTPStatus.OK, msgspec.json.encode(issued), "application/json")


def read_session(raw: bytes | msgspec.Raw) -> SessionPatch:
    """Read a session's configuration as `session.update` carries it.

    Raises:
        ProtocolError: If a field is unknown or has an impossible value; names its path.
    """
    event = protocol.decode(b'{"type":"session.update","session":' + bytes(raw) + b"}")
    assert isinstance(event, protocol.SessionUpdate)
    patch = event.session
    tools.checked(patch.tools or [], patch.tool_choice or "auto", "session")
    return patch


def _refusal(status: HTTPStatus, message: str, code: str, param: str | None = None) -> Response:
    refused = _Refused(ErrorDetail(message, code=code, param=param))
    return response(status, msgspec.json.encode(refused), "application/json")


class PostingConnection(ServerConnection):
    """A connection whose first request may be a POST, which `poster` answers."""

    poster: Secrets
    """Set on a subclass by `posting_to`."""

    _head: bytearray | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._head = bytearray()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            super().data_received(data)
            return
        self._head += data
        if len(self._head) < 5 and b"POST ".startswith(bytes(self._head)):
            return
        if not self._head.startswith(b"POST "):
            head, self._head = bytes(self._head), None
            super().data_received(head)
            return
        if len(self._head) > LARGEST_HEAD + LARGEST_BODY:
            self._finish(_refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too large.", "too_large"))
            return
        self._post(bytes(self._head))

    def _post(self, received: bytes) -> None:
        head, end, body = received.partition(b"\r\n\r\n")
        if not end:
            return
        start, *lines = head.decode("latin-1").split("\r\n")
        headers = Headers()
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip()] = value.strip()
        length = headers.get("Content-Length", "0")
        if not length.isdecimal():
            self._finish(_refusal(HTTPStatus.LENGTH_REQUIRED, "No length.", "length_required"))
        elif len(body) >= int(length):
            path = urlsplit(start.split(" ")[1]).path
            self._finish(self.poster.post(path, headers, body[: int(length)]))

    def _finish(self, answer: Response) -> None:
        self.transport.write(answer.serialize())
        self.transport.close()


def posting_to(secrets: Secrets) -> type[PostingConnection]:
    """The class of connections that have POST requests answered there."""
    return type("Posting", (PostingConnection,), {"poster": secrets})
