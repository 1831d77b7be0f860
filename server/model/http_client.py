"""HTTP clients for the model server and the recogniser, each reached as its host asks for."""

import os
from functools import partial

import httpx2
import openai

from agent.network.routes import Routed

LIMITS = httpx2.Limits(max_connections=1_000, max_keepalive_connections=100)
"""More connections than sessions, so that none waits here; of idle ones a few save handshakes."""


class _Client(openai.AsyncOpenAI):
    """Shows a server the key, if there is one, and nothing of the OPENAI_… variables."""

    @property
    def default_headers(self) -> dict[str, str | openai.Omit]:
        json = "application/json"
        return {"Accept": json, "Content-Type": json, "User-Agent": "mimo-live"}

    def _auth_headers(self, security: object) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def _validate_headers(self, headers: object, custom_headers: object) -> None:
        """Servers that want no key are shown none."""


def api_client(url: str, key: str | None, timeout: httpx2.Timeout) -> openai.AsyncOpenAI:
    """A client of the API at a base URL; nothing is sent twice behind its user's back.

    A redirect to another origin takes the key out.
    """
    way = partial(httpx2.AsyncHTTPTransport, limits=LIMITS)
    routed = httpx2.AsyncClient(transport=Routed(os.environ, way), follow_redirects=True)
    return _Client(
        base_url=url,
        api_key=key or "",
        max_retries=0,
        timeout=timeout,
        http_client=routed,
        _enforce_credentials=False,
    )
