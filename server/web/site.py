"""What is at which address: every request is answered here, or goes on as a WebSocket.

Any path may stand in front of an address: a proxy that serves this below `/voice/` may strip that
or leave it there.
"""

from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from server.web.client_secrets import ClientSecrets
from server.web.health import Health
from server.web.http import Answer, Request, Taker, listed, query, refusal, wrong_method
from server.web.pages import Pages

REALTIME = "/realtime"
SECRETS = "/realtime/client_secrets"
HEALTH = "/healthz"
READY = "/readyz"
VERSION = "13"

_WEBSOCKET = "Sessions are held over the WebSocket at /v1/realtime."
_ASK_MODEL = f"One-off requests go to the model server, as `mimo-live ask` does. {_WEBSOCKET}"
INSTEAD = {
    "/v1/realtime/calls": f"WebRTC and SIP are not supported. {_WEBSOCKET}",
    "/v1/realtime/sessions": (
        "This belonged to the beta API. POST /v1/realtime/client_secrets makes a client secret, "
        "with the configuration of the session that it opens."
    ),
    "/v1/realtime/transcription_sessions": (
        "Transcription sessions are not supported. A session has its user's speech transcribed if "
        "session.audio.input.transcription is set."
    ),
    "/v1/realtime/translations": f"Translation sessions are not supported. {_WEBSOCKET}",
    "/v1/models": f"There is one model, and any model name selects it. {_WEBSOCKET}",
    "/v1/chat": _ASK_MODEL,
    "/v1/completions": _ASK_MODEL,
    "/v1/responses": _ASK_MODEL,
    "/v1/audio": _ASK_MODEL,
    "": (
        f"{_WEBSOCKET} POST /v1/realtime/client_secrets makes client secrets; the pages are at / "
        "and /kiosk, and the state of the server is at /healthz."
    ),
}
"""What exists in place of addresses that clients of the OpenAI API ask for; below them, too."""

_ONCE = (
    *("api-key", "authorization", "content-type", "host", "origin"),
    *("sec-websocket-key", "sec-websocket-version"),
)
"""Headers whose second line would leave it open which of the two counts."""


class Site:
    """Everything that this server has."""

    def __init__(self, pages: Pages, secrets: ClientSecrets, health: Callable[[], Health]):
        self._pages = pages
        self._secrets = secrets
        self._health = health

    def begin(self, request: Request) -> Answer | Taker | None:
        """Answer a request by its head, or take its body; `None` for a WebSocket handshake."""
        if refused := _ambiguous(request):
            return refused
        if request.path.endswith(REALTIME):
            return _handshake(request) or self._at_the_end(request)
        if request.path.endswith(SECRETS):
            return self._secrets.begin(request)
        found = self._pages.find(request)
        if found is None and request.path.endswith((HEALTH, READY)):
            health = self._health()
            is_fine = request.path.endswith(HEALTH) or health.is_ready
            status = HTTPStatus.OK if is_fine else HTTPStatus.SERVICE_UNAVAILABLE
            body = msgspec.json.encode(health)
            found = Answer(status, body, headers=(("Cache-Control", "no-store"),))
        if found is None or _wants_websocket(request):
            return _elsewhere(request)
        return wrong_method(request, "GET", "HEAD") or found

    def _at_the_end(self, request: Request) -> Answer | None:
        """The refusal of a session that would begin while the server ends; others may go on."""
        if not self._health().ending or "resume" in query(request.target):
            return None
        message = "The server is shutting down and begins no more sessions. Try again elsewhere."
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, message, "server_shutting_down")


def _elsewhere(request: Request) -> Answer:
    """Say what exists in place of something that does not."""
    instead = next(INSTEAD[each] for each in INSTEAD if f"{each}/" in f"{request.path}/")
    missing = "no WebSocket" if _wants_websocket(request) else "nothing"
    message = f"There is {missing} at {request.path[:200]}. {instead}"
    return refusal(HTTPStatus.NOT_FOUND, message, "not_found")


def _ambiguous(request: Request) -> Answer | None:
    """The refusal of a head that two readers could take for two different ones."""
    counts = Counter(name.lower() for name, _ in request.headers.raw_items())
    for name in _ONCE:
        if counts[name] > 1:
            message = f"The header {name} was sent {counts[name]} times; send it once."
            return refusal(HTTPStatus.BAD_REQUEST, message, "repeated_header")
    if counts["content-length"] and counts["transfer-encoding"]:
        message = "Send either Content-Length or Transfer-Encoding, not both."
        return refusal(HTTPStatus.BAD_REQUEST, message, "invalid_request")
    return None


def _wants_websocket(request: Request) -> bool:
    upgrades = [each.lower() for each in listed(request.headers, "Upgrade")]
    connection = [each.lower() for each in listed(request.headers, "Connection")]
    return "websocket" in upgrades and "upgrade" in connection


def _handshake(request: Request) -> Answer | None:
    if refused := wrong_method(request, "GET", instead=INSTEAD["/v1/realtime/calls"]):
        return refused
    if _wants_websocket(request) and not request.is_http_1_0:
        if request.headers.get("Sec-WebSocket-Version") == VERSION:
            return None
        return refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            f"Version {VERSION} of the WebSocket protocol is required.",
            "unknown_websocket_version",
            headers=(("Sec-WebSocket-Version", VERSION),),
        )
    return refusal(
        HTTPStatus.UPGRADE_REQUIRED,
        f"{request.path} is a WebSocket, and this request did not ask for one. A proxy in between "
        "must speak HTTP/1.1 to this server and pass the headers Upgrade and Connection on.",
        "upgrade_required",
        headers=(("Upgrade", "websocket"), ("Connection", "Upgrade")),
    )
