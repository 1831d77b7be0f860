"""`mimo-live eval`: have a simulated caller measure how a conversation feels.

Without `--url` it measures a server of its own that speaks to a stand-in model with a known
delay, so that the figures tell of the turn-taking and not of a model.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import AgentError
from agent.trace.lines import Line, encode, line
from client.evaluation import plot
from client.evaluation.caller import Manner, call
from client.evaluation.figures import Figures, Request, early_starts, figures, went_wrong
from client.evaluation.recordings import SHIPPED, Labelled, Library
from client.evaluation.report import Progress, table
from client.evaluation.scenarios import Scenario, named, quick, scenarios
from client.evaluation.simulated_phone import Take
from client.evaluation.vad_benchmark import Detected, detect, vad_figures
from client.http import fetch
from client.processes import MODEL_URL, SERVER_URL, Service, StartError, started
from client.recognition import is_conversation_server, is_model_server
from client.recording import SaveError, check_writable
from client.tasks import together

COULD_NOT_RUN = 1
"""Exit status."""
GROUPS = 30
"""Length of the stand-in's replies, 160 ms each."""

ROOT = Path(__file__).parents[2]
STAND_IN = Service(
    "stand-in", "the stand-in model", MODEL_URL, is_model_server, "tests.fakes", ROOT
)
SERVER = Service("serve", "the conversation server", SERVER_URL, is_conversation_server)

EXAMPLES = """\
examples:
  mimo-live eval
  mimo-live eval --quick --json figures.json
  mimo-live eval --scenarios pause/600,interruption --seed 2
"""


class Options(argparse.Namespace):
    url: str | None
    scenarios: str
    quick: bool
    audio: Path
    seed: int
    repeat: int
    at_once: int
    turn_detection: str
    duck: bool
    first_chunk_ms: int
    json: Path | None
    trace: Path | None
    plot: Path | None


@dataclass(frozen=True, slots=True)
class Lane:
    """A server to call, one call at a time."""

    url: str
    model_url: str | None = None
    """The stand-in behind it, if it is ours."""


@dataclass(slots=True)
class Results:
    takes: list[Take] = field(default_factory=list[Take])
    detected: list[Detected] = field(default_factory=list[Detected])
    lines: list[Line] = field(default_factory=list[Line])


def main(argv: list[str]) -> int:
    """Evaluate; return 0 if that could be done, whatever came of it."""
    options = _parse(argv)
    progress = Progress(sys.stderr)
    try:
        if options.plot is not None:
            plot.require()
        found = _evaluate(options, progress)
    except (AgentError, OSError) as error:
        progress.problem(f"mimo-live eval: {error}")
        return COULD_NOT_RUN
    print(table(found))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _parse(argv: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="mimo-live eval",
        description="Measure turn-taking with a simulated caller, in real time.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--url", help="conversation server, ws://…; without it, one is started here")
    add(
        "--scenarios",
        default="",
        help="only scenarios whose names begin with one of NAME,…; `vad` is one",
    )
    add("--quick", action="store_true", help="two scenarios of each kind")
    add("--audio", type=Path, default=SHIPPED, help="folder with recordings")
    add("--seed", type=int, default=1, help="seed for the random choices in the scenarios")
    add("--repeat", type=int, default=1, help="number of seeds to run")
    add(
        "--at-once", type=int, help="calls at the same time, each on a server of its own", default=0
    )
    add(
        "--turn-detection",
        choices=["semantic_vad", "server_vad", "server"],
        default="semantic_vad",
        help="what to ask for; `server` leaves it to the server",
    )
    add(
        "--no-duck",
        dest="duck",
        action="store_false",
        help="act as a client that cannot duck or hold and does not report playback",
    )
    add("--first-chunk-ms", type=int, default=300, help="time to first audio of the stand-in model")
    add("--json", type=Path, help="write the figures as one JSON object")
    add("--trace", type=Path, help="write every event with its time, one JSON object per line")
    add("--plot", type=Path, help="draw one call of each kind as a PNG image")
    options = parser.parse_args(argv, Options())
    for path in (options.json, options.trace, options.plot):
        try:
            check_writable(path)
        except SaveError as error:
            parser.error(str(error))
    options.at_once = options.at_once or (1 if options.url else 2)
    return options


