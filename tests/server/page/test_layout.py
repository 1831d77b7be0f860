"""The page on screens of every shape: the conversation has room, and nothing is cut off."""

from typing import cast

import pytest

from tests.drivers.page import CHROMIUM, Chromium, TalkPage
from tests.drivers.scripted_server import ScriptedServer

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]

LONG = "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz"
SCREENS = [
    (740, 360),
    (844, 390),
    (568, 320),
    (320, 568),
    (360, 640),
    (1024, 600),
    # A window of 1280 by 800 that is zoomed to 200 %.
    (640, 400),
]
CROPPED = """
() => Array.from(document.querySelectorAll("header *, footer *"))
  .filter((element) => element.checkVisibility() && !element.closest(".unseen, .panel"))
  .map((element) => [element, element.getBoundingClientRect()])
  .filter(([, box]) => box.left < 0 || box.top < 0
    || box.right > innerWidth + 0.5 || box.bottom > innerHeight + 0.5)
  .map(([element]) => element.id || element.className || element.tagName)
"""
HEIGHT = "(selector) => document.querySelector(selector).getBoundingClientRect().height"


def height(talk: TalkPage, selector: str) -> float:
    return cast(float, talk.page.evaluate(HEIGHT, selector))


def test_on_every_screen_the_conversation_shows_and_nothing_is_cropped(
    server: ScriptedServer, browser: Chromium
):
    with browser.page(server.url) as talk:
        talk.press_talk()
        peer = server.accept()
        peer.send({"type": "session.created", "session": {"id": "sess_1"}})
        peer.expect("session.update")
        named = {"id": "sess_1", "x_mimo": {"answered_by": "MiMo-Audio-7B-Instruct-in-eight-bits"}}
        peer.send({"type": "session.updated", "session": named})
        peer.begin("one")
        peer.speak("one", 60_000, f"What does {LONG} mean, and who ever says it?")
        talk.wait_for_phase("agent")
        for trouble in (False, True):
            if trouble:
                message = f"The model server can't be reached, says {LONG}."
                peer.send({"type": "error", "error": {"message": message}})
                talk.wait_for_problem("can't be reached")
            for screen_width, screen_height in SCREENS:
                talk.page.set_viewport_size({"width": screen_width, "height": screen_height})
                assert talk.page.evaluate(CROPPED) == []
                assert not talk.page.evaluate(
                    "document.documentElement.scrollWidth > innerWidth"
                ), screen_width
                assert height(talk, "h1") < 30, "the name is broken in two"
                least = screen_height * (0.15 if trouble else 0.35)
                assert height(talk, "main") >= least, (screen_width, screen_height)
                talk.page.wait_for_function(
                    """() => {
                      const { bottom } = document.querySelector("#log").getBoundingClientRect();
                      return bottom <= document.querySelector("footer").offsetTop + 1;
                    }"""
                )


def test_the_settings_can_be_reached_on_every_screen(server: ScriptedServer, browser: Chromium):
    with browser.page(server.url) as talk:
        talk.page.get_by_text("Settings").click()
        for width, height in SCREENS:
            talk.page.set_viewport_size({"width": width, "height": height})
            box = talk.page.locator(".panel").bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["y"] + box["height"] <= height
            talk.page.get_by_label("Push to talk").click()
