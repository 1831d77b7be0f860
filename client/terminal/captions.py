"""The captions of a conversation on the screen, wrapped anew whenever it changes its width."""

from collections import deque

from textual.widgets import RichLog

from client.terminal.panel import words_line
from client.terminal.screen_state import Line

MOST_LINES = 500
"""What can be scrolled back to: the longer, the slower is a change of the window's width."""

MOST_ROWS = 4 * MOST_LINES
"""A line seldom takes more rows; of more, the oldest are gone from the screen."""


class Captions(RichLog):
    """Shows lines, oldest first; as tall as they are."""

    can_focus = False

    def __init__(self) -> None:
        super().__init__(id="captions", wrap=True, max_lines=MOST_ROWS, min_width=1)
        self._shown = deque[Line](maxlen=MOST_LINES)
        self._wrapped_at = 0

    def add(self, lines: list[Line]) -> None:
        """Show more lines, all of them in the present width."""
        self._shown.extend(lines)
        width = self.scrollable_content_region.width
        if width != self._wrapped_at:
            self._wrapped_at = width
            self.clear()
            lines = list(self._shown)
        for line in lines:
            self.write(words_line(line), expand=True)
