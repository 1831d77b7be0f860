"""Drives the page in headless Chromium: a WAV is the microphone, and what is played is kept.

The page knows nothing of this. A script that runs before its own joins a recorder to every
node that reaches the loudspeaker.
"""

import base64
import json
import shutil
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from playwright.sync_api import Page, Playwright, WebSocket, expect, sync_playwright

from agent.audio import RATE, wav

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SHELL = shutil.which("chromium-headless-shell") or CHROMIUM
"""The same engine without windows and profiles: a page costs half the processor's time. Nobody can
be asked there, so it is told beforehand who may use the microphone, and doesn't keep it."""

_FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]

_TAP = """
(() => {
  const { connect } = AudioNode.prototype;
  const taps = new WeakMap();
  globalThis.shownPhases = [];
  new MutationObserver(() => shownPhases.push(document.body.dataset.phase))
    .observe(document, { subtree: true, attributeFilter: ["data-phase"] });
  globalThis.playedSamples = [];
  globalThis.soundContexts = [];

  AudioNode.prototype.connect = function (target, ...rest) {
    // The microphone's own context, where a browser needs one, plays nothing.
    if (target instanceof AudioDestinationNode && this.context.sampleRate === 24000) {
      connect.call(this, tapOf(this.context));
    }
    return connect.call(this, target, ...rest);
  };

  function tapOf(context) {
    if (!taps.has(context)) {
      const tap = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
      taps.set(context, tap);
      soundContexts.push(context);
      keep(tap.stream.getAudioTracks()[0], context);
    }
    return taps.get(context);
  }

  const { getUserMedia } = MediaDevices.prototype;
  globalThis.microphones = [];
  MediaDevices.prototype.getUserMedia = async function (wish) {
    const stream = await getUserMedia.call(this, wish);
    microphones.push(...stream.getAudioTracks());
    return stream;
  };

  const behind = new Map();
  // Seconds of sound that was played and is still on its way here.
  globalThis.unheard = () => Math.max(0, ...[...behind.values()].map((seconds) => seconds()));

  async function keep(track, context) {
    // A page that is held up for seconds still loses nothing.
    const { readable } = new MediaStreamTrackProcessor({ track, maxBufferSize: 2000 });
    let [heard, least] = [0, Infinity];
    behind.set(context, () => (heard ? context.currentTime - heard - least : 0));
    for await (const sound of readable) {
      heard += sound.numberOfFrames / sound.sampleRate;
      least = Math.min(least, context.currentTime - heard);
      const samples = new Float32Array(sound.numberOfFrames);
      sound.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
      playedSamples.push(samples);
      sound.close();
    }
  }
})();
"""

_PASSING = ["connecting", "user", "thinking", "agent"]
"""Phases that end by themselves, some after 200 ms, which a busy machine may not see."""

_SHOWN = """
([phase, maybePast]) => {
  const isShown = document.body.dataset.phase === phase;
  const until = isShown ? shownPhases.length : shownPhases.indexOf(phase) + 1;
  if (isShown || maybePast) shownPhases.splice(0, until);
  return isShown || (maybePast && until > 0);
}
"""

_PLAYED = """
() => {
  let bytes = "";
  for (const samples of playedSamples) {
    const pcm = Int16Array.from(samples, (sample) => Math.round(sample * 32767));
    bytes += String.fromCharCode(...new Uint8Array(pcm.buffer));
  }
  return btoa(bytes);
}
"""

_IS_SILENT_AGAIN = """
() => {
  const sounds = (samples) => samples.some((sample) => sample !== 0);
  const isOver = unheard() < 0.1 && !playedSamples.slice(-10).some(sounds);
  return isOver && playedSamples.some(sounds);
}
"""

_SEPARATE_RATES = """
(() => {
  const { createMediaStreamSource } = AudioContext.prototype;
  AudioContext.prototype.createMediaStreamSource = function (stream) {
    if (this.sampleRate === 24000) throw new DOMException("two rates", "NotSupportedError");
    return createMediaStreamSource.call(this, stream);
  };
})();
"""

_HAS_SOUNDED = """
(least) => {
  const sounding = (samples) => samples.reduce((count, sample) => count + (sample !== 0), 0);
  return playedSamples.reduce((sum, samples) => sum + sounding(samples), 0) >= least;
}
"""

