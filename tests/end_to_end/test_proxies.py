"""Proxies: never to this machine, and to all others where the environment says so."""

import asyncio
import json
import os
import subprocess
from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from agent.audio import RATE, wav
from agent.model.output import Ended, Failed
from agent.network.proxies import ProxyError, proxy_for
from client.ask import ask
from client.dialogue.socket import UnreachableError, greeted, open_socket
from client.kiosk import kiosk
from tests.drivers.model_router import last_output, transcript
from tests.drivers.processes import ROOT, command_on_free_ports, start_server
from tests.drivers.proxy import proxy
from tests.drivers.website import website
from tests.fakes import StandIn, stand_in

QUESTION = Path(__file__).parents[1] / "data" / "weather_question.wav"
NONSENSE = {
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "socks5://127.0.0.1:9",
    "all_proxy": "::nonsense::",
}
VARIABLES = [*NONSENSE, "no_proxy"]


@pytest.fixture(autouse=True)
def no_proxies_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost",
        "localhost.",
        "app.localhost",
        "ip6-localhost",
        "127.0.0.1",
        "127.255.0.7",
        "127.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
def test_this_machine_is_never_reached_through_a_proxy(scheme: str, host: str):
    assert proxy_for(f"{scheme}://{host}:8080/v1", NONSENSE) is None


@pytest.mark.parametrize(
    "host",
    ["box", "localhost.example", "notlocalhost", "127.example", "128.0.0.1", "[fe80::1]", "[::2]"],
)
def test_others_are_where_the_variable_says_so(host: str):
    assert proxy_for(f"http://{host}/", {"http_proxy": "http://p:1"}) == "http://p:1"


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("http://box/", {}, None),
        ("http://box/", {"HTTP_PROXY": "p"}, "http://p:80"),
        ("http://box/", {"HTTP_PROXY": "big", "http_proxy": "small"}, "http://small:80"),
        ("http://box/", {"HTTP_PROXY": "big", "http_proxy": ""}, None),
        ("http://box/", {"http_proxy": "", "all_proxy": "a"}, "http://a:80"),
        ("http://box/", {"https_proxy": "p"}, None),
        ("ws://box/", {"https_proxy": "s", "http_proxy": "p"}, "http://p:80"),
        ("wss://box/", {"https_proxy": "s", "http_proxy": "p"}, "http://s:80"),
        ("https://box/", {"ALL_PROXY": " https://p "}, "https://p:443"),
        ("http://box/", {"http_proxy": "http://me:secret@p:3128/"}, "http://me:secret@p:3128"),
        ("http://box/", {"http_proxy": "http://me@p:3128"}, "http://me:@p:3128"),
        ("http://box/", {"http_proxy": "http://[fd00::1]:3128"}, "http://[fd00::1]:3128"),
    ],
)
def test_the_variable_of_the_scheme_comes_before_the_one_for_all(
    url: str, environment: dict[str, str], proxy: str | None
):
    assert proxy_for(url, environment) == proxy


@pytest.mark.parametrize(
    ("url", "exceptions", "is_direct"),
    [
        ("http://api.example.com/", "*", True),
        ("http://api.example.com/", "example.com", True),
        ("http://api.example.com/", "x, .Example.com", True),
        ("http://api.example.com/", "x *.example.com", True),
        ("http://example.com/", ".example.com", True),
        ("http://example.com./", "example.com", True),
        ("http://badexample.com/", "example.com", False),
        ("http://example.com/", "api.example.com", False),
        ("http://example.com/", "example.com:80", True),
        ("https://example.com/", "example.com:80", False),
        ("ws://example.com:8080/", "example.com:8080", True),
        ("http://10.1.2.3/", "10.0.0.0/8", True),
        ("http://10.1.2.3/", "10.1.2.3", True),
        ("http://10.1.2.3:81/", "10.1.2.3:80", False),
        ("http://11.1.2.3/", "10.0.0.0/8", False),
        ("http://[fd00::1]/", "fd00::/8", True),
        ("http://[fd00::1]:81/", "[fd00::1]:81", True),
        ("http://[fd00::1]/", "[fd00::1]", True),
        ("http://example.com/", ",, .", False),
        ("http://example.com/", "", False),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_exceptions_are_names_domains_addresses_and_networks(
    url: str, exceptions: str, is_direct: bool, name: str
):
    found = proxy_for(url, {"all_proxy": "http://p:1", name: exceptions})
    assert found == (None if is_direct else "http://p:1")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("socks5://me:hunter2@p:1", "SOCKS proxies are not supported"),
        ("socks5h://p:1", "SOCKS proxies are not supported"),
        ("ftp://p:1", "it is not an address"),
        ("http://", "it is not an address"),
        ("http://:8080", "it is not an address"),
        ("http://p:port", "it is not an address"),
        ("http://p:99999", "it is not an address"),
        ("http://[::1", "it is not an address"),
        ("http://a b:1", "it is not an address"),
        ("http://p\n:1", "it is not an address"),
        ("http://me:%ff@p:1", "it is not an address"),
        ("http://me:hunter2@:1", "it is not an address"),
        ("::nonsense::", "it is not an address"),
        ("\udcff", "it is not an address"),
    ],
)
def test_what_cannot_be_a_proxy_is_named_without_its_password_and_only_where_it_matters(
    value: str, reason: str
):
    environment = {"ALL_PROXY": value, "http_proxy": "http://p:1", "no_proxy": "other.example"}
    with pytest.raises(ProxyError) as refused:
        proxy_for("https://box.example/", environment)
    assert str(refused.value) == (
        "the environment variable ALL_PROXY names no proxy that can be used for box.example: "
        f"{reason}; expected http://host:port, or box.example in no_proxy"
    )
    assert proxy_for("http://box.example/", environment) == "http://p:1"
    assert proxy_for("https://other.example/", environment) is None


