"""Visitors at a kiosk, each with a fault in turn: `python -m tests.end_to_end.visitors 200`.

The server with `configs/kiosk.toml`, the page and the browser are real; the model server is a
stand-in, and the microphone a recording that is muted while nobody speaks. After each fault the
next visitor comes at once, and must find a clean kiosk and be able to talk within ten seconds.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Error, expect

from agent.audio import read_wav, samples_in
from tests.drivers.page import TalkPage, chromium
from tests.drivers.processes import ROOT, start_server
from tests.fakes import Fault, Reply, StandIn, stand_in

MOST_WAIT_S = 10.0
GIVE_UP_S = 45.0
CUT_MS = 4000
PROBE = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
"""With this the server asks a model that failed whether it is back."""
QUESTION = Path(__file__).parents[1] / "data" / "weather_question.wav"
QUICKER = {"idle_s": 1.0, "countdown_s": 1.0, "dead_s": 3.0, "resume_grace_s": 3.0}
"""So that a visit takes seconds."""

_MUTED = """
(() => {
  const { getUserMedia } = MediaDevices.prototype;
  const tracks = [];
  let isSpeaking = false;
  MediaDevices.prototype.getUserMedia = async function (...wish) {
    const stream = await getUserMedia.apply(this, wish);
    tracks.push(...stream.getTracks());
    speak(isSpeaking);
    return stream;
  };
  globalThis.speak = (isOn) => {
    isSpeaking = isOn;
    for (const track of tracks) track.enabled = isOn;
  };
})();
"""
_SCREEN = "() => [document.body.dataset.screen, document.body.dataset.phase]"
_IS_ANSWERED = "() => ['thinking', 'agent'].includes(document.body.dataset.phase)"


class Kiosk:
    """A kiosk with everything that belongs to it, and what may happen to it."""

    def __init__(self, talk: TalkPage, model: StandIn, config: Path, server: ExitStack):
        self.talk = talk
        self.model = model
        self._config = config
        self._server = server
        self._port = "0"
        self.url = self._start()

    def _start(self) -> str:
        options = ("--config", str(self._config), "--port", self._port)
        model = self.model.url.removesuffix("/v1")
        address = urlsplit(self._server.enter_context(start_server(model, *options)))
        self._port = str(address.port)
        return f"http://{address.netloc}/kiosk"

    def restart(self) -> None:
        began_at = time.monotonic()
        self._server.close()
        stopped_at = time.monotonic()
        self._start()
        stop_s, start_s = stopped_at - began_at, time.monotonic() - stopped_at
        print(f"the server took {stop_s:.2f} s to stop and {start_s:.2f} s to start", flush=True)

    def reload(self) -> None:
        self.talk.page.reload()

    def cut(self) -> None:
        """The network is gone, for longer than the page bears."""
        self.talk.page.context.set_offline(True)
        self.talk.page.wait_for_timeout(CUT_MS)
        self.talk.page.context.set_offline(False)

    def screen(self) -> tuple[str, str]:
        """Screen and phase that are shown; nothing while the page is loaded anew."""
        try:
            screen, phase = self.talk.page.evaluate(_SCREEN)
        except Error:
            return "", ""
        return screen, phase

    def speak(self) -> None:
        """Ask, until the agent thinks about it."""
        self.talk.page.evaluate("speak(true)")
        self.talk.page.wait_for_function(_IS_ANSWERED, timeout=GIVE_UP_S * 1000)
        self.talk.page.evaluate("speak(false)")


class Visit:
    """One visitor, who comes and must be able to talk."""

    def __init__(self, kiosk: Kiosk, number: int):
        self._kiosk = kiosk
        self._number = number
        self._begun = False
        self._talk = kiosk.talk
        self._talk.sent.clear()
        self._talk.received.clear()
        self._asked_before = len(kiosk.model.chats)
        self.answer = f"Welcome, visitor {number}."
        kiosk.model.reply = Reply(
            text=self.answer, groups=8, rtf=0.5, heard=f"I am visitor {number}."
        )

    def begin(self, by_touch: bool) -> str:
        """Do as the screen says until the page listens; return the session's id."""
        give_up_at = time.monotonic() + GIVE_UP_S
        while time.monotonic() < give_up_at:
            match self._kiosk.screen():
                case "talking", "listening" | "user" | "thinking" if self._begun:
                    return self._session()
                case "talking", _ if not self._begun:
                    self._press("#finish")
                case "attract", _ if by_touch:
                    self._begun = self._press("#begin") or self._begun
                case "attract", _:
                    self._begun = True
                    self._evaluate("speak(true)")
                case _:
                    pass
            self._talk.page.wait_for_timeout(50)
        raise AssertionError(f"visitor {self._number} can't talk: {self._kiosk.screen()}")

    def _press(self, button: str) -> bool:
        try:
            self._talk.page.locator(button).click(timeout=500)
        except Error:
            return False
        return True

    def _evaluate(self, script: str) -> None:
        try:
            self._talk.page.evaluate(script)
        except Error:
            self._begun = False

    def _session(self) -> str:
        created = [each for each in self._talk.received if each["type"] == "session.created"]
        return created[-1]["session"]["id"]

    def check_clean(self) -> None:
        """Nothing of another visitor is on the page, in the browser, or in what the model got."""
        page = self._talk.page
        seen = set(re.findall(r"visitor (\d+)", page.content()))
        assert seen <= {str(self._number)}, f"visitor {self._number} sees {seen}"
        assert page.evaluate("JSON.stringify([sessionStorage, localStorage])") == "[{},{}]"
        for chat in self._kiosk.model.chats[self._asked_before :]:
            messages = json.loads(chat.raw)["messages"]
            roles = [message["role"] for message in messages]
            assert messages == PROBE or roles == ["system", "user"], f"{self._number}: {messages}"

    def ask(self) -> None:
        self._kiosk.speak()
        self._talk.wait_for_phase("agent", GIVE_UP_S)
        expect(self._talk.page.locator("#log")).to_contain_text(self.answer)

    def ask_in_vain(self) -> None:
        """The model is down, which the page says."""
        model = self._kiosk.model
        model.always, model.healthy = frozenset({Fault.CUT_FIRST}), False
        try:
            self._kiosk.speak()
            self._talk.wait_for_problem("could not answer that", GIVE_UP_S)
        finally:
            model.always, model.healthy = frozenset(), True

    def leave(self) -> None:
        """Go without a word, and wait until the kiosk has noticed."""
        self._talk.page.locator('[data-screen="attract"]').wait_for(
            state="attached", timeout=GIVE_UP_S * 1000
        )


