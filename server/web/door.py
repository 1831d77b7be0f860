"""What stands before every connection: HTTP, read by h11, until a WebSocket begins.

Requests are answered here. A handshake is handed on to `websockets`, together with its connection,
and no byte of a session comes by here. All of it comes from strangers, so everything has a limit:
heads, bodies, the time for each, what is answered and not read, and how many may stand here.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast

import h11
from websockets import http11
from websockets.server import ServerProtocol

from server.session.socket import ClientSocket, address
from server.web import head
from server.web.entrance import Entrance
from server.web.http import Answer, Request, Taker, refusal
from server.web.site import Site

LARGEST_BODY = 2**20
"""Bytes; the largest are sessions with their instructions and functions."""

MOST_CHUNKS = 1_000
"""Of a body, which is nothing for a client that writes it in one piece; each takes 8 us, and all
that came together are read before any session is."""

REQUEST_S = 10.0
"""For a whole head, from the connection or from the answer before; and for a whole body."""
ANSWER_S = 30.0
"""For what was answered to be read."""
GOODBYE_S = 10.0
"""For the last answer to be read: what the client still sends is dropped meanwhile, as a connection
that closed upon it would take the answer away."""

MOST_WAITING = 500
"""Connections without a WebSocket; when one more comes, the oldest goes. Requests take
milliseconds, and file descriptors are few."""

_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'none'"
)
_ALWAYS = (("Content-Security-Policy", _POLICY), ("X-Content-Type-Options", "nosniff"))


Elsewhere = Callable[[str, asyncio.Transport, bytes, Callable[[], None]], bool]
"""Has another process serve a handshake: its target, its connection, what came over that, and what
to call when that is over. False leaves it here."""


class Doorway:
    """Knows all connections that have not become a WebSocket.

    Args:
        elsewhere: If there are other processes, which may have what a handshake asks for.
    """

    def __init__(
        self,
        site: Site,
        entrance: Entrance,
        most: int = MOST_WAITING,
        elsewhere: Elsewhere | None = None,
    ):
        self.site = site
        self.entrance = entrance
        self.elsewhere = elsewhere
        self._most = most
        self._doors: dict[Door, None] = {}
        self._is_closed = False

    def connection(self, *arguments: Any, **options: Any) -> "Door":
        """Make what `websockets` takes for its connection."""
        return Door(self, ClientSocket(*arguments, **options))

    def enter(self, door: "Door") -> None:
        self._doors[door] = None
        if self._is_closed:
            door.abort()
        elif len(self._doors) > self._most:
            next(iter(self._doors)).make_room()

    def leave(self, door: "Door") -> None:
        self._doors.pop(door, None)

    def close(self) -> None:
        """Wait for nobody any more."""
        self._is_closed = True
        for door in list(self._doors):
            door.abort()


class Door(asyncio.Protocol):
    """One connection, from its first byte to its end or its WebSocket handshake."""

    _transport: asyncio.Transport

    def __init__(self, doorway: Doorway, socket: ClientSocket):
        self._doorway = doorway
        self._socket = socket
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=head.LARGEST_HEAD)
        self._exchange = _Exchange()
        self._timer: asyncio.TimerHandle | None = None
        self._is_unread = False
        self._is_leaving = False

    @property
    def protocol(self) -> ServerProtocol:
        """`websockets` looks for it here when it chooses the subprotocol."""
        return self._socket.protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._give(REQUEST_S)
        self._doorway.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()

    def abort(self) -> None:
        self._forget()
        self._transport.abort()

    def make_room(self) -> None:
        """Go, for too many others are here."""
        message = "Too many connections are open; this one was idle longest."
        self._note("too_many_connections", message)
        self.abort()

    def data_received(self, data: bytes) -> None:
        if not self._is_leaving:
            self._exchange.has_begun = True
            self._http.receive_data(data)
            self._advance()

    def pause_writing(self) -> None:
        self._is_unread = True
        self._transport.pause_reading()
        self._give(ANSWER_S)

    def resume_writing(self) -> None:
        self._is_unread = False
        self._transport.resume_reading()
        self._give(GOODBYE_S if self._is_leaving else REQUEST_S)

    def _advance(self) -> None:
        while not self._is_leaving:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._answer(head.unreadable(error), is_last=True)
                return
            match event:
                case h11.Request():
                    self._begin(event)
                case h11.Data():
                    self._take(event)
                case h11.EndOfMessage():
                    self._end()
                case _:
                    return

    def _begin(self, event: h11.Request) -> None:
        self._exchange.request = request = head.read(event)
        step = head.refused(event) or self._doorway.site.begin(request)
        if step is None:
            step = self._doorway.entrance.begin(request, self._socket, address(self._transport))
        if step is None:
            self._hand_on(request)
            return
        self._exchange.step = step
        if isinstance(step, Answer):
            if _has_body(request):
                # Nobody wants it, least of all from a client that waits to be asked for it.
                self._answer(step, is_last=True)
        elif _length(request) > LARGEST_BODY:
            self._answer(_too_much(), is_last=True)
        else:
            self._give(REQUEST_S)
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                self._transport.write(self._http.send(go_on))

    def _take(self, part: h11.Data) -> None:
        exchange = self._exchange
        exchange.body += part.data
        exchange.chunks += part.chunk_start
        if len(exchange.body) > LARGEST_BODY or exchange.chunks > MOST_CHUNKS:
            self._answer(_too_much(), is_last=True)

    def _end(self) -> None:
        step = self._exchange.step
        assert step is not None, "a head came before"
        answer = step if isinstance(step, Answer) else step(bytes(self._exchange.body))
        # A client that did not wait for this answer has to ask again, on another connection: many
        # requests at once would keep the sessions of others waiting.
        is_eager = bool(self._http.trailing_data[0])
        self._answer(answer, is_last=is_eager)

    def _answer(self, answer: Answer, *, is_last: bool) -> None:
        if answer.code:
            self._note(answer.code, answer.complaint)
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(answer, is_last)
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._exchange = _Exchange()
            if not self._is_unread:
                self._give(REQUEST_S)
        else:
            self._leave()

    def _send(self, answer: Answer, is_last: bool) -> None:
        has_body = answer.status is not HTTPStatus.NOT_MODIFIED
        headers = [("Date", formatdate(usegmt=True)), *_ALWAYS, *answer.headers]
        if has_body:
            headers += [("Content-Type", answer.kind), ("Content-Length", str(len(answer.body)))]
        if is_last:
            headers.append(("Connection", "close"))
        status = answer.status
        data = self._http.send(
            h11.Response(status_code=status, reason=status.phrase.encode(), headers=headers)
        )
        request = self._exchange.request
        if has_body and (request is None or request.method != "HEAD"):
            data += self._http.send(h11.Data(data=answer.body))
        self._transport.write(data + self._http.send(h11.EndOfMessage()))

    def _leave(self) -> None:
        self._is_leaving = True
        self._give(ANSWER_S if self._is_unread else GOODBYE_S)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _hand_on(self, request: Request) -> None:
        """Let `websockets` have the connection, with the head as it was understood here."""
        handshake = http11.Request(request.target, request.headers)
        received, _ = self._http.trailing_data
        self._is_leaving = True
        self._forget()
        data = handshake.serialize() + received
        elsewhere = self._doorway.elsewhere if self._socket.objection is None else None
        here = self._socket
        if not (elsewhere and elsewhere(request.target, self._transport, data, here.leave)):
            here.take_over(self._transport, address(self._transport), data)

    def _note(self, code: str, why: str) -> None:
        request = self._exchange.request
        what = f"{request.method} {request.path}" if request else "no request"
        self._doorway.entrance.refusals.note(address(self._transport), what, code, why)

    def _give(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._run_out)

    def _run_out(self) -> None:
        if self._is_leaving or self._is_unread or not self._exchange.has_begun:
            self.abort()
            return
        part = "head" if self._exchange.request is None else "body"
        message = f"The {part} of the request was not complete after {REQUEST_S:.0f} s."
        self._answer(refusal(HTTPStatus.REQUEST_TIMEOUT, message, "request_timeout"), is_last=True)

    def _forget(self) -> None:
        self._doorway.leave(self)
        if self._timer is not None:
            self._timer.cancel()


@dataclass(slots=True)
class _Exchange:
    """One request on its way to its answer."""

    has_begun: bool = False
    request: Request | None = None
    step: Answer | Taker | None = None
    body: bytearray = field(default_factory=bytearray)
    chunks: int = 0


def _has_body(request: Request) -> bool:
    return "Transfer-Encoding" in request.headers or _length(request) > 0


def _length(request: Request) -> int:
    return int(request.headers.get("Content-Length", "0"))


def _too_much() -> Answer:
    message = f"The body is larger than {LARGEST_BODY} bytes, or in more than {MOST_CHUNKS} chunks."
    return refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, "body_too_large")
