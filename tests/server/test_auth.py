"""Who is let in: keys, client secrets, foreign pages; and HTTP beside the WebSocket."""

import asyncio
import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import openai
import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from agent.errors import SettingsError
from agent.keys import SERVER as API_KEY
from agent.realtime.config import SessionPatch
from client.dialogue.socket import RefusedError, greeted, open_socket
from server.app import App
from server.auth import NO_KEY, Authenticator
from server.settings import load
from tests.drivers.certificate import made_in
from tests.drivers.processes import ROOT, command, start_server
from tests.fakes import stand_in

pytestmark = pytest.mark.system

KEY = "sk-right"
SECRETS = "/v1/realtime/client_secrets"


@pytest.fixture(scope="module")
def model_url() -> Generator[str]:
    with stand_in() as model:
        yield model.url.removesuffix("/v1")


@pytest.fixture(scope="module")
def locked(model_url: str) -> Generator[str]:
    """Address of a server that has a key."""
    with start_server(model_url, environment={"MIMO_LIVE_API_KEY": KEY}) as url:
        yield url


@pytest.fixture(scope="module")
def unlocked(model_url: str) -> Generator[str]:
    with start_server(model_url) as url:
        yield url


def knock(url: str, path: str = "/v1/realtime", **how: Any) -> ClientConnection:
    return cast(ClientConnection, connect(f"{url}{path}", **how))


def first_event(url: str, **how: Any) -> dict[str, Any]:
    with knock(url, "/v1/realtime?model=any", **how) as client:
        return json.loads(client.recv(timeout=10))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(user: str, password: str) -> dict[str, str]:
    both = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {both}"}


