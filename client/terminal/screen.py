"""The live screen: captions as they are spoken, levels, latencies, and keys for everything.

The conversation runs on a thread of its own, because sound can't wait for a screen. It leaves
word on a screen_state; seven times a second the screen draws what has changed.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import ClassVar

from rich.console import Group, RenderableType
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.css.query import NoMatches
from textual.events import Resize
from textual.widgets import Input, Static

from client.recording import Recording, new_conversation
from client.terminal.background import Background
from client.terminal.captions import Captions
from client.terminal.panel import (
    help_table,
    keys_line,
    latency_line,
    level_line,
    state_line,
    words_line,
)
from client.terminal.screen_state import Line, News, ScreenState
from client.terminal.view import SHOWN_EVERY_S

LOW_ROWS = 22
"""A screen with fewer rows gives them to the words: one line of keys, and one of latencies."""

KEYS = [
    Binding("question_mark", "help", "help", key_display="?", tooltip="show this, or hide it"),
    Binding("q", "leave", "quit", tooltip="end the conversation"),
    Binding("m", "mute", "mute", tooltip="mute the microphone, or unmute it"),
    Binding("p", "push_to_talk", "push-to-talk", tooltip="turn push-to-talk on or off"),
    Binding("space", "push", "talk", tooltip="with push-to-talk on: hold to talk, or tap twice"),
    Binding("i", "interrupt", "interrupt", tooltip="make the agent stop"),
    Binding("t", "ask('say')", "type", tooltip="write to the agent instead of speaking"),
    Binding("v", "ask('voice')", "voice", tooltip="give the agent another voice"),
    Binding("s", "save", "save", tooltip="save the words and the sound"),
    Binding("up", "scroll('up')", key_display="↑", show=False, tooltip="scroll back by a line"),
    Binding("down", "scroll('down')", key_display="↓", show=False, tooltip="scroll on by a line"),
    Binding("pageup", "scroll('page_up')", key_display="PgUp", show=False, tooltip="scroll back"),
    Binding("pagedown", "scroll('page_down')", key_display="PgDn", show=False, tooltip="scroll on"),
    Binding("home", "scroll('home')", key_display="Home", show=False, tooltip="go to the start"),
    Binding(
        "end", "scroll('end')", key_display="End", show=False, tooltip="go to the end, and follow"
    ),
    Binding("escape", "dismiss", show=False, key_display="Esc", tooltip="leave help or typing"),
    Binding("ctrl+c", "leave", show=False, priority=True),
]


class LiveScreen(App[None]):
    """Shows one conversation until it ends or `q` is pressed.

    Args:
        background: Runs it already: a screen takes longer to load than a microphone.
        screen_state: What it shows.
        recording: What can be saved of its sound.
    """

    CSS = """
    #state, #levels, #latency, #keys { background: $panel; padding: 0 1; height: auto; }
    .low #latency, .low #keys { max-height: 1; }
    #words, #help { height: 1fr; padding: 1 1 0 1; scrollbar-size: 1 1;
                    scrollbar-gutter: stable; scrollbar-background: $background; }
    .low #words, .low #help { padding: 0 1; }
    #captions { height: auto; background: $background; overflow: hidden; }
    #now { height: auto; margin-bottom: 1; }
    .low #now { margin-bottom: 0; }
    #asked, #help, .helping #words { display: none; }
    #asked.open, .helping #help { display: block; }
    """
    TITLE = "mimo-live talk"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [*KEYS]

    def __init__(self, background: Background, screen_state: ScreenState, recording: Recording):
        super().__init__()
        self._background = background
        self._talk = background.conversation
        self._screen_state = screen_state
        self._recording = recording
        self._drawn: dict[str, object] = {}
        self._asked = "say"

    def compose(self) -> ComposeResult:
        yield Static(id="state")
        with VerticalScroll(id="words", can_focus=False):
            yield Captions()
            yield Static(id="now")
        with VerticalScroll(id="help", can_focus=False):
            yield Static(help_table(KEYS))
        yield Input(id="asked")
        yield Static(id="levels")
        yield Static(id="latency")
        yield Static(keys_line(KEYS), id="keys")

    def on_mount(self) -> None:
        self.query_one("#words").anchor()
        self.set_interval(SHOWN_EVERY_S, self._draw)

    def on_resize(self, event: Resize) -> None:
        is_low = event.size.height < LOW_ROWS
        self.screen.set_class(is_low, "low")
        self.query_one(Input).compact = is_low

    # --- keys --------------------------------------------------------------------------------

    def action_mute(self) -> None:
        self._background.do(self._talk.mute())

    def action_push_to_talk(self) -> None:
        self._background.do(self._talk.toggle_push_to_talk())

    def action_push(self) -> None:
        self._background.do(self._talk.push())

    def action_interrupt(self) -> None:
        self._background.do(self._talk.interrupt())

    def action_ask(self, what: str) -> None:
        words = self.query_one(Input)
        self._asked = what
        voices = ", ".join(self._talk.voices)
        voice = f"Name of a voice: {voices}" if voices else "Name of a voice"
        words.placeholder = "Write to the agent" if what == "say" else voice
        words.add_class("open")
        words.focus()

    def action_help(self) -> None:
        self.screen.toggle_class("helping")

    def action_scroll(self, way: str) -> None:
        """Move the words, or the help while it is shown; at their end they are followed again."""
        shown = self.query_one("#help" if self.screen.has_class("helping") else "#words")
        ways = {
            "up": shown.scroll_up,
            "down": shown.scroll_down,
            "page_up": shown.scroll_page_up,
            "page_down": shown.scroll_page_down,
            "home": shown.scroll_home,
            "end": shown.scroll_end,
        }
        ways[way](animate=False)

    def action_dismiss(self) -> None:
        self.screen.remove_class("helping")
        words = self.query_one(Input)
        words.clear()
        words.remove_class("open")
        self.set_focus(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        text, talk = event.value.strip(), self._talk
        if text:
            self._background.do(talk.say(text) if self._asked == "say" else talk.use_voice(text))
        self.action_dismiss()

    def action_save(self) -> None:
        """The words, and beside them the sound."""
        try:
            saved = new_conversation(datetime.now())
            text, sound = saved.with_suffix(".txt"), saved.with_suffix(".wav")
            text.write_text(self._screen_state.transcript(), encoding="utf-8")
            self._recording.save(sound)
        except OSError as error:
            self._screen_state.problem(f"can't save the conversation: {error}")
        else:
            self._screen_state.note(f"saved to {text} and {sound.name}")

    def action_leave(self) -> None:
        self._background.end()

    # --- drawing -----------------------------------------------------------------------------

    def _draw(self) -> None:
        if not self._background.alive:
            self.exit()
            return
        # While the screen is taken down, its parts go one by one.
        with suppress(NoMatches):
            self._draw_news(self._screen_state.take())

    def _draw_news(self, news: News) -> None:
        self.query_one(Captions).add(news.lines)
        now = [Line("user", news.user)] if news.user else []
        now += [Line("agent", news.agent)] if news.agent else []
        status = news.status
        levels = level_line(status, self.query_one("#levels").content_size.width)
        still = replace(status, microphone=0.0, loudspeaker=0.0, saying=""), news.connection
        self._put("now", now, lambda: Group(*map(words_line, now)))
        self._put("state", still, lambda: state_line(status, news.connection))
        self._put("levels", levels, lambda: levels)
        self._put("latency", news.latencies, lambda: latency_line(news.latencies))

    def _put(self, where: str, content: object, draw: Callable[[], RenderableType]) -> None:
        """Draw only what has changed: a screen that stands still costs nothing."""
        if self._drawn.get(where) != content:
            self._drawn[where] = content
            moves = where != "levels"
            self.query_one(f"#{where}", Static).update(draw(), layout=moves)
