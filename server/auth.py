"""Who may come in: one API key for the server, and client secrets that stand for it for a while."""

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from websockets.datastructures import Headers

from agent.errors import SettingsError
from agent.keys import SERVER
from agent.realtime.config import SessionPatch
from server.web.http import listed
from server.workers.secret_files import SecretFiles

MOST_SECRETS = 10_000
"""Of one process; the oldest go when there are more."""

NO_KEY = (
    "The server requires an API key. Send it as Authorization: Bearer KEY, as the password of HTTP "
    "Basic, in the header api-key, or as the WebSocket subprotocol openai-insecure-api-key.KEY."
)

FOREIGN = "origin_not_allowed"

_PORTS = {"http": 80, "https": 443}
_SECRET = "ek_"
_PROTOCOL_KEY = "openai-insecure-api-key."


@dataclass(frozen=True, slots=True)
class Secret:
    """A client secret: opens sessions until it expires, which begin with its configuration."""

    value: str
    expires_at: int
    """Unix time in seconds."""
    patch: SessionPatch


@dataclass(frozen=True, slots=True)
class Objection:
    """Why somebody may not come in."""

    code: str
    message: str


class Authenticator:
    """Knows the key, the secrets that are valid now, and the pages that may come.

    Without a key everybody on this machine may come in, but no page of a foreign origin: a
    browser would otherwise let any site in the world talk to a server on its user's machine.

    Args:
        files: Where the secrets are that other processes issued, and those issued here are kept.
    """

    def __init__(
        self,
        api_key: str | None,
        allowed_origins: Iterable[str] = (),
        files: SecretFiles | None = None,
    ):
        self._api_key = api_key
        self._origins = frozenset(_listed_origin(each) for each in allowed_origins)
        self._secrets: dict[str, Secret] = {}
        """Those that were issued here."""
        self._files = files

    def objection(self, headers: Headers, *, takes_secrets: bool = True) -> Objection | None:
        """Why a client may not come in by what it showed.

        Args:
            takes_secrets: Whether a client secret is as good as the key.
        """
        if self._is_foreign(headers.get("Origin")):
            return Objection(FOREIGN, _foreign(headers["Origin"]))
        if self._api_key is None or self._shows_key(headers, self._api_key):
            return None
        if takes_secrets and self.secret(headers):
            return None
        message = "The API key is wrong." if _keys(headers) else NO_KEY
        return Objection("invalid_api_key", message)

    def _is_foreign(self, shown: str | None) -> bool:
        """Whether a page of that origin may not come; what is no page shows none."""
        if shown is None or (self._api_key is not None and not self._origins):
            return False
        origin = _origin(shown)
        is_local = origin is not None and is_loopback(urlsplit(origin).hostname or "")
        return not is_local and origin not in self._origins

    def _shows_key(self, headers: Headers, key: str) -> bool:
        shown = (each.encode("latin-1") for each in _keys(headers))
        return any(hmac.compare_digest(each, key.encode()) for each in shown)

    def secret(self, headers: Headers) -> Secret | None:
        """The valid client secret among what a client showed."""
        found = (self._find(key) for key in _keys(headers))
        return next((secret for secret in found if secret), None)

    def issue(self, seconds: int, patch: SessionPatch) -> Secret:
        """Make a client secret that is valid for so many seconds.

        Raises:
            OSError: If other processes are to know it, and there is no room for it.
        """
        now = int(time.time())
        for each in [each for each in self._secrets.values() if each.expires_at <= now]:
            self._forget(each.value)
        if len(self._secrets) >= MOST_SECRETS:
            self._forget(next(iter(self._secrets)))
        secret = Secret(f"{_SECRET}{secrets.token_urlsafe(24)}", now + seconds, patch)
        if self._files is not None:
            self._files.keep(secret.value, secret.expires_at, patch)
        self._secrets[secret.value] = secret
        return secret

    def _forget(self, value: str) -> None:
        del self._secrets[value]
        if self._files is not None:
            self._files.forget(value)

    def _find(self, key: str) -> Secret | None:
        secret = self._secrets.get(key)
        if secret is None and self._files is not None and key.startswith(_SECRET):
            found = self._files.find(key)
            secret = Secret(key, *found) if found else None
        return secret if secret is not None and secret.expires_at > time.time() else None


def _keys(headers: Headers) -> list[str]:
    """Every key that a client showed, by any of the ways that clients know."""
    shown = list(headers.get_all("api-key"))
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        shown.append(credentials.strip())
    elif scheme.lower() == "basic":
        with suppress(binascii.Error):
            decoded = base64.b64decode(credentials.strip().encode("latin-1"), validate=True)
            shown.append(decoded.decode("latin-1").partition(":")[2])
    words = listed(headers, "Sec-WebSocket-Protocol")
    shown += [word.removeprefix(_PROTOCOL_KEY) for word in words if word.startswith(_PROTOCOL_KEY)]
    return [each for each in shown if each]


def _origin(text: str) -> str | None:
    """An origin as browsers write it, without the port that its scheme has anyway."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname or parts.path.strip("/") or "?" in text:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = "" if port in (None, _PORTS.get(parts.scheme)) else f":{port}"
    return f"{parts.scheme}://{host}{shown}"


def _listed_origin(text: str) -> str:
    """Read one entry of `allowed_origins`.

    Raises:
        SettingsError: If it is none.
    """
    if (origin := _origin(text)) is None or "*" in text:
        raise SettingsError(
            f"listen.allowed_origins: {text!r} is not an origin; write the scheme, the host and, "
            'if needed, the port, such as "https://voice.example"'
        )
    return origin


def _foreign(shown: str) -> str:
    origin = _origin(shown)
    if origin is None:
        return f"The origin {shown[:200]!a} is not allowed."
    return (
        f"The origin {origin[:200]} is not allowed. To allow it, add it to allowed_origins under "
        "[listen] in the server's configuration."
    )


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
            f"listen.host: {host} can be reached from other machines, but no API key is set; "
            f"set the environment variable {SERVER} or listen.api_key_file"
        )