def visit(kiosk: Kiosk, number: int, fault: str, arrived_at: float) -> tuple[str, float, float]:
    """Return the id of the visitor's session, how long it took to get it, and when they left."""
    visitor = Visit(kiosk, number)
    session = visitor.begin(by_touch=fault == "silence" or number % 2 == 0)
    waited_s = time.monotonic() - arrived_at
    visitor.check_clean()
    if fault == "model down":
        visitor.ask_in_vain()
    elif fault != "silence":
        visitor.ask()
    visitor.check_clean()
    mishaps: dict[str, Callable[[], None]] = {
        "reload": kiosk.reload,
        "cut": kiosk.cut,
        "restart": kiosk.restart,
    }
    left_at = time.monotonic()
    if mishap := mishaps.get(fault):
        mishap()
    else:
        visitor.leave()
        left_at = time.monotonic()
    return session, waited_s, left_at


FAULTS = ("nothing", "silence", "reload", "cut", "restart", "model down")


def run(visitors: int) -> dict[str, list[float]]:
    """Let visitors come; return how long they waited, by what befell the one before."""
    waits: dict[str, list[float]] = {fault: [] for fault in FAULTS}
    sessions: set[str] = set()
    with opened() as kiosk:
        kiosk.talk.page.goto(kiosk.url)
        before, left_at = "nothing", time.monotonic()
        for number in range(visitors):
            fault = FAULTS[number % len(FAULTS)]
            session, waited_s, left_at = visit(kiosk, number, fault, left_at)
            assert session not in sessions, f"visitor {number} got another's session"
            sessions.add(session)
            print(f"visitor {number} after {before}: {waited_s:.2f} s", flush=True)
            waits[before].append(waited_s)
            before = fault
    return waits


@contextmanager
def opened() -> Generator[Kiosk]:
    """Set up a kiosk."""
    config = (ROOT / "configs" / "kiosk.toml").read_text(encoding="utf-8")
    for key, value in QUICKER.items():
        config = re.sub(rf"^{key} = .*$", f"{key} = {value}", config, flags=re.MULTILINE)
    config = config.replace("self_test = true", "self_test = false")
    said = read_wav(QUESTION.read_bytes(), 48_000) + bytes(2 * samples_in(2000, 48_000))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "kiosk.toml").write_text(config, encoding="utf-8")
        model = stack.enter_context(stand_in(at_once=4))
        browser = stack.enter_context(chromium(folder, is_unattended=True, repeats=True))
        talk = stack.enter_context(browser.page("about:blank", said=said))
        talk.page.add_init_script(_MUTED)
        server = stack.enter_context(ExitStack())
        yield Kiosk(talk, model, folder / "kiosk.toml", server)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.end_to_end.visitors", description=__doc__
    )
    parser.add_argument("visitors", type=int, nargs="?", default=200)
    waits = run(parser.parse_args().visitors)
    late = 0
    for fault, waited in waits.items():
        ordered = sorted(waited)
        if not ordered:
            continue
        late += sum(each > MOST_WAIT_S for each in ordered)
        p50, p95 = (ordered[int(part * (len(ordered) - 1))] for part in (0.5, 0.95))
        print(
            f"after {fault}: {len(ordered)} visitors, waited p50 {p50:.2f} s, p95 {p95:.2f} s, "
            f"at most {ordered[-1]:.2f} s"
        )
    print(f"{late} waited for more than {MOST_WAIT_S:.0f} s")
    return 1 if late else 0


if __name__ == "__main__":
    raise SystemExit(main())