def _evaluate(options: Options, progress: Progress) -> Figures:
    library = Library(options.audio)
    chosen, clips = _choose(library, options)
    if not chosen and not clips:
        known = ", ".join(each.name for each in scenarios(library, options.seed))
        raise AgentError(f"no scenario is named {options.scenarios}; choose from: {known}")
    detection = None if options.turn_detection == "server" else {"type": options.turn_detection}
    manner = Manner(detection, options.duck)
    with _lanes(options, library, progress) as lanes:
        results = asyncio.run(_run(lanes, [*chosen, *clips], manner, progress))
        requests = [each for lane in lanes for each in _requests(lane)]
    found = figures(results.takes)
    found |= early_starts(results.takes, requests) | vad_figures(results.detected)
    for take in results.takes:
        if (wrong := went_wrong(take)) is not None:
            progress.problem(f"{take.scenario.name}: {wrong}")
    if options.trace is not None:
        options.trace.write_bytes(b"".join(map(encode, results.lines)))
    if options.plot is not None:
        plot.draw(plot.one_of_each(results.takes), options.plot)
    return found


def _choose(library: Library, options: Options) -> tuple[list[Scenario], list[Labelled]]:
    seeds = range(options.seed, options.seed + options.repeat)
    chosen = [each for seed in seeds for each in scenarios(library, seed)]
    clips = library.labelled()
    if options.url:
        # Only the stand-in can be told to say what was recorded as an echo.
        chosen = [each for each in chosen if each.echo is None]
    if options.scenarios:
        names = options.scenarios.split(",")
        chosen = list(filter(named(names), chosen))
        clips = clips if "vad" in names else []
    return (quick(chosen), clips[:4]) if options.quick else (chosen, clips)


@contextmanager
def _lanes(options: Options, library: Library, progress: Progress) -> Generator[list[Lane]]:
    if options.url is not None:
        yield [Lane(options.url)] * options.at_once
        return
    logs = Path(tempfile.mkdtemp(prefix="mimo-live-eval-"))
    try:
        with ExitStack() as programs:
            lanes: list[Lane] = []
            for number in range(options.at_once):
                (logs / str(number)).mkdir()
                model = _own(options, _spoken_from(library), logs / str(number), progress)
                lanes.append(programs.enter_context(model))
            yield lanes
    except StartError:
        raise
    except BaseException:
        shutil.rmtree(logs)
        raise
    shutil.rmtree(logs)


def _spoken_from(library: Library) -> Path | None:
    """Where the recordings are that the agent has to speak, to hear the echo of."""
    return next((echo.spoken.parent for echo in library.echoes()), None)


@contextmanager
def _own(options: Options, speak: Path | None, logs: Path, progress: Progress) -> Generator[Lane]:
    words = ["--port", "0", "--first-chunk-ms", str(options.first_chunk_ms), "--rtf", "0.5"]
    words += ["--groups", str(GROUPS)]
    words += ["--speak", str(speak.resolve())] if speak else []
    with started(STAND_IN, words, logs, progress.waiting) as model_url:
        serve = ["serve", "--port", "0", "--model-url", model_url]
        with started(SERVER, serve, logs, progress.waiting) as url:
            yield Lane(url, model_url)


async def _run(
    lanes: list[Lane], waiting: list[Scenario | Labelled], manner: Manner, progress: Progress
) -> Results:
    """Hold all calls, each lane one after the other."""
    results = Results()
    chosen = [each for each in waiting if isinstance(each, Scenario)]
    progress.total = len(waiting)

    async def work(lane: Lane) -> None:
        if lane.model_url is not None and chosen:
            # What a server does for the first time takes longer: no figure is to tell of that.
            await call(lane.url, chosen[0], manner, lambda _: None)
        while waiting:
            job = waiting.pop(0)
            with progress.on(f"vad/{job.name}" if isinstance(job, Labelled) else job.name):
                if isinstance(job, Labelled):
                    results.detected.append(await detect(lane.url, job))
                    continue
                lines: list[Line] = []
                take = await call(lane.url, job, manner, lines.append)
                results.takes.append(take)
                results.lines += [line(take.began_s, 0, "caller", {"scenario": job.name}), *lines]

    async with together() as tasks:
        for lane in lanes:
            tasks.create_task(work(lane))
    return results


def _requests(lane: Lane) -> list[Request]:
    """What the stand-in was asked, if there is one."""
    if lane.model_url is None:
        return []
    address = lane.model_url.removesuffix("/v1") + "/requests"
    answer: dict[str, Any] = json.loads(fetch(address, timeout_s=10, largest_bytes=2**24).body)
    return answer["requests"]
