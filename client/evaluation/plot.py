"""A picture of calls: both voices as waveforms, and what was decided when."""

import importlib
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from agent.audio import RATE, floats
from agent.errors import AgentError
from client.evaluation.simulated_phone import Take

MARKS = {
    "input_audio_buffer.speech_started": ("speech started", "#1b7837", ">"),
    "input_audio_buffer.speech_stopped": ("speech stopped", "#5aae61", "<"),
    "input_audio_buffer.committed": ("turn committed", "#b2182b", "s"),
    "response.created": ("response created", "#e08214", "P"),
    "first": ("first sound heard", "#2166ac", "^"),
    "cancelled": ("response cancelled", "#000000", "X"),
    "x_mimo.duck": ("duck", "#8073ac", "v"),
    "x_mimo.hold": ("hold", "#542788", "d"),
    "x_mimo.restore": ("restore", "#c51b7d", "^"),
}
"""What is marked: its name, its colour and its sign."""

LEGEND: dict[str, Any] = {"loc": "upper center", "frameon": False, "handletextpad": 0.1}
USER, AGENT = "#444444", "#2166ac"
COLUMNS = 1_500
"""Points of a waveform: more can't be seen."""


class PlotError(AgentError):
    """The picture can't be drawn."""


def require() -> None:
    """Check that pictures can be drawn here, before anything is measured.

    Raises:
        PlotError: If matplotlib isn't installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        install = f"{shlex.quote(sys.executable)} -m pip install matplotlib"
        raise PlotError(f"--plot needs matplotlib; to install it: {install}") from error


def draw(takes: list[Take], path: Path) -> None:
    """Draw takes, one below the other, into a PNG file."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    if not takes:
        raise PlotError("there is no call to draw")
    size = (13, 1.9 * len(takes) + 0.8)
    figure, axes = pyplot.subplots(len(takes), 1, figsize=size, squeeze=False)
    for place, take in zip(axes[:, 0], takes, strict=True):
        _draw_take(place, take)
    axes[-1, 0].set_xlabel("seconds of the call")
    labels: dict[str, Any] = {}
    for place in axes[:, 0]:
        for handle, label in zip(*place.get_legend_handles_labels(), strict=True):
            labels.setdefault(label, handle)
    known = [name for name, _, _ in MARKS.values() if name in labels]
    figure.legend([labels[name] for name in known], known, ncols=9, **LEGEND)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.5 / size[1]))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def one_of_each(takes: list[Take]) -> list[Take]:
    """The first take of each kind; of the pauses, one that lasted 600 ms."""
    kinds: dict[str, Take] = {}
    for take in sorted(takes, key=lambda each: each.scenario.pause_ms != 600):
        kinds.setdefault(take.scenario.kind, take)
    shown = {take.scenario.name for take in kinds.values()}
    return [take for take in takes if take.scenario.name in shown]


def _draw_take(place: Any, take: Take) -> None:
    length_s = max(len(take.said), len(take.heard)) / 2 / RATE
    for pcm, middle, colour in ((take.said, 0.55, USER), (take.heard, -0.55, AGENT)):
        at_s, low, high = _envelope(bytes(pcm))
        place.fill_between(at_s, middle + low, middle + high, color=colour, linewidth=0)
    for pause in take.scenario.pauses:
        place.axvspan(pause.start / RATE, pause.end / RATE, 0.4, 0.8, color="#fee391", alpha=0.7)
    for at, kind in _marks(take):
        label, colour, sign = MARKS[kind]
        # What happens at the same moment is drawn side by side, one height for each kind.
        height = 1.2 + 0.12 * (list(MARKS).index(kind) % 6)
        place.axvline(at / RATE, color=colour, linewidth=1, alpha=0.6)
        place.plot(at / RATE, height, sign, color=colour, markersize=6, label=label)
    place.set_xlim(0, length_s)
    place.set_ylim(-1.1, 1.95)
    place.set_yticks([0.55, -0.55], ["user", "agent"])
    place.set_title(take.scenario.name, loc="left", fontsize=10, fontweight="bold")
    for side in ("top", "right", "left"):
        place.spines[side].set_visible(False)
    place.tick_params(axis="y", length=0)


def _envelope(pcm: bytes) -> tuple[Any, Any, Any]:
    sound = floats(pcm)
    step = max(1, len(sound) // COLUMNS)
    columns = sound[: len(sound) // step * step].reshape(-1, step)
    peak = max(float(np.abs(sound).max(initial=0)), 0.05)
    at_s = np.arange(len(columns)) * step / RATE
    return at_s, columns.min(axis=1) / peak / 2, columns.max(axis=1) / peak / 2


def _marks(take: Take) -> list[tuple[int, str]]:
    marks: list[tuple[int, str]] = []
    for happened in take.events:
        kind = happened.event["type"]
        if kind in MARKS:
            marks.append((happened.at, kind))
        if kind == "response.done" and happened.event["response"]["status"] == "cancelled":
            marks.append((happened.at, "cancelled"))
    firsts: dict[str, int] = {}
    for run in take.runs:
        firsts.setdefault(run.item_id, run.start)
    return [*marks, *((at, "first") for at in firsts.values())]