Permission = Literal["unasked", "granted", "denied"]
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Caption:
    """One entry of the page's log."""

    speaker: str
    """`"You"` or `"Agent"`."""

    text: str
    """Its words; empty while they are not known yet."""

    interrupted: bool


class TalkPage:
    """The opened page, as its user meets it."""

    def __init__(self, page: Page):
        self.page = page
        """For what only one test looks at."""

        self.sent: list[Event] = []
        """Every event that the page sent, in order."""

        self.received: list[Event] = []
        """Every event that the page received, in order."""

        self._socket: WebSocket | None = None
        page.on("websocket", self._watch)
        page.add_init_script(_TAP)

    def press_talk(self) -> None:
        """Start the call, or hang up."""
        self.page.locator("#talk").click()

    def type(self, text: str) -> None:
        """Ask in writing."""
        self.page.locator("#text").fill(text)
        self.page.locator("#text").press("Enter")

    def choose_microphone(self, number: int) -> None:
        """Take another one in the settings, which begins to play what the browser was told."""
        self.page.get_by_text("Settings").click()
        self.page.get_by_label("Microphone").select_option(index=number)
        self.page.get_by_text("Settings").click()

    def wait_for_phase(self, phase: str, timeout_s: float = 30.0) -> None:
        """Wait until the page shows that phase of the call.

        A passing phase may be over already; it counts if it began since the last such wait.

        Args:
            phase: `idle`, `connecting`, `waiting`, `listening`, `user`, `thinking` or `agent`.
            timeout_s: Seconds after which the test fails.
        """
        asked = [phase, phase in _PASSING]
        self.page.wait_for_function(_SHOWN, arg=asked, timeout=timeout_s * 1000)

    def wait_for_entry(self, number: int, timeout_s: float = 30.0) -> None:
        """Wait until the log has so many entries."""
        entry = self.page.locator("#log .entry").nth(number - 1)
        entry.wait_for(state="attached", timeout=timeout_s * 1000)

    def wait_for_interruption(self, timeout_s: float = 30.0) -> None:
        """Wait until the agent was cut short."""
        cut = self.page.locator("#log .interrupted")
        cut.first.wait_for(state="attached", timeout=timeout_s * 1000)

    def wait_for_problem(self, words: str, timeout_s: float = 15.0) -> None:
        """Wait until the page says that something is wrong, in words that contain these."""
        expect(self.page.locator("#problem")).to_contain_text(words, timeout=timeout_s * 1000)

    def sent_of(self, kind: str) -> list[Event]:
        """The events of that type that the page has sent."""
        return [event for event in self.sent if event["type"] == kind]

    def wait_for_received(self, kind: str, timeout_s: float = 30.0) -> Event:
        """The first event of that type that the page received, waited for if there is none yet."""
        return self._wait_for(kind, self.received, "framereceived", timeout_s)

    def wait_for_heard(self, duration_s: float, timeout_s: float = 30.0) -> bytes:
        """What the microphone gave: mono PCM16 at 24 kHz, once that many seconds were sent."""

        def is_enough(_: str | bytes) -> bool:
            return len(self._heard()) >= duration_s * 48_000

        socket = self._current_socket()
        if not is_enough(b""):
            socket.wait_for_event("framesent", is_enough, timeout=timeout_s * 1000)
        return self._heard()

    def wait_for_silence(self, timeout_s: float = 15.0) -> None:
        """Wait until something was played, and nothing for a tenth of a second."""
        self.page.wait_for_function(_IS_SILENT_AGAIN, timeout=timeout_s * 1000)

    def wait_for_more_sound(
        self, before: bytes, duration_s: float, timeout_s: float = 30.0
    ) -> None:
        """Wait until so much more was played than `played` gave before, silence left out."""
        sounding = int(np.count_nonzero(np.frombuffer(before, np.int16)))
        least = sounding + round(duration_s * RATE)
        self.page.wait_for_function(_HAS_SOUNDED, arg=least, timeout=timeout_s * 1000)

    def captions(self) -> list[Caption]:
        """The log as it is now."""
        return [
            Caption(
                speaker=entry.locator("b").inner_text(),
                text=entry.locator("span").inner_text(),
                interrupted="interrupted" in (entry.get_attribute("class") or ""),
            )
            for entry in self.page.locator("#log .entry").all()
        ]

    def played(self) -> bytes:
        """What the loudspeaker got since the call began: mono PCM16 at 24 kHz, silence included."""
        return base64.b64decode(cast(str, self.page.evaluate(_PLAYED)))

    def _current_socket(self) -> WebSocket:
        return self._socket or self.page.wait_for_event("websocket")

    def _heard(self) -> bytes:
        appended = self.sent_of("input_audio_buffer.append")
        return b"".join(base64.b64decode(event["audio"]) for event in appended)

    def _watch(self, socket: WebSocket) -> None:
        self._socket = socket
        socket.on("framesent", lambda payload: self.sent.append(_event(payload)))
        socket.on("framereceived", lambda payload: self.received.append(_event(payload)))

    def _wait_for(
        self,
        kind: str,
        seen: list[Event],
        frame: Literal["framesent", "framereceived"],
        timeout_s: float,
    ) -> Event:
        socket = self._current_socket()
        for event in seen:
            if event["type"] == kind:
                return event

        def is_that(payload: str | bytes) -> bool:
            return _event(payload)["type"] == kind

        return _event(socket.wait_for_event(frame, is_that, timeout=timeout_s * 1000))


