"""HTTP clients for the model server and the recogniser, each reached as its host asks for."""

import os

import httpx2
import openai

from agent.proxies import ProxyError, proxy_for

LIMITS = httpx2.Limits(max_connections=1_000, max_keepalive_connections=100)
"""More connections than sessions, so that none waits here; of idle ones a few save handshakes."""


class Routed(httpx2.AsyncBaseTransport):
    """Sends requests directly or through a proxy; each redirect decides anew."""

    def __init__(self) -> None:
        self._ways: dict[str | None, httpx2.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            proxy = proxy_for(str(request.url), os.environ)
        except ProxyError as error:
            raise httpx2.ProxyError(str(error), request=request) from error
        way = self._ways.get(proxy)
        if way is None:
            way = self._ways[proxy] = httpx2.AsyncHTTPTransport(proxy=proxy, limits=LIMITS)
        return await way.handle_async_request(request)

    async def aclose(self) -> None:
        for way in self._ways.values():
            await way.aclose()


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
    routed = httpx2.AsyncClient(transport=Routed(), follow_redirects=True)
    return _Client(
        base_url=url,
        api_key=key or "",
        max_retries=0,
        timeout=timeout,
        http_client=routed,
        _enforce_credentials=False,
    )
