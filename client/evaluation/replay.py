"""`mimo-live replay`: hold a recorded session again and say whether it decides the same.

It shows the turns of the session as well, and draws it; docs/evaluation.md has the form of a trace.
"""

import argparse
import gzip
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError
from agent.trace.lines import Line, TraceError, decode
from agent.trace.replay import Difference, Step, replay
from client.evaluation import plot
from client.evaluation.replay_audio import Microphone, ReplayAudio, rows
from client.evaluation.replay_turns import ReplayTurns

SAME, COULD_NOT_RUN, DIFFERENT = 0, 1, 3
"""Exit statuses; 2 is a wrong command line, as `argparse` has it."""
GZIP = b"\x1f\x8b"
SHOWN = 300
"""Characters of a decision that are printed."""

EXIT_STATUS = """\
exit status: 0 every decision is the same, 1 could not run, 2 wrong usage, 3 a decision differs
"""


class Options(argparse.Namespace):
    file: Path
    plot: Path | None


def main(argv: list[str]) -> int:
    """Replay; return the exit status that `--help` explains."""
    options = _parse(argv)
    try:
        if options.plot is not None:
            plot.require()
        return _replay(options)
    except (AgentError, OSError) as error:
        print(f"mimo-live replay: {error}", file=sys.stderr)
        return COULD_NOT_RUN


def _parse(argv: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="mimo-live replay",
        description="Replay a recorded session and compare the decisions with the recording.",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file",
        type=Path,
        help="one of the recordings that the server writes to `folder` under `[trace]`",
    )
    parser.add_argument(
        "--plot", type=Path, help="draw both voices and the decisions as a PNG image"
    )
    return parser.parse_args(argv, Options())


def _replay(options: Options) -> int:
    microphone, turns, tape = Microphone(), ReplayTurns(), ReplayAudio()
    found = _Found()
    for step in replay(decode(texts(options.file))):
        pcm = microphone.hear(step)
        turns.add(step, pcm)
        if options.plot is not None:
            tape.add(step, pcm)
        found.add(step)
    print(turns.table())
    if options.plot is not None:
        plot.draw(rows(tape.take(options.file.name)), options.plot)
    print(found)
    return SAME if found.difference is None else DIFFERENT


@dataclass(slots=True)
class _Found:
    """What came of the comparison."""

    at_s: float = 0.0
    """How far it got: to the end of the trace, or the first difference; seconds of the session."""
    count: int = 0
    """How many decisions were the same."""
    is_whole: bool = True
    difference: Difference | None = None

    def add(self, step: Step) -> None:
        if self.difference is None:
            self.at_s, self.is_whole = step.since_s, step.is_whole
            self.difference = step.difference
            self.count += sum(line.source != "id" for line in step.again)

    def __str__(self) -> str:
        if self.difference is not None:
            before, now = map(_shown, self.difference)
            return f"differs at {self.at_s:.3f} s:\n  recorded  {before}\n  now       {now}"
        cut = "" if self.is_whole else ", where the trace was cut off"
        return f"all {self.count} decisions are the same, in {self.at_s:.1f} s{cut}"


def _shown(decision: Line | None) -> str:
    if decision is None:
        return "nothing"
    text = bytes(decision.what).decode()
    return f"{decision.source} {text[:SHOWN]}{'…' if len(text) > SHOWN else ''}"


def texts(path: Path) -> Iterator[bytes]:
    """Read the lines of a trace, packed or not; what a crash left of the last one is left out.

    Raises:
        TraceError: If it is damaged.
    """
    with path.open("rb") as file:
        packed = file.peek(len(GZIP))[: len(GZIP)] == GZIP
    with gzip.open(path) if packed else path.open("rb") as file:
        try:
            yield from (text for text in file if text.endswith(b"\n"))
        except EOFError:
            return
        except (gzip.BadGzipFile, zlib.error) as error:
            raise TraceError(f"{path}: {error}") from error
