"""Where a session begins: clients are let in, or turned away with the reason, sent and logged.

That is decided by the head of the handshake, so that nothing of a stranger is read or kept. The
answer is HTTP, but for a page: a browser shows it no answer to a handshake, only what comes over
the WebSocket.
"""

import re
from functools import partial
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request as Handshake, Response

from agent.realtime import beta, server_events as events
from agent.realtime.server_events import ErrorDetail
from server.auth import FOREIGN, Authenticator, Objection
from server.session.socket import ClientSocket
from server.web import crowd
from server.web.crowd import Crowd
from server.web.http import Answer, Request, listed, refusal
from server.web.refusals import Refusals

UNAUTHORIZED = 3000
"""WebSocket close code; clients take it and those above it as final, and try no more."""
TRY_LATER = 1013
"""WebSocket close code; clients try again after a while."""

MOST_GOODBYES = 100
"""Pages that are being turned away at once; more get no reason."""
GOODBYE_S = 3.0
"""For the page to close as well; a slow network takes a second, and a stranger waits as long."""
LARGEST_GOODBYE = 2**12
"""Bytes that a page may send in one message while it is turned away: its close has 125."""

_BUSY = (HTTPStatus.SERVICE_UNAVAILABLE, TRY_LATER, (("Retry-After", "10"),))
_HOW: dict[str, tuple[HTTPStatus, int, tuple[tuple[str, str], ...]]] = {
    FOREIGN: (HTTPStatus.FORBIDDEN, UNAUTHORIZED, ()),
    beta.CODE: (HTTPStatus.BAD_REQUEST, beta.CLOSE, ()),
    crowd.EVERYWHERE: _BUSY,
    crowd.HERE: (HTTPStatus.TOO_MANY_REQUESTS, *_BUSY[1:]),
}
"""Status and headers over HTTP, and the close code over the WebSocket, by what is objected to."""
_NO_KEY = (HTTPStatus.UNAUTHORIZED, UNAUTHORIZED, (("WWW-Authenticate", "Bearer"),))


class Entrance:
    """Stands between the head of a handshake and the session."""

    def __init__(self, authenticator: Authenticator, crowd: Crowd, refusals: Refusals):
        self.refusals = refusals
        """Of those, too, who asked for no session."""
        self._authenticator = authenticator
        self._crowd = crowd
        self._goodbyes = 0

    def begin(self, request: Request, socket: ClientSocket, address: str) -> Answer | None:
        """Refuse a handshake, or let its connection go on as a WebSocket, to `admits`."""
        objection = (
            self._authenticator.objection(request.headers)
            or _beta(request)
            or self._crowd.objection(address)
        )
        if objection is None:
            self._crowd.enter(address)
            socket.on_lost = partial(self._crowd.leave, address)
            return None
        if "Origin" in request.headers:
            socket.objection = objection
            socket.protocol.max_message_size = LARGEST_GOODBYE
            socket.close_timeout = GOODBYE_S
            self.refusals.note(address, _what(request.path), objection.code, objection.message)
            return None
        status, _, headers = _HOW.get(objection.code, _NO_KEY)
        return refusal(status, objection.message, objection.code, headers=headers)

    async def admits(self, socket: ClientSocket) -> bool:
        """Let a client in, or tell a page why not and close.

        Raises:
            ConnectionClosed: If it is gone already.
        """
        if (objection := socket.objection) is None:
            return True
        if self._goodbyes >= MOST_GOODBYES:
            socket.transport.abort()
            return False
        detail = ErrorDetail(objection.message, code=objection.code)
        _, close, _ = _HOW.get(objection.code, _NO_KEY)
        self._goodbyes += 1
        try:
            await socket.send(events.encode(events.Error(error=detail), "event_1"), text=True)
            await socket.close(close, f"{detail.type}.{detail.code}")
        finally:
            self._goodbyes -= 1
        return False

    def note_handshake(
        self, socket: ServerConnection, request: Handshake, answer: Response
    ) -> None:
        """Log a handshake that failed."""
        if answer.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            # No more than the header's name: its value may hold a key.
            words = re.search(r"(missing|invalid) [\w-]+ header", (answer.body or b"").decode())
            why = words[0] if words else "it is no handshake"
            assert isinstance(socket, ClientSocket), "the doorway made it"
            self.refusals.note(socket.client, _what(request.path), "invalid_handshake", why)


def _what(path: str) -> str:
    return f"GET {path.partition('?')[0]}"


def _beta(request: Request) -> Objection | None:
    if beta.WANTED in listed(request.headers, beta.HEADER):
        how = f"the header {beta.HEADER}: {beta.WANTED}"
    elif beta.SUBPROTOCOL in listed(request.headers, "Sec-WebSocket-Protocol"):
        how = f"the subprotocol {beta.SUBPROTOCOL}"
    else:
        return None
    return Objection(beta.CODE, beta.ASKED.format(how))
