"""The lines of the screen that show how things are, as styled text."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text
from textual.binding import Binding

from client.board import Line
from client.latency import Latency
from client.meter import meter, sparkline
from client.view import Status

NAMES = {"user": "you", "agent": "agent"}
STYLES = {"user": "cyan", "agent": "green", "quiet": "dim", "problem": "red"}
STATES = {"listening": "cyan", "thinking": "magenta", "speaking": "green", "overlap": "yellow"}
PARTS = {"endpointing": "cyan", "model": "magenta", "playout": "green"}
METER_CELLS = 16
PART_CELLS = 30


def words_line(line: Line) -> Table:
    """Who said what, with the words in a column of their own."""
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(width=5, justify="right")
    row.add_column(ratio=1)
    style = STYLES[line.kind]
    if line.kind in NAMES:
        row.add_row(Text(NAMES[line.kind], f"bold {style}"), Text(line.text))
    else:
        row.add_row("", Text(line.text, style))
    return row


def keys_line(bindings: Iterable[object]) -> Text:
    """Every key that is shown, and what it does."""
    line = Text()
    for binding in bindings:
        if isinstance(binding, Binding) and binding.show:
            line.append(f"{binding.key} ", "bold yellow").append(f"{binding.description}   ")
    return line


def state_line(status: Status) -> Text:
    """Who has the floor, and whether the microphone is open."""
    line = Text.assemble((f"● {status.state}", f"bold {STATES[status.state]}"))
    if status.push != "off":
        talking = status.push == "open"
        words = "push to talk: you are on" if talking else "push to talk: press space"
        line.append(f"   {words}", "bold red" if talking else "yellow")
    if status.muted:
        line.append("   microphone muted", "bold red")
    return line


def connection_line(connection: str) -> Text:
    return Text(connection or "connected", "green" if not connection else "yellow")


def level_line(status: Status) -> Text:
    """Both meters; a cell is 60/16 dB."""
    return Text.assemble(
        ("you ", "bold cyan"),
        (meter(status.microphone, METER_CELLS), "dim cyan" if status.muted else "cyan"),
        ("    agent ", "bold green"),
        (meter(status.loudspeaker, METER_CELLS), "green"),
    )


def latency_line(latencies: Sequence[Latency]) -> Text:
    """A bar for each of the last answers; the latest one's parts below, to scale."""
    if not latencies:
        return Text("how soon you are answered shows here", "dim")
    last = latencies[-1]
    values = [each.voice_to_voice_ms for each in latencies]
    parts = {
        "endpointing": last.endpointing_ms,
        "model": last.model_ms,
        "playout": last.playout_ms,
    }
    whole = max(1, sum(max(0, part) for part in parts.values()))
    line = Text.assemble(
        ("answered in ", "dim"),
        (f"{last.voice_to_voice_ms / 1000:.2f} s  ", "bold"),
        (sparkline(values), "blue"),
        "\n",
    )
    for name, part in parts.items():
        line.append("━" * round(PART_CELLS * max(0, part) / whole), PARTS[name])
    for name, words in last.parts.items():
        line.append(f"  {name} {words}", PARTS[name])
    return line.append(" ms", "dim")
