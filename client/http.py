"""HTTP as this side of the wire uses it: every request goes the way its own host asks for."""

import asyncio
import os
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import httpx2

from agent.errors import AgentError
from agent.network.routes import Routed

UNLIMITED = httpx2.Limits(max_connections=None)


class FetchError(AgentError):
    """What was wanted is not at that URL; says why."""


class Fetched(NamedTuple):
    body: bytes
    kind: str
    """The media type that it says it is."""


def routed() -> Routed:
    """A transport that goes the way each host asks for, over as many connections as are wanted."""
    return Routed(os.environ, partial(httpx2.AsyncHTTPTransport, limits=UNLIMITED))


def fetch(
    url: str,
    *,
    timeout_s: float,
    largest_bytes: int,
    headers: Mapping[str, str] | None = None,
    follow_redirects: bool = True,
) -> Fetched:
    """Return what is at a URL. Not for a running event loop.

    Raises:
        FetchError: If nothing is there, or it is too large or not whole in time.
    """
    try:
        return asyncio.run(_fetch(url, headers or {}, timeout_s, largest_bytes, follow_redirects))
    except TimeoutError as error:
        raise FetchError(f"not complete after {timeout_s:.0f} s") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise FetchError(str(error) or type(error).__name__) from error


async def _fetch(
    url: str,
    headers: Mapping[str, str],
    timeout_s: float,
    largest_bytes: int,
    follow_redirects: bool,
) -> Fetched:
    body = bytearray()
    async with (
        asyncio.timeout(timeout_s),
        httpx2.AsyncClient(transport=routed(), timeout=None) as client,
        client.stream("GET", url, headers=headers, follow_redirects=follow_redirects) as response,
    ):
        if not response.is_success:
            raise FetchError(f"HTTP {response.status_code} {response.reason_phrase}".rstrip())
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > largest_bytes:
                raise FetchError(f"larger than {largest_bytes >> 20} MiB")
        return Fetched(bytes(body), response.headers.get("content-type", ""))
