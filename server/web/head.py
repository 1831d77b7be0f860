"""The head of a request as h11 read it: turned into ours, or refused for its size or its form."""

import re
from http import HTTPStatus

import h11
from websockets.datastructures import Headers

from server.web.http import Answer, Request, refusal

LARGEST_HEAD = 2**14
"""Bytes of all lines: cookies of other services on this host may be long."""
LARGEST_LINE = 8_000
"""Bytes; `websockets` takes no longer one."""
MOST_HEADERS = 100
"""Browsers send some twenty."""

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_PARTS = ("Content-Length", "Transfer-Encoding", "Host", "request line", "header line", "chunk")


def read(head: h11.Request) -> Request:
    headers = Headers()
    for name, value in head.headers.raw_items():
        # One with control characters is refused, and nobody reads it.
        if not _CONTROL.search(value):
            headers[name.decode("ascii")] = value.decode("latin-1")
    target = head.target.decode("ascii")
    if not target.startswith("/"):
        # The form for proxies, with a server's address in front.
        target = "/" + target.partition("://")[2].partition("/")[2]
    return Request(head.method.decode("ascii"), target, headers, head.http_version == b"1.0")


def refused(head: h11.Request) -> Answer | None:
    """The refusal of a head that is too large, or of another HTTP."""
    if not head.http_version.startswith(b"1."):
        message = "Only HTTP/1.1 and HTTP/1.0 are supported."
        return refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, message, "unknown_http_version")
    if len(head.target) > LARGEST_LINE:
        message = f"The address is longer than {LARGEST_LINE} bytes."
        return refusal(HTTPStatus.REQUEST_URI_TOO_LONG, message, "uri_too_long")
    if any(_CONTROL.search(value) for _, value in head.headers):
        message = "The request is not valid HTTP/1.1: a header holds control characters."
        return refusal(HTTPStatus.BAD_REQUEST, message, "invalid_request")
    sizes = [len(name) + len(value) for name, value in head.headers.raw_items()]
    fits = max(sizes, default=0) <= LARGEST_LINE and sum(sizes) <= LARGEST_HEAD
    return None if fits and len(sizes) <= MOST_HEADERS else _too_large()


def _too_large() -> Answer:
    message = (
        f"The request head is too large: at most {MOST_HEADERS} headers, of "
        f"{LARGEST_LINE} bytes each and {LARGEST_HEAD} together, are read."
    )
    return refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message, "head_too_large")


def unreadable(error: h11.RemoteProtocolError) -> Answer:
    """Say what is no HTTP; h11's own words may quote a header, and that may hold a key."""
    status = HTTPStatus(error.error_status_hint)
    if status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return _too_large()
    part = next((part for part in _PARTS if part in str(error)), "framing")
    return refusal(status, f"The request is not valid HTTP/1.1: see its {part}.", "invalid_request")
