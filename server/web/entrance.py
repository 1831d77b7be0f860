"""Where a session begins: clients are let in, or turned away with the reason, sent and logged."""

from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from agent.realtime import beta, server_events as events
from agent.realtime.server_events import ErrorDetail
from server.auth import Authenticator, Objection
from server.session.socket import ClientSocket
from server.web.http import listed
from server.web.refusals import Refusals

UNAUTHORIZED = 3000
"""WebSocket close code; clients take it and those above it as final, and try no more."""

MOST_GOODBYES = 100
"""Clients that are being turned away at once, which takes up to 10 s; more get no reason."""


class Entrance:
    """Stands between the handshake and the session."""

    def __init__(self, authenticator: Authenticator, refusals: Refusals):
        self._refusals = refusals
        self._authenticator = authenticator
        self._goodbyes = 0

    async def admits(self, socket: ServerConnection, request: Request) -> bool:
        """Let a client in, or tell it why not and close.

        Raises:
            ConnectionClosed: If it is gone already.
        """
        if objection := self._authenticator.objection(request.headers):
            close = UNAUTHORIZED
        elif objection := _beta(request):
            close = beta.CLOSE
        else:
            return True
        self._note(socket, request, objection)
        if self._goodbyes >= MOST_GOODBYES:
            socket.transport.abort()
            return False
        detail = ErrorDetail(objection.message, code=objection.code)
        self._goodbyes += 1
        try:
            await socket.send(events.encode(events.Error(error=detail), "event_1"), text=True)
            await socket.close(close, f"{detail.type}.{detail.code}")
        finally:
            self._goodbyes -= 1
        return False

    def note_handshake(self, socket: ServerConnection, request: Request, answer: Response) -> None:
        """Log a handshake that failed."""
        if answer.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            why = (answer.body or b"").decode().partition("\n")[0]
            self._note(socket, request, Objection("invalid_handshake", why))

    def _note(self, socket: ServerConnection, request: Request, why: Objection) -> None:
        what = f"GET {request.path.partition('?')[0]}"
        assert isinstance(socket, ClientSocket), "the doorway made it"
        self._refusals.note(socket.client, what, why.code, why.message)


def _beta(request: Request) -> Objection | None:
    if beta.WANTED in listed(request.headers, beta.HEADER):
        how = f"the header {beta.HEADER}: {beta.WANTED}"
    elif beta.SUBPROTOCOL in listed(request.headers, "Sec-WebSocket-Protocol"):
        how = f"the subprotocol {beta.SUBPROTOCOL}"
    else:
        return None
    return Objection(beta.CODE, beta.ASKED.format(how))
