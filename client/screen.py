"""The live screen: captions as they are spoken, levels, latencies, and keys for everything.

The conversation runs on a thread of its own, because sound can't wait for a screen. It leaves
word on a board; seven times a second the screen draws what has changed.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from rich.console import Group, RenderableType
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Input, RichLog, Static

from client.background import Background
from client.board import Board, Line
from client.panel import (
    connection_line,
    keys_line,
    latency_line,
    level_line,
    state_line,
    words_line,
)
from client.recording import Recording
from client.view import SHOWN_EVERY_S

MOST_LINES = 2000


class LiveScreen(App[None]):
    """Shows one conversation until it ends or `q` is pressed.

    Args:
        background: Runs it already: a screen takes longer to load than a microphone.
        board: What it shows.
        recording: What can be saved of its sound.
    """

    CSS = """
    #top, #levels, #latency, #keys { background: $panel; padding: 0 1; }
    #top, #levels, #keys { height: 1; }
    #latency { height: 2; }
    #state { width: 1fr; }
    #connection { width: auto; }
    #words { height: 1fr; padding: 1 1 0 1; scrollbar-size: 1 1;
             scrollbar-gutter: stable; scrollbar-background: $background; }
    #captions { height: auto; background: $background; overflow: hidden; }
    #now { height: auto; max-height: 8; margin-bottom: 1; }
    #asked { display: none; }
    #asked.open { display: block; }
    """
    TITLE = "mimo-live talk"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "mute", "mute"),
        Binding("p", "push_to_talk", "push-to-talk"),
        Binding("space", "push", "talk"),
        Binding("i", "interrupt", "interrupt"),
        Binding("t", "ask('say')", "type"),
        Binding("v", "ask('voice')", "voice"),
        Binding("s", "save", "save"),
        Binding("q", "leave", "quit"),
        Binding("ctrl+c", "leave", "quit", show=False, priority=True),
        Binding("escape", "dismiss", "back", show=False),
    ]

    def __init__(self, background: Background, board: Board, recording: Recording):
        super().__init__()
        self._background = background
        self._talk = background.conversation
        self._board = board
        self._recording = recording
        self._drawn: dict[str, object] = {}
        self._asked = "say"

    def compose(self) -> ComposeResult:
        with Horizontal(id="top"):
            yield Static(id="state")
            yield Static(id="connection")
        with VerticalScroll(id="words", can_focus=False):
            captions = RichLog(id="captions", wrap=True, max_lines=MOST_LINES)
            captions.can_focus = False
            yield captions
            yield Static(id="now")
        yield Input(id="asked")
        yield Static(id="levels")
        yield Static(id="latency")
        yield Static(keys_line(self.BINDINGS), id="keys")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).anchor()
        self.set_interval(SHOWN_EVERY_S, self._draw)

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
        words.placeholder = "Write to the agent" if what == "say" else "Name of a voice"
        words.add_class("open")
        words.focus()

    def action_dismiss(self) -> None:
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
        text = Path(f"conversation-{datetime.now():%Y-%m-%d-%H%M%S}.txt")
        sound = text.with_suffix(".wav")
        try:
            text.write_text(self._board.transcript(), encoding="utf-8")
            self._recording.save(sound)
        except OSError as error:
            self._board.problem(f"can't save the conversation: {error}")
        else:
            self._board.note(f"saved to {text} and {sound}")

    def action_leave(self) -> None:
        self._background.end()

    # --- drawing -----------------------------------------------------------------------------

    def _draw(self) -> None:
        if not self._background.alive:
            self.exit()
            return
        news = self._board.take()
        captions = self.query_one(RichLog)
        for line in news.lines:
            captions.write(words_line(line), expand=True)
        now = [Line("user", news.user)] if news.user else []
        now += [Line("agent", news.agent)] if news.agent else []
        status, levels = news.status, level_line(news.status)
        still = replace(status, microphone=0.0, loudspeaker=0.0, spoken=1.0)
        self._put("now", now, lambda: Group(*map(words_line, now)))
        self._put("state", still, lambda: state_line(status))
        self._put("connection", news.connection, lambda: connection_line(news.connection))
        self._put("levels", levels, lambda: levels)
        self._put("latency", news.latencies, lambda: latency_line(news.latencies))

    def _put(self, where: str, content: object, draw: Callable[[], RenderableType]) -> None:
        """Draw only what has changed: a screen that stands still costs nothing."""
        if self._drawn.get(where) != content:
            self._drawn[where] = content
            moves = where in ("now", "connection")
            self.query_one(f"#{where}", Static).update(draw(), layout=moves)
