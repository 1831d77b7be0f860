"""`python -m tests.bench.table`: our server beside its peers, all that docs/performance.md has.

Each step is a run of its own, told by a name such as `25 pipecat`; results are written as they
come, and a step that has one already is left out, so that what was stopped goes on. Names that are
given choose steps, with `*` for any; `--again` measures them anew and keeps what was before.

The numbers of sessions rise until the relay's p99 is above 50 ms or a caller does not hear all.
At 25 sessions, and for what our server does otherwise, servers and settings take turns three times:
the speed of a shared core changes within minutes.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import history, resources
from tests.bench.client import listening_s
from tests.bench.load import Load, measure
from tests.bench.servers import PEERS
from tests.bench.table_shown import (
    ROUNDS,
    SERVERS,
    SESSIONS,
    VARIANTS,
    Results,
    is_overloaded,
    plot,
    rows,
    tables,
)
from tests.drivers.processes import ROOT

RESULTS = ROOT / "docs" / "images" / "load.json"
STARTS = 7
CONVERSATIONS = 9
LOADS = {
    "binary": partial(Load),
    "JSON": partial(Load, binary=False),
    "guard": partial(Load, guarded=True),
    "semantic_vad": partial(Load, detection="semantic_vad"),
}
"""What our server is asked to do at 25 sessions, beside each other."""
assert set(VARIANTS) <= set(LOADS) | set(PEERS)

Step = tuple[str, Callable[[], Any]]


def steps(seconds: float) -> Iterator[Step]:
    """All of the table, in the order in which it is measured."""
    for turn in range(ROUNDS):
        for variant in VARIANTS:
            load = partial(Load, server=variant) if variant in PEERS else LOADS[variant]
            yield f"25 {variant} {turn + 1}", partial(_cost, load(25, seconds))
    for sessions in SESSIONS:
        for server in SERVERS:
            load = Load(sessions, seconds, server)
            yield f"{sessions} {server}", partial(_cost, load)
    for server in SERVERS:
        yield f"memory {server}", partial(_memory, server)
        yield f"start {server}", partial(resources.start_s, server, STARTS)
    yield "start client", partial(listening_s, ("--plain",), STARTS)
    yield "history", _history


def _cost(load: Load) -> Any:
    return asdict(measure(load))


def _memory(server: str) -> Any:
    return asdict(resources.memory(server))


def _history() -> Any:
    return [asdict(turn) for turn in history.measure(CONVERSATIONS)]


def passed_over(name: str, results: Results) -> str:
    """Why a step need not be run, if so: what it loads is full with fewer sessions."""
    words = name.split(" ")
    if len(words) != 2 or not words[0].isdigit():
        return ""
    sessions, server = int(words[0]), words[1]
    full = [each for each in rows(server, results) if is_overloaded(each)]
    numbers = [each.sessions for each in full if each.sessions < sessions]
    return f"{numbers[0]} sessions were already too many" if numbers else ""


def run(name: str, step: Callable[[], Any], results: Results, file: Path) -> None:
    measured = step()
    if name in results:
        results[f"{name} (before)"] = results[name]
    results[name] = measured
    file.write_text(json.dumps(results, indent=0, allow_nan=False) + "\n", encoding="utf-8")
    shown = json.dumps(results[name])
    print(f"{name}: {shown[:300]}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.table", description=__doc__)
    parser.add_argument("names", nargs="*", default=["*"], help="of steps, all if none is given")
    parser.add_argument("--seconds", type=float, default=20, help="of each run (%(default)s)")
    parser.add_argument("--again", action="store_true", help="what has a result already, too")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON (%(default)s)")
    parser.add_argument("--plot", type=Path, default=RESULTS.with_suffix(".svg"))
    parser.add_argument("--list", action="store_true", help="print the names of all steps")
    options = parser.parse_args()
    file: Path = options.results
    results: Results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name, step in steps(options.seconds):
        if options.list:
            print(name)
            continue
        is_wanted = any(fnmatch(name, pattern) for pattern in options.names)
        if not is_wanted or (name in results and not options.again):
            continue
        if why := passed_over(name, results):
            print(f"{name}: not measured, {why}", file=sys.stderr, flush=True)
            continue
        run(name, step, results, file)
    if not options.list:
        print(tables(results))
        plot(results, options.plot)


if __name__ == "__main__":
    main()
