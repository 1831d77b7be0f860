"""Client secrets over HTTP: keys for a while, whose sessions begin as their maker wants."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from agent.errors import ProtocolError
from agent.model import tools
from agent.realtime import client_events as protocol
from agent.realtime.config import SessionConfig, SessionPatch
from server.auth import FOREIGN, Authenticator, Secret
from server.web.http import JSON, Answer, Request, Taker, refusal, wrong_method

SECONDS_BY_DEFAULT = 600
"""As at OpenAI: time to load a page, and little for whoever steals it."""


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


class ClientSecrets:
    """Issues client secrets.

    Args:
        configured: Gives the whole configuration of a session that begins with a secret.
    """

    def __init__(self, authenticator: Authenticator, configured: Callable[[Secret], SessionConfig]):
        self._authenticator = authenticator
        self._configured = configured

    def begin(self, request: Request) -> Answer | Taker:
        """Refuse a request by its head, before a stranger's body is read, or take its body."""
        if refused := wrong_method(request, "POST"):
            return refused
        if objection := self._authenticator.objection(request.headers, takes_secrets=False):
            message, code = objection.message, objection.code
            if code == FOREIGN:
                return refusal(HTTPStatus.FORBIDDEN, message, code)
            wanted = (("WWW-Authenticate", "Bearer"),)
            return refusal(HTTPStatus.UNAUTHORIZED, message, code, headers=wanted)
        kind = request.headers.get("Content-Type", JSON).partition(";")[0].strip().lower()
        if kind != JSON or "Content-Encoding" in request.headers:
            return refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"The body must be {JSON}, without a Content-Encoding.",
                "unsupported_media_type",
            )
        return self._issue

    def _issue(self, body: bytes) -> Answer:
        try:
            wish = msgspec.json.decode(body or b"{}", type=_Wish)
            patch = _read_session(wish.session)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            message = f"The body is not a request for a client secret: {error}"
            return refusal(HTTPStatus.BAD_REQUEST, message, "invalid_value")
        except ProtocolError as error:
            return refusal(HTTPStatus.BAD_REQUEST, str(error), error.code, param=error.param)
        try:
            secret = self._authenticator.issue(wish.expires_after.seconds, patch)
        except OSError as error:
            message = f"The server can't keep another client secret: {error.strerror}"
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, message, "no_room")
        issued = _Issued(secret.value, secret.expires_at, self._configured(secret))
        headers = (("Cache-Control", "no-store"),)
        return Answer(HTTPStatus.OK, msgspec.json.encode(issued), headers=headers)


def _read_session(raw: msgspec.Raw) -> SessionPatch:
    """Read a session's configuration as `session.update` carries it.

    Raises:
        ProtocolError: If a field is unknown or has an impossible value; names its path.
    """
    event = protocol.decode(b'{"type":"session.update","session":' + bytes(raw) + b"}")
    assert isinstance(event, protocol.SessionUpdate)
    patch = event.session
    tools.checked(patch.tools or [], patch.tool_choice or "auto", "session")
    return patch
