"""The kiosk page in a real browser, against a scripted server: visitors, self-test, watchdog."""

import base64
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec
import numpy as np
import pytest
from playwright.sync_api import expect

from agent.audio import read_wav, samples_in
from server import settings
from tests.drivers.page import CHROMIUM, Chromium, TalkPage, chromium
from tests.drivers.processes import ROOT, start_server
from tests.drivers.scripted_server import Event, ScriptedServer
from tests.server.page.test_layout import CROPPED, SCREENS

pytestmark = pytest.mark.system

UNPLUG = """
() => {
  const track = microphones.at(-1);
  track.stop();
  track.dispatchEvent(new Event("ended"));
}
"""
QUESTION = Path(__file__).parents[2] / "data" / "weather_question.wav"
SETTINGS: Event = {
    "greeting": "Talk to me",
    "starts_on_speech": True,
    "idle_s": 1.0,
    "countdown_s": 1.0,
    "dead_s": 30.0,
    "self_test": False,
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[Chromium]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    with chromium(tmp_path_factory.mktemp("browser"), is_unattended=True) as browser:
        yield browser


@contextmanager
def kiosk(
    browser: Chromium,
    *,
    said: bytes = b"",
    fragment: str = "",
    folder: str = "/",
    **changes: object,
) -> Generator[tuple[TalkPage, ScriptedServer]]:
    server = ScriptedServer(SETTINGS | changes, folder)
    try:
        with browser.page(f"{server.url}kiosk{fragment}", said=said) as page:
            yield page, server
    finally:
        server.stop()


def expect_technical(page: TalkPage, words: str, timeout_s: float = 15) -> None:
    """Whoever looks after the kiosk can read why it is out of service."""
    expect(page.page.locator("#technical")).to_contain_text(words, timeout=1000 * timeout_s)
    page.page.get_by_text("Technical details").wait_for()


def wait_for_screen(page: TalkPage, screen: str) -> None:
    page.page.locator(f'[data-screen="{screen}"]').wait_for(state="attached", timeout=15_000)


def test_one_who_speaks_is_heard_from_the_first_word_and_the_next_visitor_starts_clean(
    browser: Chromium,
):
    said = bytes(2 * samples_in(1500, 48_000)) + read_wav(QUESTION.read_bytes(), 48_000)
    with kiosk(browser, said=said) as (page, server):
        wait_for_screen(page, "attract")
        first = server.greet("sess_1", token="secret token")
        first.say("one", 2_000, "Only for you")
        page.wait_for_phase("agent")
        assert page.captions()[0].text == "Only for you"
        page.page.locator("#countdown").wait_for(state="visible")
        assert page.page.get_by_role("timer").inner_text().startswith("1")
        wait_for_screen(page, "attract")
        assert first.wait_for_goodbye() == 1000
        assert page.captions() == []
        assert "Only for you" not in page.page.content()
        assert page.page.evaluate("JSON.stringify([sessionStorage, localStorage])") == "[{},{}]"
        # The first word was spoken before anybody was there to hear it.
        heard = [base64.b64decode(e["audio"]) for e in page.sent_of("input_audio_buffer.append")]
        loudness = [np.abs(np.frombuffer(pcm, "<i2").astype(int)).max() for pcm in heard[:47]]
        assert loudness[0] < 100
        assert max(loudness) > 1000

        page.page.locator("#begin").click()
        second = server.accept()
        assert second.query == {}
        second.greet("sess_2")
        second.say("two", 2_000, "Welcome")
        page.wait_for_phase("agent")
        assert [caption.text for caption in page.captions()] == ["Welcome"]


def test_below_a_folder_the_kiosk_finds_its_settings_and_its_server(browser: Chromium):
    with kiosk(browser, folder="/voice/", greeting="Good morning") as (page, server):
        wait_for_screen(page, "attract")
        assert page.page.locator("#greeting").inner_text() == "Good morning"
        page.page.locator("#begin").click()
        server.greet().expect("input_audio_buffer.append")


def test_on_every_screen_a_kiosk_shows_all_its_controls(browser: Chromium):
    with kiosk(browser, idle_s=60.0) as (page, server):
        page.page.locator("#begin").click()
        server.greet().say("one", 20_000, "A view over the whole river, and the old town hall.")
        page.wait_for_phase("agent")
        for width, height in SCREENS:
            page.page.set_viewport_size({"width": width, "height": height})
            assert page.page.evaluate(CROPPED) == []
            room = page.page.locator("#scroll").bounding_box()
            assert room is not None
            assert room["height"] > 0.6 * height


def test_a_touch_stops_the_countdown_and_finish_ends_the_visit(browser: Chromium):
    with kiosk(browser, countdown_s=20.0) as (page, server):
        page.page.locator("#begin").click()
        peer = server.greet()
        page.page.locator("#countdown").wait_for(state="visible")
        page.page.mouse.click(5, 5)
        page.page.locator("#countdown").wait_for(state="hidden")
        page.page.get_by_role("button", name="Finish").click()
        wait_for_screen(page, "attract")
        assert peer.wait_for_goodbye() == 1000


def test_the_kiosk_opens_only_when_its_microphone_hears_its_loudspeaker(browser: Chromium):
    with kiosk(browser, self_test=True) as (page, _):
        expect_technical(page, "does not hear the loudspeaker")
        browser.say(bytes(2 * samples_in(400, 48_000)) + sweep_at_a_distance())
        page.page.get_by_role("button", name="Try again").click()
        wait_for_screen(page, "attract")


def test_nobody_is_invited_while_the_model_is_down_and_then_the_kiosk_comes_back(
    browser: Chromium,
):
    with kiosk(browser) as (page, server):
        wait_for_screen(page, "attract")
        server.status = "unavailable"
        wait_for_screen(page, "trouble")
        assert page.page.locator("#trouble").inner_text() == "We will be back soon."
        assert "its model does not answer" in (page.page.locator("#technical").text_content() or "")
        page.page.keyboard.press("x")
        browser.say(read_wav(QUESTION.read_bytes(), 48_000))
        server.status = "degraded"
        wait_for_screen(page, "attract")
        page.page.locator("#begin").click()
        assert server.greet("sess_1", token="token")


def sweep_at_a_distance() -> bytes:
    """The self-test's sweep, from 400 to 3000 Hz in 0.6 s, 20 dB quieter and in noise."""
    t = np.arange(int(0.6 * 48_000)) / 48_000
    swept = np.sin(2 * np.pi * (400 * t + 2600 * t * t / 1.2))
    noise = np.random.default_rng(1).normal(size=len(t))
    return np.rint(1000 * swept + 500 * noise).astype("<i2").tobytes()


def wait_for_new_page(page: TalkPage) -> None:
    page.page.wait_for_function("() => !globalThis.isOldPage")
    wait_for_screen(page, "attract")


def test_a_page_whose_sound_is_dead_starts_again(browser: Chromium):
    with kiosk(browser, dead_s=1.0) as (page, _):
        wait_for_screen(page, "attract")
        page.page.evaluate("globalThis.isOldPage = true")
        page.page.evaluate("soundContexts.forEach((context) => context.close())")
        wait_for_new_page(page)


def test_a_kiosk_whose_microphone_is_unplugged_goes_on_with_another_one(browser: Chromium):
    with kiosk(browser) as (page, server):
        wait_for_screen(page, "attract")
        page.page.evaluate(UNPLUG)
        page.page.wait_for_function("() => microphones.at(-1).readyState === 'live'")
        page.page.locator("#begin").click()
        server.greet().expect("input_audio_buffer.append")


def test_a_page_whose_server_is_dead_says_so_and_starts_again_when_it_is_back(browser: Chromium):
    with kiosk(browser, dead_s=1.0) as (page, server):
        page.page.locator("#begin").click()
        peer = server.greet()
        peer.say("one", 8000, "Only for you")
        page.wait_for_phase("agent")
        page.page.evaluate("globalThis.isOldPage = true")
        server.is_healthy = False
        peer.cut_line()
        page.page.get_by_text("back in a moment").wait_for()
        expect_technical(page, "Something stopped working")
        assert page.captions() == []
        server.is_healthy = True
        wait_for_new_page(page)


def test_a_page_that_is_loaded_anew_says_goodbye_for_its_visitor(browser: Chromium):
    with kiosk(browser) as (page, server):
        page.page.locator("#begin").click()
        peer = server.greet(token="secret token")
        peer.begin("one")
        peer.speak("one", 8000, "Only for you")
        page.wait_for_phase("agent")
        page.page.reload()
        assert peer.wait_for_goodbye() == 1000


def test_the_key_is_given_once_in_the_address(browser: Chromium):
    with kiosk(browser, fragment="#key=%EF%BB%BF%20device-token%0D%0A") as (page, server):
        assert page.page.url == f"{server.url}kiosk"
        page.page.reload()
        page.page.locator("#begin").click()
        peer = server.accept()
        assert "device-token" in peer.subprotocols
        peer.refuse(3000, "invalid_request_error.invalid_api_key")
        expect_technical(page, "#key=…")


def test_the_server_of_the_example_serves_the_page_and_its_settings():
    with start_server("http://127.0.0.1:9", "--config", str(ROOT / "configs/kiosk.toml")) as url:
        address = url.replace("ws", "http", 1)
        told = httpx2.get(f"{address}/page/kiosk.json")
        page = httpx2.get(f"{address}/kiosk")
    expected = settings.load(ROOT / "configs" / "kiosk.toml")
    assert told.json() == msgspec.to_builtins(expected.kiosk)
    assert told.json().keys() == SETTINGS.keys()
    assert "kiosk.js" in page.text
    assert expected.listen.resume_grace_s <= expected.kiosk.dead_s
    assert not expected.persona.voices


def test_a_kiosk_without_microphone_says_what_its_owner_must_do(browser: Chromium):
    server = ScriptedServer(SETTINGS)
    try:
        with browser.deaf_page(f"{server.url}kiosk") as page:
            wait_for_screen(page, "trouble")
            # A loudspeaker that was slow to start is named first; the page tries again after 15 s.
            expect_technical(page, "let the browser's policy allow it", timeout_s=30)
            said = page.page.locator("body").inner_text()
            assert "Out of service" in said
            for word in ("policy", "browser", "server", "Talk"):
                assert word not in said, "visitors can do nothing about it"
    finally:
        server.stop()


WORDS = """
async () => {
  const { Problem, CODES } = await import("/page/problem.js");
  const { forVisitors } = await import("/page/kiosk-words.js");
  return CODES.map((code) => forVisitors(new Problem(code, "a detail of the server's")));
}
"""


def test_whatever_happens_visitors_are_not_told_of_browsers_servers_and_keys(browser: Chromium):
    with kiosk(browser) as (page, _):
        told = page.page.evaluate(WORDS)
    assert len(told) > 20
    for sentence in told:
        for word in ("browser", "policy", "server", "key", "proxy", "detail", "Click"):
            assert word not in sentence
