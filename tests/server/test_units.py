"""The unit files of a kiosk: what they start, and where they look for the server."""

import json
import os
import re
import shlex
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from server import settings
from tests.drivers.processes import ROOT

pytestmark = pytest.mark.system


def test_the_units_start_the_kiosk_with_its_configuration_and_with_sound():
    units = ROOT / "configs" / "systemd"
    starts = {
        unit.stem: unit.read_text(encoding="utf-8").replace("\\\n", "")
        for unit in units.glob("*.service")
    }
    assert "mimo-live serve --config configs/kiosk.toml" in starts["mimo-live"]
    assert "--autoplay-policy=no-user-gesture-required" in starts["mimo-live-kiosk"]
    policy = json.loads((units / "chromium-policy.json").read_text(encoding="utf-8"))
    port = settings.load(ROOT / "configs" / "kiosk.toml").listen.port
    assert policy["AudioCaptureAllowedUrls"] == [f"http://127.0.0.1:{port}"]


def command_of(unit: str, key: str) -> list[str]:
    """A command line of a unit as systemd hands it on: `%%` is a percent sign, `$$` a dollar."""
    text = (ROOT / "configs" / "systemd" / f"{unit}.service").read_text(encoding="utf-8")
    [line] = re.findall(rf"^{key}=(.*)", text.replace("\\\n", ""), re.MULTILINE)
    return shlex.split(line.replace("%%", "%").replace("$$", "$"))


@pytest.mark.parametrize("key", ["", "#key=sk-secret"])
def test_the_unit_of_the_screen_waits_for_the_page_wherever_it_is(key: str):
    asked: list[str] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            # A proxy answers before the server behind it does.
            self.send_response(502 if len(asked) == 1 else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever).start()
        url = f"http://127.0.0.1:{elsewhere.server_port}/voice/kiosk"
        environment = {"PATH": os.environ["PATH"], "KIOSK_URL": url + key}
        words = command_of("mimo-live-kiosk", "ExecStartPre")
        ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        elsewhere.shutdown()
    assert ran.returncode == 0, ran.stderr
    assert asked == ["/voice/kiosk"] * 2


@pytest.mark.parametrize(
    ("unit", "variable", "path"),
    [("mimo-live-kiosk", "KIOSK_URL", "/kiosk"), ("mimo-live-voice", "VOICE_URL", "")],
)
def test_the_address_of_the_server_stands_once_in_a_unit(unit: str, variable: str, path: str):
    text = (ROOT / "configs" / "systemd" / f"{unit}.service").read_text(encoding="utf-8")
    [address] = re.findall(rf"^Environment={variable}=\w+://(\S+)", text, re.MULTILINE)
    listen = settings.load(ROOT / "configs" / "kiosk.toml").listen
    assert address == f"{listen.host}:{listen.port}{path}"
    assert text.count("127.0.0.1") == 1
    assert f"${{{variable}}}" in command_of(unit, "ExecStart")
