"""HTTP through the proxies that the environment names: which way each request takes.

What sends it there is the caller's own; this only chooses.
"""

from collections.abc import Callable, Mapping

import httpx2

from agent.network.proxies import ProxyError, proxy_for


class Routed(httpx2.AsyncBaseTransport):
    """Passes requests on to the way that fits their URL; each redirect decides anew.

    Args:
        way: Makes a transport for `proxy`, an address or none; `verify` is whether there is TLS.
    """

    def __init__(
        self, environment: Mapping[str, str], way: Callable[..., httpx2.AsyncBaseTransport]
    ) -> None:
        self._environment = environment
        self._way = way
        self._ways: dict[tuple[str | None, bool], httpx2.AsyncBaseTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            proxy = proxy_for(str(request.url), self._environment)
        except ProxyError as error:
            raise httpx2.ProxyError(str(error), request=request) from error
        # Reading the system's certificates takes longer than asking.
        verify = request.url.scheme == "https" or (proxy or "").startswith("https:")
        if (proxy, verify) not in self._ways:
            self._ways[proxy, verify] = self._way(proxy=proxy, verify=verify)
        return await self._ways[proxy, verify].handle_async_request(request)

    async def aclose(self) -> None:
        for way in self._ways.values():
            await way.aclose()
