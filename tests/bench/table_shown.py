"""What `tests.bench.table` measured, as tables in Markdown and as a picture."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, cast

from tests.bench import history
from tests.bench.load import Cost, shown
from tests.bench.servers import OURS, PEERS

Results = dict[str, Any]
"""By the name of the step; what it measured is as JSON has it."""
SERVERS = (OURS, *PEERS)
SESSIONS = (1, 10, 30, 35, 50, 60, 75, 100, 150, 200)
"""Beside 25, which is measured in turns."""
ROUNDS = 3
VARIANTS = ("binary", *PEERS, "JSON", "guard", "semantic_vad")
"""At 25 sessions, of our server if not a peer's name."""
FULL_MS = 50
"""Relay, p99, beyond which a core has too many sessions: a listener's buffer is about as long."""


def at_25(server: str) -> str:
    return "binary" if server == OURS else server


def is_overloaded(cost: Cost) -> bool:
    return cost.overloaded > 0 or cost.relay_p99_ms is None or cost.relay_p99_ms > FULL_MS


def rounds(variant: str, results: Results) -> list[Cost]:
    """The runs with 25 sessions, those that there are."""
    names = [f"25 {variant} {turn + 1}" for turn in range(ROUNDS)]
    return [Cost(**results[name]) for name in names if name in results]


def middle(costs: list[Cost]) -> Cost:
    """The run whose processor time is the median."""
    return sorted(costs, key=lambda cost: cost.cpu_s)[len(costs) // 2]


def rows(server: str, results: Results) -> list[Cost]:
    """A run for each number of sessions, the middle one where there are several."""
    found = [results.get(f"{sessions} {server}") for sessions in SESSIONS]
    costs = [Cost(**each) for each in found if each]
    if turns := rounds(at_25(server), results):
        costs.append(middle(turns))
    return sorted(costs, key=lambda cost: cost.sessions)


def tables(results: Results) -> str:
    parts = [*_capacity(results), *_turns(results), *_resources(results)]
    if turns := results.get("history"):
        parts.append(history.table([history.Turn(**each) for each in turns]))
    return "\n".join(parts)


def _capacity(results: Results) -> Iterator[str]:
    of_each = "CPU-s a session-minute | core | chunk → client, p50 / p99, ms | asked, p50 / p99, ms"
    yield f"\n| sessions | {' | '.join(f'{server}: {of_each}' for server in SERVERS)} |"
    yield "|---" * (1 + 4 * len(SERVERS)) + "|"
    by_server = {server: rows(server, results) for server in SERVERS}
    for sessions in sorted({cost.sessions for costs in by_server.values() for cost in costs}):
        cells = [_cells(sessions, costs) for costs in by_server.values()]
        yield f"| {sessions} | {' | '.join(cells)} |"
    for server, costs in by_server.items():
        if fits := [cost.sessions for cost in costs if not is_overloaded(cost)]:
            yield f"\n{server}: {max(fits)} sessions fit on a core, of the numbers measured."


def _cells(sessions: int, costs: list[Cost]) -> str:
    """A server's part of a line."""
    for cost in costs:
        if cost.sessions == sessions:
            late = f"{shown(cost.relay_p50_ms)} / {shown(cost.relay_p99_ms)}"
            late += f", {cost.overloaded} lost sound" if cost.overloaded else ""
            asked = f"{shown(cost.asked_p50_ms, 0)} / {shown(cost.asked_p99_ms, 0)}"
            return f"{cost.cpu_s:.2f} | {cost.core_percent:.0f} % | {late} | {asked}"
    return " | | | "


def _turns(results: Results) -> Iterator[str]:
    head = "| 25 sessions | CPU-s a session-minute | chunk → client, p50 / p99, ms |"
    yield f"\n{head}\n|---|---|---|"
    for variant in VARIANTS:
        if costs := rounds(variant, results):
            every = ", ".join(f"{cost.cpu_s:.2f}" for cost in costs)
            relay = [
                median([getattr(cost, each) or 0 for cost in costs])
                for each in ("relay_p50_ms", "relay_p99_ms")
            ]
            cpu_s = median(cost.cpu_s for cost in costs)
            times = f"{relay[0]:.1f} / {relay[1]:.1f}"
            yield f"| {variant} | {cpu_s:.2f} ({every}) | {times} |"
    ours = rounds("binary", results)
    for peer in PEERS:
        if ours and (theirs := rounds(peer, results)):
            pairs = zip(ours, theirs, strict=False)
            ratios = [their.cpu_s / own.cpu_s for own, their in pairs]
            every = ", ".join(f"{each:.2f}" for each in ratios)
            yield f"\nOf {peer}, by ours, each pair in turn: {median(ratios):.2f} ({every})."


def _resources(results: Results) -> Iterator[str]:
    yield "\n| | started | first session adds | one more, idle | one more, after ten turns |"
    yield "|---|---|---|---|---|"
    for server in SERVERS:
        if found := results.get(f"memory {server}"):
            sizes = [f"{found[each]:.1f} MB" for each in ("started", "first", "idle", "used")]
            yield f"| {server} | {' | '.join(sizes)} |"
    yield "\n| start | median (all), s |\n|---|---|"
    for name in (*SERVERS, "client"):
        if found := results.get(f"start {name}"):
            every = ", ".join(f"{each:.2f}" for each in found)
            yield f"| {name} | {median(found):.2f} ({every}) |"
    yield ""


def plot(results: Results, file: Path) -> None:
    """Draw what a session costs, and the relay's p99, over the number of sessions."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "load"
    from matplotlib import pyplot  # noqa: PLC0415

    _, (cost_axes, relay_axes) = cast(Any, pyplot).subplots(1, 2, figsize=(10, 4))
    for server, color in zip(SERVERS, ("#1b6b57", "#a33022"), strict=True):
        costs = rows(server, results)
        numbers = [cost.sessions for cost in costs]
        look = {"color": color, "label": server, "marker": "o"}
        cost_axes.plot(numbers, [cost.cpu_s for cost in costs], **look)
        relays = [(cost.sessions, cost.relay_p99_ms) for cost in costs if cost.relay_p99_ms]
        relay_axes.plot(*zip(*relays, strict=True), **look)
    relay_axes.axhline(FULL_MS, color="#888888", linestyle=":")
    relay_axes.set_yscale("log")
    cost_axes.set_ylim(bottom=0)
    cost_axes.set_ylabel("CPU-s a session-minute")
    relay_axes.set_ylabel("relay p99, ms, logarithmic")
    for axes in (cost_axes, relay_axes):
        axes.set_xlabel("sessions on one core")
        axes.grid(alpha=0.3)
        axes.legend()
    cast(Any, pyplot).tight_layout()
    cast(Any, pyplot).savefig(file, metadata={"Date": None})
    cast(Any, pyplot).close()
