"""Behind nginx and Caddy, set up as docs/reverse-proxy.md says, with the path stripped or not."""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.drivers.processes import ROOT, start_server
from tests.fakes import stand_in

pytestmark = pytest.mark.system

DOC = ROOT / "docs" / "reverse-proxy.md"
OWN, SHARED = "voice.example", "www.example"
PLACES = [(OWN, "/"), (SHARED, "/voice/")]
CADDY = shutil.which("caddy")


def example(kind: str) -> str:
    """The example of that kind in the documentation."""
    [found] = re.findall(rf"```{kind}\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    return found


def origins() -> str:
    [found] = re.findall(r"allowed_origins = .*", DOC.read_text(encoding="utf-8"))
    return f"[listen]\n{found}\n"


@dataclass
class Proxy:
    """A way to the proxy, whatever name a client asks for."""

    dial: Callable[[], socket.socket]
    trust: ssl.SSLContext

    def ask(self, host: str, path: str, method: str = "GET") -> tuple[int, bytes, str]:
        """Send a request; return status, body, and where the proxy sends the client to."""
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.sock = self.trust.wrap_socket(self.dial(), server_hostname=host)
        connection.request(method, path)
        answer = connection.getresponse()
        found = answer.status, answer.read(), answer.headers.get("Location", "")
        connection.close()
        return found

    def first_event(self, host: str, path: str, origin: str) -> dict[str, dict[str, str]]:
        url = f"wss://{host}{path}v1/realtime"
        how: Any = {"sock": self.dial(), "ssl": self.trust, "origin": Origin(origin)}
        with cast(ClientConnection, connect(url, **how)) as client:
            return json.loads(client.recv(timeout=10))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for both names, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    how = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = f"subjectAltName=DNS:{OWN},DNS:{SHARED}"
    files = ["-keyout", str(folder / "own.key"), "-out", str(folder / "own.pem")]
    words = ["openssl", "req", *how.split(), "-addext", names, *files]
    subprocess.run(words, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Address of a server without a key, configured as the documentation says."""
    config = tmp_path_factory.mktemp("server") / "server.toml"
    config.write_text(origins())
    with (
        stand_in() as model,
        start_server(model.url.removesuffix("/v1"), "--config", str(config)) as url,
    ):
        yield urlsplit(url).netloc


@contextmanager
def nginx(config: str, certificate: Path, server: str) -> Generator[Proxy]:
    path = certificate / "nginx.sock"
    text = config.replace("listen 443", f"listen unix:{path}").replace("127.0.0.1:8080", server)
    text = re.sub(r"/etc/ssl/\S+\.(pem|key);", rf"{certificate}/own.\1;", text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {certificate}/{kind};" for kind in kinds)
    file = certificate / "nginx.conf"
    file.write_text(
        f"daemon off; master_process off; pid {certificate}/pid; error_log stderr notice;"
        f"events {{}} http {{ access_log off; {folders} {text} }}"
    )
    words = ["nginx", "-c", str(file), "-p", str(certificate), "-e", "stderr"]
    with running(words, "getrlimit", path, certificate) as proxy:
        yield proxy


@contextmanager
def caddy(config: str, certificate: Path, server: str) -> Generator[Proxy]:
    path = certificate / "caddy.sock"
    text = config.replace("127.0.0.1:8080", server)
    own = f"bind unix/{path}\n\ttls {certificate}/own.pem {certificate}/own.key"
    text = re.sub(r"(?m)^(\w+\.example) \{", rf"\1 {{\n\t{own}", text)
    file = certificate / "Caddyfile"
    file.write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{text}")
    words = ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]
    with running(words, "serving initial configuration", path, certificate) as proxy:
        yield proxy


@contextmanager
def running(words: list[str], last: str, path: Path, certificate: Path) -> Generator[Proxy]:
    """Run a proxy that listens on a socket in the file system, so that no port can be taken.

    Args:
        last: What it writes when it listens.
    """

    def dial() -> socket.socket:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(10)
        connected.connect(str(path))
        return connected

    environment = os.environ | {
        "HOME": str(certificate),
        "PATH": f"{os.environ['PATH']}:/usr/sbin",
        "XDG_CONFIG_HOME": "",
        "XDG_DATA_HOME": "",
    }
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if last in line:
                break
        else:
            raise AssertionError("".join(lines))
        try:
            yield Proxy(dial, ssl.create_default_context(cafile=str(certificate / "own.pem")))
        finally:
            process.terminate()
            process.communicate(timeout=10)


def check(proxy: Proxy) -> None:
    """What a browser and other clients ask for, at both places."""
    for host, folder in PLACES:
        status, page, _ = proxy.ask(host, folder)
        assert (status, page[:15]) == (200, b"<!doctype html>")
        for path in re.findall(rb'(?:src|href)="([^"]+)"', page):
            assert proxy.ask(host, urljoin(folder, path.decode()))[0] == 200
        assert b"kiosk.js" in proxy.ask(host, f"{folder}kiosk")[1]
        assert "greeting" in json.loads(proxy.ask(host, f"{folder}page/kiosk.json")[1])
        assert json.loads(proxy.ask(host, f"{folder}healthz")[1])["status"] == "healthy"
        assert proxy.ask(host, f"{folder}v1/realtime/client_secrets", "POST")[0] == 200
        created = proxy.first_event(host, folder, f"https://{host}")
        assert created["type"] == "session.created"
        refused = proxy.first_event(host, folder, "https://evil.example")
        assert refused["error"]["code"] == "origin_not_allowed"
    status, _, place = proxy.ask(SHARED, "/voice")
    assert status in (301, 302)
    assert urlsplit(place).path == "/voice/"


def test_nginx_as_documented(certificate: Path, server: str):
    with nginx(example("nginx"), certificate, server) as proxy:
        check(proxy)


def test_nginx_that_leaves_the_path_where_it_is(certificate: Path, server: str):
    config = example("nginx")
    kept = config.replace("proxy_pass http://127.0.0.1:8080/;", "proxy_pass http://127.0.0.1:8080;")
    assert kept != config
    with nginx(kept, certificate, server) as proxy:
        check(proxy)


@pytest.mark.skipif(CADDY is None, reason="needs Caddy")
@pytest.mark.parametrize("directive", ["handle_path", "handle"])
def test_caddy_as_documented_and_with_the_path_left_where_it_is(
    certificate: Path, server: str, directive: str
):
    config = example("caddy").replace("handle_path", directive)
    with caddy(config, certificate, server) as proxy:
        check(proxy)


@pytest.mark.parametrize("missing", ["proxy_http_version", "proxy_set_header Upgrade"])
def test_a_proxy_that_passes_no_websocket_on_is_named(certificate: Path, server: str, missing: str):
    config = re.sub(rf"{missing} \S+;", "", example("nginx"))
    with nginx(config, certificate, server) as proxy:
        with pytest.raises(InvalidStatus) as refused:
            proxy.first_event(OWN, "/", f"https://{OWN}")
        response = refused.value.response
        assert response.status_code == 426
        error = json.loads(response.body or b"")["error"]
        assert error["code"] == "upgrade_required"
        assert "pass the headers Upgrade and Connection on" in error["message"]