class Chromium:
    """A browser whose microphone plays what the test says; its pages know nothing of each other."""

    def __init__(
        self, playwright: Playwright, microphone: Path, is_unattended: bool, repeats: bool
    ):
        self._microphone = microphone
        sound = ["--autoplay-policy=no-user-gesture-required"] if is_unattended else []
        once = "" if repeats else "%noloop"
        fake = f"--use-file-for-fake-audio-capture={microphone}{once}"
        self._flags = [*_FLAGS, *sound]
        self._microphone_flags = ["--use-fake-device-for-media-stream", fake]
        self._launch = playwright.chromium.launch
        self._browser = self._launch(
            executable_path=SHELL,
            args=[*self._flags, *self._microphone_flags, "--use-fake-ui-for-media-stream"],
        )

    def say(self, pcm: bytes) -> None:
        """Let the microphone play this, mono PCM16 at 48 kHz, when a page opens it next."""
        self._microphone.write_bytes(wav(pcm or bytes(9600), rate=48_000))

    @contextmanager
    def deaf_page(self, url: str) -> Generator[TalkPage]:
        """Open the page on a machine without microphone."""
        with closing(self._launch(executable_path=SHELL, args=self._flags)) as browser:
            talk = TalkPage(browser.new_page())
            talk.page.goto(url)
            yield talk

    def close(self) -> None:
        """End the browser."""
        self._browser.close()

    @contextmanager
    def page(
        self,
        url: str,
        *,
        said: bytes = b"",
        permission: Permission = "unasked",
        separate_rates: bool = False,
        width: int = 1280,
        height: int = 800,
        colors: Literal["light", "dark"] = "light",
    ) -> Generator[TalkPage]:
        """Open the page.

        Args:
            url: Of the conversation server, `http://127.0.0.1:PORT/`.
            said: Mono PCM16 at 48 kHz that the microphone plays once from the moment when the
                page opens it; then it is silent.
            permission: What the user answers when the page asks for the microphone, in a browser of
                its own that keeps the answer; unless given, nobody is asked.
            separate_rates: Whether the browser refuses, as Firefox does, to capture at another
                rate than the device's.
            width: Of the window, in CSS pixels, as is `height`.
            height: See `width`.
            colors: The user's preferred colour scheme.
        """
        self.say(said)
        with ExitStack() as stack:
            browser = self._browser
            if permission != "unasked":
                flags = [*self._flags, *self._microphone_flags]
                whole = self._launch(executable_path=CHROMIUM, args=flags)
                browser = stack.enter_context(closing(whole))
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=colors
            )
            stack.callback(context.close)
            if permission == "granted":
                context.grant_permissions(["microphone"])
            if separate_rates:
                context.add_init_script(_SEPARATE_RATES)
            talk = TalkPage(context.new_page())
            talk.page.goto(url)
            yield talk


@contextmanager
def chromium(
    folder: Path, *, is_unattended: bool = False, repeats: bool = False
) -> Generator[Chromium]:
    """Start a browser.

    Args:
        folder: Where what its microphone says is written down.
        is_unattended: Whether pages may make sound without a click.
        repeats: Whether the microphone says the same again and again.
    """
    with (
        sync_playwright() as playwright,
        closing(Chromium(playwright, folder / "microphone.wav", is_unattended, repeats)) as browser,
    ):
        yield browser


def _event(payload: str | bytes) -> Event:
    return cast(Event, json.loads(payload))
