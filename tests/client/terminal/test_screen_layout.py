"""What the live screen shows, at every size that a terminal may have."""

import asyncio

import pytest

from client.dialogue.jitter import Heard
from client.terminal.screen_state import News
from client.terminal.view import Status

pytest.importorskip("textual", reason="the extra `screen` is not installed")

from textual.pilot import Pilot

from client.terminal.screen import KEYS
from tests.drivers.shown import Shown

SIZES = [(40, 12), (40, 40), (60, 16), (80, 24), (132, 24), (200, 60)]

TOLD = (
    "Die Donaudampfschifffahrtsgesellschaftskapitänswitwenversicherung.",
    "多瑙河轮船公司船长遗孀养老金申请这就是你要的中文说法多瑙河轮船公司船长遗孀.",
    "Emoji 👩‍👩‍👧‍👦 🇩🇪 😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀😀 end.",
)
"""A word wider than the narrowest screen, wide letters without a blank, and emoji."""

pytestmark = pytest.mark.system


@pytest.mark.parametrize("size", SIZES)
def test_no_state_no_way_out_and_no_word_is_cut_at_any_size(size: tuple[int, int]):
    async def look(pilot: "Pilot[None]") -> None:
        screen_state = shown.screen_state
        screen_state.connection("Reconnecting in 3.5 s")
        screen_state.interrupted(Heard("answer", 0))
        screen_state.caption("agent", "")
        screen_state.status(Status("speaking", 0.0, 0.0, muted=True, push="closed"))
        await shown.until(
            pilot,
            "● Speak to interrupt",
            "push-to-talk: press space",
            "microphone muted",
            "Reconnecting in 3.5 s",
            "answered in 1.04 s",
            "? help",
            "q quit",
            "m mute",
        )
        for told in TOLD:
            screen_state.caption("user", told)
            async with asyncio.timeout(10):
                while "".join(told.split()) not in "".join(shown.words().split()):
                    await pilot.pause(0.01)
        screen_state.status(Status("listening", 0.0, 0.0, muted=True, push="open"))
        await shown.until(pilot, "● Your turn", "push-to-talk: talking", "microphone muted")
        if size[1] >= 24:
            await shown.until(pilot, "model 450 of 610", "playout 10 ms", "s save", "v voice")

    shown = Shown()
    shown.run(look, size)


def test_captions_are_wrapped_anew_when_the_window_changes_its_width():
    async def resize(pilot: "Pilot[None]") -> None:
        shown.screen_state.caption("user", "one two three four five six seven eight nine ten")
        wide = ["you one two three four five six seven eight nine ten"]
        narrow = ["you one two three four five six", "seven eight nine ten"]
        for width, rows in ((100, wide), (40, narrow), (200, wide)):
            await pilot.resize_terminal(width, 24)
            await shown.until(pilot, "nine ten")
            async with asyncio.timeout(10):
                while not set(rows) <= {row.strip() for row in shown.picture().splitlines()}:
                    await pilot.pause(0.01)

    shown = Shown()
    shown.run(resize)


def test_the_keyboard_scrolls_and_new_words_are_followed_at_the_end_only():
    async def scroll(pilot: "Pilot[None]") -> None:
        for number in range(60):
            shown.screen_state.note(f"line {number}.")
        await shown.until(pilot, "line 59.")
        await pilot.press("pageup")
        await shown.until(pilot, "line 40.")
        assert "line 59." not in shown.words()
        shown.screen_state.note("new.")
        shown.screen_state.connection("all of this is drawn")
        await shown.until(pilot, "all of this is drawn", "line 40.")
        assert "new." not in shown.words()
        await pilot.press("home")
        await shown.until(pilot, "The headset isn't there.")
        await pilot.press("down")
        await pilot.press("pagedown")
        await pilot.press("end")
        await shown.until(pilot, "new.")
        shown.screen_state.note("newer.")
        await shown.until(pilot, "newer.")

    shown = Shown()
    shown.run(scroll)


@pytest.mark.parametrize("size", [(40, 12), (80, 24)])
def test_the_help_explains_every_key_and_scrolls_while_the_keys_go_on_working(
    size: tuple[int, int],
):
    async def ask(pilot: "Pilot[None]") -> None:
        await pilot.press("question_mark")
        await shown.until(pilot, "? show this, or hide it")
        await pilot.press("end")
        await shown.until(pilot, "Esc leave help or typing")
        await pilot.press("m", "escape")
        await shown.until(pilot, "Is this")
        assert "Esc" not in shown.words()
        assert shown.script.told == ["mute"]

    shown = Shown()
    shown.run(ask, size)
    assert {each.action for each in KEYS if not each.tooltip} == {"leave"}


def test_words_from_outside_can_neither_colour_nor_command_the_terminal():
    async def attack(pilot: "Pilot[None]") -> None:
        shown.screen_state.caption("user", "a\x1b[31mred\x1b]0;title\x07\x9b2J end.")
        await shown.until(pilot, "a [31mred ]0;title  2J end.".replace("  ", " "))
        assert not set(shown.picture()) & {"\x1b", "\x07", "\x9b"}

    shown = Shown()
    shown.run(attack)


def test_a_screen_that_is_being_taken_down_can_still_be_drawn(monkeypatch: pytest.MonkeyPatch):
    async def take_down(pilot: "Pilot[None]") -> None:
        await pilot.app.screen.query("*").remove()
        drawn: list[News] = []
        take = shown.screen_state.take

        def watched() -> News:
            drawn.append(take())
            return drawn[-1]

        monkeypatch.setattr(shown.screen_state, "take", watched)
        async with asyncio.timeout(10):
            while len(drawn) < 2:
                await pilot.pause(0.01)

    shown = Shown()
    shown.run(take_down)