def post(url: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


@pytest.mark.parametrize(
    "how",
    [
        {"additional_headers": bearer(KEY)},
        {"additional_headers": {"Authorization": f"bearer {KEY}"}},
        {"additional_headers": {"api-key": KEY}},
        {"additional_headers": basic("", KEY)},
        {"additional_headers": basic("any name", KEY)},
        {
            "subprotocols": [
                Subprotocol("realtime"),
                Subprotocol(f"openai-insecure-api-key.{KEY}"),
                Subprotocol("openai-agents-sdk.1"),
            ]
        },
        {
            # As some proxies send a list: each member on a line of its own.
            "subprotocols": [Subprotocol("realtime")],
            "additional_headers": {"Sec-WebSocket-Protocol": f"openai-insecure-api-key.{KEY}"},
        },
    ],
)
def test_the_right_key_opens_however_it_is_shown(locked: str, how: dict[str, Any]):
    assert first_event(locked, **how)["type"] == "session.created"


def refused(url: str, **how: Any) -> tuple[int, dict[str, Any], Headers]:
    """Status, error and headers with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as error:
        knock(url, **how)
    answer = error.value.response
    return answer.status_code, json.loads(answer.body or b"")["error"], answer.headers


def turned_away(url: str, **how: Any) -> tuple[dict[str, Any], int, str]:
    """The error with which a client is turned away, and the code and reason of the close."""
    with knock(url, **how) as client:
        event = json.loads(client.recv(timeout=10))
        assert event["type"] == "error"
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)
    assert closed.value.rcvd is not None
    return event["error"], closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, NO_KEY),
        ({"Authorization": KEY}, NO_KEY),
        ({"Authorization": "Basic /not base64/"}, NO_KEY),
        (bearer("sk-wrong"), "The API key is wrong."),
        (bearer("sk-\xff"), "The API key is wrong."),
        (basic("me", "sk-wrong"), "The API key is wrong."),
        (basic(KEY, "sk-wrong"), "The API key is wrong."),
    ],
)
def test_a_wrong_key_is_said_in_the_handshake(locked: str, headers: dict[str, str], message: str):
    status, error, answered = refused(locked, additional_headers=headers)
    assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")
    assert (error["code"], error["message"]) == ("invalid_api_key", message)


def test_a_page_is_told_over_the_websocket_as_browsers_hide_the_answer(locked: str):
    error, code, reason = turned_away(locked, origin=Origin("https://voice.example"))
    assert (error["code"], error["message"]) == ("invalid_api_key", NO_KEY)
    assert (code, reason) == (3000, "invalid_request_error.invalid_api_key")


@pytest.mark.parametrize(
    "how",
    [
        {"additional_headers": {"OpenAI-Beta": "realtime=v1"}},
        {"additional_headers": {"openai-beta": "assistants=v2, realtime=v1"}},
        {"subprotocols": [Subprotocol("realtime"), Subprotocol("openai-beta.realtime-v1")]},
    ],
)
def test_a_beta_client_is_told_what_to_use(unlocked: str, how: dict[str, Any]):
    status, error, _ = refused(unlocked, **how)
    assert (status, error["code"]) == (400, "beta_api_shape_disabled")
    assert "session.output_modalities" in error["message"]
    error, code, reason = turned_away(unlocked, **how, origin=Origin("http://localhost:3000"))
    assert error["code"] == "beta_api_shape_disabled"
    assert (code, reason) == (4000, "invalid_request_error.beta_api_shape_disabled")


def test_what_clients_add_of_their_own_is_ignored(unlocked: str):
    headers = {
        "OpenAI-Beta": "assistants=v2",
        "OpenAI-Organization": "org-1",
        "OpenAI-Safety-Identifier": "user_1",
        "X-OpenAI-Agents-SDK": "openai-agents-sdk.1",
    }
    path = "/realtime?model=gpt-realtime-2.1&intent=transcription&call_id=rtc_1&api-version=1"
    with knock(unlocked, path, additional_headers=headers, compression="deflate") as client:
        assert client.protocol.extensions == []
        session = json.loads(client.recv(timeout=10))["session"]
    assert session["id"].startswith("sess_")
    assert session["model"] == "gpt-realtime-2.1"
    assert session["output_modalities"] == ["audio"]
    assert session["instructions"]
    assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"


def test_realtime_is_the_subprotocol_that_is_chosen(unlocked: str):
    offered = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.x")]
    with knock(unlocked, subprotocols=offered) as client:
        assert client.subprotocol == "realtime"


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8080", None])
def test_without_a_key_this_machine_is_let_in(unlocked: str, origin: str | None):
    how = {} if origin is None else {"origin": Origin(origin)}
    assert first_event(unlocked, **how)["type"] == "session.created"


def test_without_a_key_a_foreign_page_is_not_and_is_told_what_would_let_it_in(unlocked: str):
    error, code, reason = turned_away(unlocked, origin=Origin("https://evil.example"))
    assert error["code"] == "origin_not_allowed"
    assert "https://evil.example" in error["message"]
    assert "allowed_origins under [listen]" in error["message"]
    assert (code, reason) == (3000, "invalid_request_error.origin_not_allowed")
    status, refusal = post(unlocked, SECRETS, b"", {"Origin": "https://evil.example"})
    assert (status, refusal["error"]["code"]) == (403, "origin_not_allowed")


LISTED = ["https://voice.example", "HTTPS://Other.Example:443/", "http://[2001:db8::1]:8000"]


@pytest.mark.parametrize(
    ("origin", "is_let_in"),
    [
        (None, True),
        ("http://localhost:8080", True),
        ("http://[::1]:3000", True),
        ("https://voice.example", True),
        ("https://voice.example:443", True),
        ("https://other.example", True),
        ("http://[2001:db8::1]:8000", True),
        ("http://[2001:db8::1]", False),
        ("http://voice.example", False),
        ("https://voice.example:8443", False),
        ("https://voice.example.evil.example", False),
        ("https://evil.example/voice.example", False),
        ("https://localhost.evil.example", False),
        ("https://localhost@evil.example", False),
        ("null", False),
        ("", False),
        ("http://[", False),
        ("http://voice.example:port", False),
        ("\xff\xfe", False),
    ],
)
@pytest.mark.parametrize("key", [None, KEY])
def test_a_listed_page_is_let_in_and_no_other(key: str | None, origin: str | None, is_let_in: bool):
    authenticator = Authenticator(key, LISTED)
    headers = Headers(bearer(KEY))
    if origin is not None:
        headers["Origin"] = origin
    objection = authenticator.objection(headers)
    assert (objection is None) == is_let_in
    assert objection is None or objection.code == "origin_not_allowed"


def test_with_a_key_and_no_list_any_page_that_shows_the_key_is_let_in():
    headers = Headers(bearer(KEY))
    headers["Origin"] = "https://anywhere.example"
    assert Authenticator(KEY).objection(headers) is None


@pytest.mark.parametrize(
    "entry",
    ["*", "https://*.example", "voice.example", "https://voice.example/voice/", "https://a:b"],
)
def test_an_entry_that_is_no_origin_is_refused_at_the_start(entry: str, tmp_path: Path):
    config = tmp_path / "server.toml"
    config.write_text(f'[listen]\nallowed_origins = ["{entry}"]')
    with pytest.raises(SettingsError, match=r"listen\.allowed_origins: .*https://voice\.example"):
        App(load(config))


def test_a_secret_opens_a_session_that_begins_with_its_configuration(locked: str):
    url = locked.replace("ws", "http")
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY) as api:
        secret = api.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session={"type": "realtime", "model": "mine", "instructions": "Speak like a pirate."},
        )
    assert secret.value.startswith("ek_")
    assert abs(secret.expires_at - time.time() - 60) < 10
    shown = secret.session.to_dict()
    assert (shown["type"], shown["object"]) == ("realtime", "realtime.session")
    assert str(shown["id"]).startswith("sess_")
    assert shown["instructions"] == "Speak like a pirate."
    ways: dict[str, dict[str, Any]] = {
        "as a key": {"additional_headers": bearer(secret.value)},
        "by a browser": {
            "subprotocols": [
                Subprotocol("realtime"),
                Subprotocol(f"openai-insecure-api-key.{secret.value}"),
            ]
        },
    }
    for how in ways.values():
        with knock(locked, **how) as client:
            session = json.loads(client.recv(timeout=10))["session"]
        assert session["instructions"] == "Speak like a pirate."
        assert session["model"] == "mine"
    assert first_event(locked, **ways["as a key"])["session"]["model"] == "any"


@pytest.mark.parametrize(
    ("asked", "lasts_s"),
    [
        ({}, 600),
        ({"expires_after": {"anchor": "created_at", "seconds": 10}}, 10),
        ({"expires_after": {"seconds": 7_200}}, 7_200),
    ],
)
def test_a_secret_lasts_as_long_as_asked(locked: str, asked: dict[str, Any], lasts_s: int):
    _, secret = post(locked, SECRETS, json.dumps(asked).encode(), bearer(KEY))
    assert abs(secret["expires_at"] - time.time() - lasts_s) < 10


def test_a_secret_that_has_expired_opens_nothing(monkeypatch: pytest.MonkeyPatch):
    authenticator = Authenticator(KEY)
    secret = authenticator.issue(10, SessionPatch(type="realtime"))
    shown = Headers(bearer(secret.value))
    assert authenticator.objection(shown) is None
    monkeypatch.setattr(time, "time", lambda: secret.expires_at)
    assert authenticator.objection(shown) is not None
    assert authenticator.secret(shown) is None


def test_a_secret_makes_no_other_secrets(locked: str):
    _, secret = post(locked, SECRETS, b"", bearer(KEY))
    status, refusal = post(locked, SECRETS, b"", bearer(secret["value"]))
    assert (status, refusal["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (
            b'{"session": {"type": "realtime", "tools": [{"type": "mcp"}]}}',
            400,
            "session.tools[0].type",
        ),
        (b"{", 400, None),
        (b'{"expires_after":{"anchor":"created_at","seconds":9}}', 400, None),
        (b'{"expires_after":{"anchor":"created_at","seconds":7201}}', 400, None),
        (b'{"session":{"type":"realtime","voice":"x"}}', 400, "session.voice"),
        (b'{"session":[]}', 400, "session"),
    ],
)
def test_what_is_wrong_with_a_wish_for_a_secret_is_said(
    locked: str, body: bytes, status: int, param: str | None
):
    found, refusal = post(locked, SECRETS, body, bearer(KEY))
    assert found == status
    assert refusal["error"]["param"] == param


def test_nothing_else_can_be_posted(locked: str):
    assert post(locked, "/v1/realtime/calls", b"", bearer(KEY))[0] == 404


def enter(url: str) -> None:
    """Go in as `mimo-live talk` does."""

    async def greet() -> None:
        async with open_socket(url) as socket:
            await greeted(socket)

    asyncio.run(greet())


@pytest.mark.parametrize(
    ("key", "wanted"), [(None, "an API key"), ("sk-other", "a different API key")]
)
def test_our_client_takes_the_key_from_the_variable_of_the_server_and_names_it(
    locked: str, monkeypatch: pytest.MonkeyPatch, key: str | None, wanted: str
):
    monkeypatch.setenv(API_KEY, KEY)
    enter(locked)
    monkeypatch.delenv(API_KEY) if key is None else monkeypatch.setenv(API_KEY, key)
    with pytest.raises(RefusedError, match=f"requires {wanted}; set .* {API_KEY}"):
        enter(locked)


def test_a_post_in_pieces_is_read_and_half_a_post_harms_nobody(locked: str):
    address = urlsplit(locked)
    head = f"POST {SECRETS} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {KEY}\r\n"
    whole = f"{head}Content-Length: 2\r\nConnection: close\r\n\r\n"
    half = socket.create_connection((address.hostname, address.port))
    half.sendall(b"POS")
    with socket.create_connection((address.hostname, address.port)) as slow:
        for byte in (whole + "{}").encode():
            slow.sendall(bytes([byte]))
        answer = slow.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    half.close()
    assert first_event(locked, additional_headers=bearer(KEY))["type"] == "session.created"


def test_pages_and_health_are_served_and_nothing_above_them(unlocked: str):
    address = urlsplit(unlocked).netloc

    def get(path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    while b"unknown" in get("/healthz")[1]:
        pass
    for path in ("/healthz", "/readyz"):
        status, health = get(path)
        assert status == 200
        assert json.loads(health) == {
            "status": "healthy",
            "ending": False,
            "sessions": 0,
            "stuck": 0,
            "replicas": [{"state": "healthy", "model": "MiMo-Audio-7B-Instruct"}],
            "service": "mimo-live",
        }
    assert get("/")[1].startswith(b"<!doctype html>")
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/etc/passwd", "/v1/realtime/calls"):
        assert get(path)[0] == 404, path


def test_a_request_without_an_upgrade_is_told_so(unlocked: str):
    with pytest.raises(InvalidStatus):
        knock(unlocked, "/nothing")


def serve(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command("serve", "--port", "0", *options),
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_a_server_without_a_key_refuses_to_listen_to_other_machines():
    ran = serve("--host", "0.0.0.0")
    assert ran.returncode == 1
    assert "MIMO_LIVE_API_KEY" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path):
    config = tmp_path / "server.toml"
    config.write_text(f'[listen]\napi_key_file = "{tmp_path}/none"')
    assert f"can't read {tmp_path}/none" in serve("--config", str(config)).stderr


def test_tls_is_spoken_where_there_is_a_certificate(model_url: str, tmp_path: Path):
    certificate, key = made_in(tmp_path)
    config = tmp_path / "server.toml"
    config.write_text(f'[listen]\ncertificate = "{certificate}"\ncertificate_key = "{key}"\n')
    trusting = ssl.create_default_context(cafile=str(certificate))
    with start_server(model_url, "--config", str(config)) as url:
        assert url.startswith("wss://")
        assert first_event(url, ssl=trusting)["type"] == "session.created"
    config.write_text(f'[listen]\ncertificate = "{certificate}"\n')
    assert "certificate_key" in serve("--config", str(config)).stderr


def test_a_secret_is_unguessable(locked: str):
    values = {post(locked, SECRETS, b"{}", bearer(KEY))[1]["value"] for _ in range(5)}
    assert len(values) == 5
    assert all(len(base64.urlsafe_b64decode(value[3:])) == 24 for value in values)
