"""The page when its sound is taken away: suspended, unplugged, muted."""

from typing import Any

import pytest
from playwright.sync_api import expect

from agent.audio import read_wav, samples_in
from tests.drivers.page import CHROMIUM, Chromium, TalkPage
from tests.drivers.scripted_server import ScriptedServer
from tests.server.page.test_page import QUESTION, call, loud_frames, played, spans_ms

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]

SUSPEND = "soundContexts.forEach((context) => context.suspend())"
STATES = "soundContexts.map(({ state }) => state)"
NEEDS_A_HAND = """
(() => {
  const { resume } = AudioContext.prototype;
  AudioContext.prototype.resume = function () {
    const isAsked = globalThis.event?.isTrusted && ["click", "keydown"].includes(event.type);
    return isAsked ? resume.call(this) : Promise.reject(new DOMException("", "NotAllowedError"));
  };
})();
"""
UNPLUG = """
() => {
  const track = microphones.at(-1);
  track.stop();
  track.dispatchEvent(new Event("ended"));
}
"""
NO_DEVICE = """
() => {
  const { getUserMedia } = MediaDevices.prototype;
  globalThis.plugIn = () => {
    MediaDevices.prototype.getUserMedia = getUserMedia;
    navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
  };
  MediaDevices.prototype.getUserMedia = () => Promise.reject(new DOMException("", "NotFoundError"));
}
"""


def problem(talk: TalkPage) -> Any:
    return expect(talk.page.locator("#problem"))


def test_sound_that_was_suspended_goes_on_at_once_and_loses_nothing(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser) as (talk, peer):
        peer.begin("one")
        peer.speak("one", 3000)
        talk.wait_for_phase("agent")
        talk.page.evaluate(SUSPEND)
        talk.page.wait_for_function(f"() => {STATES}.every((state) => state === 'running')")
        problem(talk).to_be_hidden()
        peer.end("one")
        talk.wait_for_phase("listening")
        talk.wait_for_silence()
        assert sum(spans_ms(played(talk))) == pytest.approx(3000, abs=1)


@pytest.mark.parametrize("hand", ["click", "key"])
def test_sound_that_only_a_hand_brings_back_is_asked_for_and_comes(
    server: ScriptedServer, browser: Chromium, hand: str
):
    with call(server, browser) as (talk, peer):
        talk.page.evaluate(NEEDS_A_HAND)
        talk.page.evaluate(SUSPEND)
        problem(talk).to_contain_text("Sound has stopped")
        if hand == "click":
            talk.page.mouse.click(5, 5)
        else:
            talk.page.keyboard.press("a")
        problem(talk).to_be_hidden()
        peer.say("one", 200)
        talk.wait_for_phase("agent")
        talk.wait_for_phase("listening")
        talk.wait_for_silence()
        # Where the test listens, a few samples are lost as sound comes back.
        assert sum(spans_ms(played(talk))) == pytest.approx(200, abs=10)


def test_the_call_goes_on_with_another_microphone_when_one_is_unplugged(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser) as (talk, peer):
        browser.say(read_wav(QUESTION.read_bytes(), 48_000))
        talk.page.evaluate(UNPLUG)
        problem(talk).to_contain_text("Another one is in use")
        assert any(loud_frames(peer, 200))
        assert talk.page.locator("#talk").inner_text() == "Hang up"
        peer.say("one", 2_000, "I hear you")
        talk.wait_for_phase("agent")
        problem(talk).to_be_hidden()


def test_without_any_microphone_the_call_goes_on_in_writing_until_one_is_plugged_in(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser) as (talk, peer):
        browser.say(read_wav(QUESTION.read_bytes(), 48_000))
        talk.page.evaluate(NO_DEVICE)
        talk.page.evaluate(UNPLUG)
        problem(talk).to_contain_text("The microphone was unplugged")
        talk.wait_for_phase("waiting")
        talk.type("Still there?")
        peer.expect("conversation.item.create")
        talk.page.evaluate("plugIn()")
        assert any(loud_frames(peer, 200))
        talk.wait_for_phase("thinking")
        assert "Plug one in" not in talk.page.locator("#problem").inner_text()


def test_a_microphone_that_gives_only_silence_is_named_until_it_is_heard(
    server: ScriptedServer, browser: Chromium
):
    said = bytes(2 * samples_in(6000, 48_000)) + read_wav(QUESTION.read_bytes(), 48_000)
    with browser.page(server.url, said=said) as talk:
        talk.press_talk()
        server.greet()
        problem(talk).to_contain_text("only silence: is it muted?", timeout=15_000)
        problem(talk).to_be_hidden(timeout=15_000)


def test_a_microphone_that_the_system_mutes_is_named_while_it_is_muted(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser) as (talk, _):
        for name, is_muted in (("mute", True), ("unmute", False)):
            talk.page.evaluate(
                """([name, isMuted]) => {
                  const track = microphones.at(-1);
                  Object.defineProperty(track, "muted", { value: isMuted, configurable: true });
                  track.dispatchEvent(new Event(name));
                }""",
                [name, is_muted],
            )
            if is_muted:
                problem(talk).to_contain_text("is it muted?")
            else:
                problem(talk).not_to_contain_text("is it muted?")


def test_a_loudspeaker_that_is_unplugged_gives_way_to_the_default_one(
    server: ScriptedServer, browser: Chromium
):
    with call(server, browser) as (talk, _):
        options = talk.page.locator("#loudspeaker option")
        if options.count() < 2:
            pytest.skip("this machine has no loudspeaker that can be chosen")
        talk.page.get_by_text("Settings").click()
        talk.page.locator("#loudspeaker").select_option(index=1)
        talk.page.wait_for_function("() => soundContexts.at(-1).sinkId !== ''")
        talk.page.evaluate(
            """() => {
              MediaDevices.prototype.enumerateDevices = async () => [];
              navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
            }"""
        )
        problem(talk).to_contain_text("loudspeaker was unplugged")
        talk.page.wait_for_function("() => soundContexts.at(-1).sinkId === ''")


def test_the_screen_stays_on_for_as_long_as_the_call(server: ScriptedServer, browser: Chromium):
    with browser.page(server.url) as talk:
        talk.page.context.grant_permissions(["microphone", "screen-wake-lock"])
        talk.page.evaluate(
            """() => {
              globalThis.locks = [];
              const { request } = WakeLock.prototype;
              WakeLock.prototype.request = async function (kind) {
                const lock = await request.call(this, kind);
                locks.push(lock);
                return lock;
              };
            }"""
        )
        talk.press_talk()
        server.greet()
        talk.page.wait_for_function("() => locks.length === 1 && !locks[0].released")
        # A page that was out of sight has lost its lock.
        talk.page.evaluate("locks[0].release()")
        talk.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        talk.page.wait_for_function("() => locks.length === 2 && !locks[1].released")
        talk.press_talk()
        talk.page.wait_for_function("() => locks[1].released")
