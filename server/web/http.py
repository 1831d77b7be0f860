"""HTTP as values: a request, the answer to it, and a refusal that says what was wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct
from websockets.datastructures import Headers

from agent.realtime.server_events import ErrorDetail

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; whoever wants its body asks for it with a `Taker`."""

    method: str
    target: str
    """Path and query."""
    headers: Headers
    """Values are ISO-8859-1, so that every byte survives."""
    is_http_1_0: bool = False

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    status: HTTPStatus
    body: bytes = b""
    kind: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    code: str = ""
    """Why it is a refusal, in one word of ours; empty for all other answers."""
    complaint: str = ""
    """The same as a sentence; it may quote the client, but never a key."""


Taker = Callable[[bytes], Answer]
"""Answers a request whose head was in order, once its body is there."""


class _Refused(Struct, frozen=True):
    error: ErrorDetail


def refusal(
    status: HTTPStatus,
    message: str,
    code: str,
    *,
    param: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """Refuse a request in the form of the OpenAI API's errors."""
    body = msgspec.json.encode(_Refused(ErrorDetail(message, code=code, param=param)))
    return Answer(status, body, headers=headers, code=code, complaint=message)


def wrong_method(request: Request, *allowed: str, instead: str = "") -> Answer | None:
    """The refusal of a method that an address doesn't have."""
    if request.method in allowed:
        return None
    names = ", ".join(allowed)
    return refusal(
        HTTPStatus.METHOD_NOT_ALLOWED,
        f"{request.method} is not allowed at {request.path}; use {names}. {instead}".strip(),
        "method_not_allowed",
        headers=(("Allow", names),),
    )


def listed(headers: Headers, name: str) -> list[str]:
    """The members of a header that is a list, however many lines it came in."""
    members = ",".join(headers.get_all(name)).split(",")
    return [member for each in members if (member := each.strip())]


def query(target: str) -> dict[str, list[str]]:
    """The query of a request's target; what is not UTF-8 is replaced."""
    return parse_qs(target.partition("?")[2], errors="replace")
