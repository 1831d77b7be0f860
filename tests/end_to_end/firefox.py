"""The page in Firefox, a conversation with an interruption: `python -m tests.end_to_end.firefox`.

Server, page, voice activity detection and sound are real: a virtual sound card speaks into the
microphone and records what is played. The model server is a stand-in. Firefox is driven over
WebDriver BiDi, which it speaks by itself.
"""

import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from websockets.sync.client import ClientConnection, connect

from agent.audio import RATE, read_wav, samples_in
from tests.drivers.processes import start_server
from tests.drivers.virtual_audio import VirtualAudio, virtual_audio
from tests.fakes import stand_in

FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")
PREFERENCES = {
    "media.navigator.permission.disabled": True,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}
LONGEST_S = 30.0
ANSWER_S = 4.0
QUESTION = Path(__file__).parents[1] / "data" / "weather_question.wav"
Json = dict[str, Any]


class Browser:
    """One window of Firefox."""

    def __init__(self, socket: ClientConnection):
        self._socket = socket
        self._numbers = itertools.count(1)
        self._ask("session.new", capabilities={})
        tree = self._ask("browsingContext.getTree")
        self._context: str = tree["contexts"][0]["context"]

    def _ask(self, method: str, **parameters: object) -> Json:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = cast(Json, json.loads(self._socket.recv(LONGEST_S)))
            if answer.get("id") == number:
                assert answer["type"] == "success", answer
                return answer["result"]

    def open(self, url: str) -> None:
        self._ask("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, or of its promise, which must be JSON."""
        result = self._ask(
            "script.evaluate",
            expression=f"(async () => JSON.stringify((await {script}) ?? null))()",
            target={"context": self._context},
            awaitPromise=True,
        )
        assert result["type"] == "success", result
        return json.loads(result["result"]["value"])

    def wait_for(self, script: str) -> None:
        """Wait until an expression is true."""
        looks = f"""new Promise((resolve) => {{
          const look = () => ({script} ? resolve(true) : setTimeout(look, 20));
          setTimeout(resolve, {LONGEST_S * 500}, false);
          look();
        }})"""
        assert self.evaluate(looks), (script, self.evaluate(SHOWN))

    def click(self, selector: str) -> None:
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.evaluate(f"[{box}.x + {box}.width / 2, {box}.y + {box}.height / 2]")
        actions = [
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._act({"type": "pointer", "id": "mouse", "actions": actions})

    def _act(self, source: Json) -> None:
        self._ask("input.performActions", context=self._context, actions=[source])

    def wait_for_phase(self, phase: str) -> None:
        self.wait_for(f"document.body.dataset.phase === '{phase}'")


CAPTIONS = "[...document.querySelectorAll('#log .entry b')].map((who) => who.textContent)"
SHOWN = "[document.body.dataset.phase, document.querySelector('#problem').textContent]"


@contextmanager
def firefox(environment: Mapping[str, str]) -> Generator[Browser]:
    """Start Firefox without a window to be seen."""
    assert FIREFOX is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        lines = [f'user_pref("{key}", {json.dumps(it)});' for key, it in PREFERENCES.items()]
        Path(profile, "user.js").write_text("\n".join(lines), encoding="utf-8")
        words = [FIREFOX, "--headless", "--no-remote", "--remote-debugging-port", "0"]
        with subprocess.Popen(
            [*words, "--profile", profile], env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stderr is not None
                found = next(filter(None, (_BIDI.search(line) for line in process.stderr)))
                # It complains of the internet for as long as it runs, and would wait for a reader.
                threading.Thread(target=process.stderr.read).start()
                with connect(f"{found[1]}/session", max_size=None) as socket:
                    yield Browser(socket)
            finally:
                process.terminate()
                process.wait()


_BIDI = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


def converse(browser: Browser, card: VirtualAudio, url: str) -> None:
    """Ask, and ask again in the middle of the answer."""
    browser.open(url)
    browser.click("#talk")
    browser.wait_for_phase("listening")
    for interrupted in (0, 1):
        with card.say(QUESTION):
            browser.wait_for(
                f"document.querySelectorAll('#log .interrupted').length === {interrupted}"
            )
            browser.wait_for_phase("user")
        browser.wait_for_phase("agent")
    browser.wait_for_phase("listening")
    assert browser.evaluate(SHOWN) == ["listening", ""]
    captions = browser.evaluate(CAPTIONS)
    assert captions == ["You", "Agent", "You", "Agent"], captions


def check_played(heard: Path) -> None:
    """The first answer was cut, the second was played to its end."""
    level = np.abs(np.frombuffer(read_wav(heard.read_bytes()), "<i2").astype(int))
    sounding = np.flatnonzero(level > 100)
    gaps = np.flatnonzero(np.diff(sounding) > samples_in(300))
    starts = [sounding[0], *sounding[gaps + 1]]
    ends = [*sounding[gaps], sounding[-1]]
    spans_s = [(end - start) / RATE for start, end in zip(starts, ends, strict=True)]
    assert len(spans_s) == 2, spans_s
    assert spans_s[0] < 0.9 * ANSWER_S, spans_s
    assert abs(spans_s[1] - ANSWER_S) < 0.3, spans_s


def main() -> int:
    if FIREFOX is None:
        print("there is no Firefox here: apt install firefox-esr")
        return 1
    began_at = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        stand_in(groups=25, first_chunk_ms=300, rtf=0.5) as model,
        start_server(model.url.removesuffix("/v1")) as url,
        virtual_audio() as card,
        firefox(card.environment) as browser,
    ):
        heard = Path(folder) / "heard.wav"
        with card.ear(heard):
            converse(browser, card, f"{url.replace('ws', 'http', 1)}/")
        check_played(heard)
        roles = [message["role"] for message in json.loads(model.chats[-1].raw)["messages"]]
        assert roles == ["system", "user", "assistant", "user"], roles
    print(f"Firefox: passed in {time.monotonic() - began_at:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
