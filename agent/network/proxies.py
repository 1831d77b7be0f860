"""Which proxy a connection goes through, by the environment's variables.

One rule for every connection, WebSocket or HTTP: this machine is never reached through a proxy,
and any other one is where `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say so. Each may
be written in capitals; small letters come first, as in curl.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import unquote, urlsplit

from agent.errors import AgentError

_VARIABLES = {
    "http": "http_proxy",
    "ws": "http_proxy",
    "https": "https_proxy",
    "wss": "https_proxy",
}
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_LOOPBACK_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}
"""As hosts files have them."""
_SHORT_LOOPBACK = re.compile(r"127(\.\d{1,8}){1,2}")
"""`127.1` and the like, which resolvers read as addresses."""
_HOST = re.compile(r"[a-z0-9_.:-]+")


class ProxyError(AgentError):
    """A proxy was named for a connection, and that can't be used; names the variable."""


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy on the way to an http, https, ws or wss URL; `None` if there is none.

    Returns:
        `http://host:port` or `https://host:port`, with `user:password@` where there is a user.

    Raises:
        ProxyError: If the variable that matters here holds anything else.
    """
    where = urlsplit(url)
    host = (where.hostname or "").rstrip(".")
    if is_this_machine(host) or where.scheme not in _VARIABLES:
        return None
    if _is_excepted(host, where.port or _PORTS[where.scheme], _value("no_proxy", environment)[1]):
        return None
    for name in (_VARIABLES[where.scheme], "all_proxy"):
        variable, value = _value(name, environment)
        if value:
            return _usable(variable, value, host)
    return None


def is_this_machine(host: str) -> bool:
    """Whether a name or address, without brackets, always means the machine that uses it."""
    name = host.lower().rstrip(".")
    if name in _LOOPBACK_NAMES or name.endswith(".localhost") or _SHORT_LOOPBACK.fullmatch(name):
        return True
    address = _address(name)
    # Nobody listens on "any address": connecting to it reaches this machine.
    return address is not None and (address.is_loopback or address.is_unspecified)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _value(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The variable as it is spelled there, and its value; empty if it is not set."""
    spelled = name if name in environment else name.upper()
    return spelled, environment.get(spelled, "").strip()


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Whether `no_proxy` names a host: by name, by a domain above it, by address or network."""
    return any(_excepts(each, host, port) for each in re.split(r"[,\s]+", exceptions.lower()))


def _excepts(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    try:
        network = ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        return address is not None and address in network
    name, colon, digits = entry.rpartition(":")
    if colon and digits.isdecimal():
        if int(digits) != port:
            return False
        entry = name.strip("[]")
    if address is not None:
        return address == _address(entry)
    domain = entry.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _usable(variable: str, value: str, host: str) -> str:
    """Return a proxy's address in full.

    Raises:
        ProxyError: If it is none, or of a kind that isn't supported; never shows a password.
    """
    try:
        proxy = urlsplit(value if "://" in value else f"http://{value}")
        name, port = proxy.hostname or "", proxy.port
        user = unquote(proxy.username or "", errors="strict")
        user += unquote(proxy.password or "", errors="strict")
    except ValueError:
        raise _unusable(variable, host, "it is not an address") from None
    if proxy.scheme.startswith("socks"):
        raise _unusable(variable, host, "SOCKS proxies are not supported")
    is_clean = value.isprintable() and " " not in value and user.isprintable()
    if proxy.scheme not in ("http", "https") or not _HOST.fullmatch(name) or not is_clean:
        raise _unusable(variable, host, "it is not an address")
    shown, at, _ = proxy.netloc.rpartition("@")
    shown += ":" if at and ":" not in shown else ""
    name = f"[{name}]" if ":" in name else name
    return f"{proxy.scheme}://{shown}{at}{name}:{port or _PORTS[proxy.scheme]}"


def _unusable(variable: str, host: str, reason: str) -> ProxyError:
    return ProxyError(
        f"the environment variable {variable} names no proxy that can be used for {host}: "
        f"{reason}; expected http://host:port, or {host} in no_proxy"
    )
