"""Phrases in a row, and in more rows where one is too narrow; no phrase is cut."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text


class Flow:
    """Draws phrases from left to right; one that is wider than the whole row wraps."""

    def __init__(self, phrases: Iterable[Text], gap: int = 2):
        self._phrases = list(phrases)
        self._gap = gap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        row = Text()
        for phrase in self._phrases:
            if row and row.cell_len + self._gap + phrase.cell_len > options.max_width:
                yield from row.wrap(console, options.max_width)
                row = Text()
            row.append(" " * self._gap if row else "").append_text(phrase)
        yield from row.wrap(console, options.max_width)
