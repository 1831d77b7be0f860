"""The lines of the screen that show how things are, as styled text."""

from collections.abc import Iterable, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.binding import Binding

from client.dialogue.latency import Latency
from client.terminal.flow import Flow
from client.terminal.meter import meter, sparkline
from client.terminal.screen_state import Line
from client.terminal.view import STATE_WORDS, Status

NAMES = {"user": "you", "agent": "agent"}
STYLES = {"user": "cyan", "agent": "green", "quiet": "dim", "problem": "red"}
STATES = {"listening": "cyan", "thinking": "magenta", "speaking": "green", "overlap": "yellow"}
PARTS = {"endpointing": "cyan", "model": "magenta", "playout": "green"}
MOST_METER_CELLS = 16
"""Wider ones tell no more, and take the place of words."""
PART_CELLS = 20
"""Of the bar of latencies: five hundredths each."""


def words_line(line: Line) -> Table:
    """Who said what, with the words in a column of their own."""
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(width=5, justify="right")
    row.add_column(ratio=1, overflow="fold")
    style = STYLES[line.kind]
    if line.kind in NAMES:
        row.add_row(Text(NAMES[line.kind], f"bold {style}"), Text(line.text))
    else:
        row.add_row("", Text(line.text, style))
    return row


def keys_line(bindings: Iterable[Binding]) -> Flow:
    """Every key that is shown, and what it does."""
    return Flow(
        Text.assemble((_key(each), "bold yellow"), f" {each.description}")
        for each in bindings
        if each.show
    )


def help_table(bindings: Iterable[Binding]) -> Group:
    """Every key that is explained, and what it is good for."""
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(justify="right", style="bold yellow")
    table.add_column(ratio=1, overflow="fold")
    for each in bindings:
        if each.tooltip:
            table.add_row(_key(each), each.tooltip)
    return Group(Text("Keys", "bold"), "", table)


def _key(binding: Binding) -> str:
    return binding.key_display or binding.key


def state_line(status: Status, connection: str) -> Flow:
    """Who has the floor, whether the microphone is open, and whether there is a server."""
    words = STATE_WORDS[status.state]
    if status.state == "listening" and (status.muted or status.push == "closed"):
        words = "Your turn"
    phrases = [Text(f"● {words}", f"bold {STATES[status.state]}")]
    if status.push != "off":
        talking = status.push == "open"
        words = "push-to-talk: talking" if talking else "push-to-talk: press space"
        phrases.append(Text(words, "bold red" if talking else "yellow"))
    if status.muted:
        phrases.append(Text("microphone muted", "bold red"))
    phrases.append(Text(connection or "connected", "yellow" if connection else "green"))
    return Flow(phrases, gap=3)


def level_line(status: Status, width: int) -> Text:
    """Both meters, which span 60 dB, in so many columns."""
    names = ("you ", "  agent ")
    cells = max(1, min(MOST_METER_CELLS, (width - sum(map(len, names))) // 2))
    return Text.assemble(
        (names[0], "bold cyan"),
        (meter(status.microphone, cells), "dim cyan" if status.muted else "cyan"),
        (names[1], "bold green"),
        (meter(status.loudspeaker, cells), "green"),
    )


def latency_line(latencies: Sequence[Latency]) -> Group | Text:
    """A bar for each of the last answers; the latest one's parts below, to scale."""
    if not latencies:
        return Text("the latency of each answer appears here", "dim")
    last = latencies[-1]
    values = [each.voice_to_voice_ms for each in latencies]
    parts = {
        "endpointing": last.endpointing_ms,
        "model": last.model_ms,
        "playout": last.playout_ms,
    }
    whole = max(1, sum(max(0, part) for part in parts.values()))
    bar = Text()
    for name, part in parts.items():
        bar.append("━" * round(PART_CELLS * max(0, part) / whole), PARTS[name])
    parts = [Text(f"{name} {words}", PARTS[name]) for name, words in last.parts.items()]
    parts[-1].append(" ms", "dim")
    answered = Text.assemble(
        ("answered in ", "dim"), (f"{last.voice_to_voice_ms / 1000:.2f} s", "bold")
    )
    return Group(Flow([answered, Text(sparkline(values), "blue")]), Flow([bar, *parts]))