@pytest.fixture(scope="module")
def model() -> Generator[StandIn]:
    with stand_in() as model:
        yield model


@pytest.fixture(scope="module")
def server_url(model: StandIn) -> Generator[str]:
    with start_server(model.url.removesuffix("/v1")) as url:
        yield url


@pytest.mark.system
def test_every_connection_goes_through_the_proxy_to_another_host(
    model: StandIn, server_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    clip = tmp_path / "clip.wav"
    clip.write_bytes(wav(bytes(RATE)))
    with (
        website(200, "audio/wav", clip.read_bytes()) as site,
        proxy(model=model.url, voice=server_url, site=site) as way,
    ):
        monkeypatch.setenv("http_proxy", way.url)
        assert isinstance(
            asyncio.run(last_output({"model": {"urls": ["http://model.example/v1"]}})), Ended
        )
        assert (
            asyncio.run(transcript({"transcription": {"url": "http://model.example/v1"}}))
            == "What was said."
        )
        assert ask.main(["--url", "http://model.example", "--text", "hi"]) == 0
        assert ask.main(["--url", model.url, "--audio", "http://site.example/clip.wav"]) == 0
        assert kiosk.read_settings("ws://voice.example").greeting == "Talk to me"
        asyncio.run(meet("ws://voice.example"))
    chat = "POST http://model.example/v1/chat/completions"
    assert way.asked == [
        chat,
        "POST http://model.example/v1/audio/transcriptions",
        "GET http://model.example/v1/models",
        chat,
        "GET http://site.example/clip.wav",
        "GET http://voice.example/page/kiosk.json",
        "CONNECT voice.example:80",
    ]


async def meet(url: str) -> None:
    async with open_socket(url) as socket:
        await greeted(socket)


def moved(to: str) -> AbstractContextManager[str]:
    return website(307, "text/plain", b"", Location=to)


@pytest.mark.system
def test_a_redirect_decides_anew(server_url: str, monkeypatch: pytest.MonkeyPatch):
    with moved(f"{server_url}/v1/realtime") as near, proxy(far=near) as way:
        monkeypatch.setenv("all_proxy", way.url)
        asyncio.run(meet("ws://far.example"))
    assert way.asked == ["CONNECT far.example:80"]


@pytest.mark.system
def test_a_variable_that_cannot_be_used_is_named_by_each(
    model: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    named = "the environment variable all_proxy names no proxy that can be used for far.example"
    with pytest.raises(UnreachableError, match=named):
        asyncio.run(meet("ws://far.example"))
    failed = asyncio.run(last_output({"model": {"urls": ["http://far.example/v1"]}}))
    assert isinstance(failed, Failed)
    assert failed.error.code == "model_unreachable"
    assert named in str(failed.error)
    for words in (["--url", "http://far.example", "--text", "hi"],
                  ["--url", model.url, "--audio", "http://far.example/clip.wav"]):  # fmt: skip
        assert ask.main(words) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert named in err
    with pytest.raises(UnreachableError, match=named):
        kiosk.read_settings("ws://far.example")


@pytest.mark.system
def test_a_conversation_is_held_on_this_machine_whatever_the_variables_hold():
    ran = subprocess.run(
        command_on_free_ports("talk", "--wav", str(QUESTION), "--json"),
        cwd=ROOT,
        env=os.environ | NONSENSE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    [turn] = [each for each in events if each["event"] == "turn"]
    assert turn["answered"] is True
    heard = [each["text"] for each in events if each["event"] == "caption"]
    assert "weather" in heard[0].lower()
