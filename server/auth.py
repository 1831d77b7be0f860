"""Who may come in: one API key for the server, and client secrets that stand for it for a while."""

import hmac
import secrets
import time
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from websockets.datastructures import Headers

from agent.errors import SettingsError
from agent.objects import SessionPatch
from server.keys import LISTEN

MOST_SECRETS = 10_000
"""The oldest go when there are more."""

_PROTOCOL_KEY = "openai-insecure-api-key."


@dataclass(frozen=True, slots=True)
class Secret:
    """A client secret: opens sessions until it expires, which begin with its configuration."""

    value: str
    expires_at: int
    """Unix time in seconds."""
    patch: SessionPatch


class Doorkeeper:
    """Knows the key and the secrets that are valid now.

    Without a key everybody on this machine may come in, but no page of a foreign origin: a
    browser would otherwise let any site in the world talk to a server on its user's machine.
    """

    def __init__(self, api_key: str | None):
        self._api_key = api_key
        self._secrets: dict[str, Secret] = {}

    def admits(self, headers: Headers) -> bool:
        """Whether what a client showed in its handshake lets it in."""
        return self.admits_key(headers) or self.secret(headers) is not None

    def admits_key(self, headers: Headers) -> bool:
        """Whether the key itself was shown; a secret may not make other secrets."""
        if self._api_key is None:
            return _is_local(headers.get("Origin"))
        right = self._api_key.encode()
        return any(hmac.compare_digest(key.encode("latin-1"), right) for key in _keys(headers))

    def secret(self, headers: Headers) -> Secret | None:
        """The valid client secret among what a client showed."""
        found = (self._find(key) for key in _keys(headers))
        return next((secret for secret in found if secret), None)

    def issue(self, seconds: int, patch: SessionPatch) -> Secret:
        """Make a client secret that is valid for so many seconds."""
        now = int(time.time())
        self._secrets = {v: each for v, each in self._secrets.items() if each.expires_at > now}
        if len(self._secrets) >= MOST_SECRETS:
            del self._secrets[next(iter(self._secrets))]
        secret = Secret(f"ek_{secrets.token_urlsafe(24)}", now + seconds, patch)
        self._secrets[secret.value] = secret
        return secret

    def _find(self, key: str) -> Secret | None:
        secret = self._secrets.get(key)
        return secret if secret is not None and secret.expires_at > time.time() else None


def _keys(headers: Headers) -> list[str]:
    """Every key that a client showed: as Bearer token, as Azure's header, or as a subprotocol."""
    kind, _, token = headers.get("Authorization", "").partition(" ")
    shown = [token.strip()] if kind.lower() == "bearer" else []
    shown += headers.get_all("api-key")
    offered = ",".join(headers.get_all("Sec-WebSocket-Protocol")).split(",")
    words = [each.strip() for each in offered]
    shown += [word.removeprefix(_PROTOCOL_KEY) for word in words if word.startswith(_PROTOCOL_KEY)]
    return shown


def _is_local(origin: str | None) -> bool:
    return origin is None or is_loopback(urlsplit(origin).hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine and nobody else."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, key: str | None) -> None:
    """Refuse to let strangers in.

    Raises:
        SettingsError: If the server is to listen beyond this machine without a key.
    """
    if key is None and not is_loopback(host):
        raise SettingsError(
            f"listen.host: {host} can be reached from other machines, and there is no key; "
            f"set the environment variable {LISTEN} or listen.api_key_file"
        )
