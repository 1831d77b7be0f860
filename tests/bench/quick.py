"""`python -m tests.bench.quick`: the load benchmark in short, beside the last commit that had it.

10, 25 and 50 sessions of our server in their usual form, under three minutes. Figures are kept by
commit in `.bench/quick.json`. A shared core is not always as fast, so a ratio is given as measured,
and with the yardstick that was timed on the same core before and after each run.
"""

import argparse
import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.load import HEAD, Cost, Load, line, measure
from tests.drivers.processes import ROOT

KEPT = ROOT / ".bench" / "quick.json"
SESSIONS = (10, 25, 50)
CHANGED = "+changes"
"""Behind a commit's name, where files differ from it."""

Figures = dict[str, dict[str, Any]]
"""By the number of sessions."""


def git(*words: str) -> list[str]:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def commit_name() -> str:
    """The commit that is measured, and whether anything was changed since."""
    [commit] = git("rev-parse", "HEAD")
    return commit + (CHANGED if git("status", "--porcelain") else "")


def earlier(kept: dict[str, Figures], name: str) -> str | None:
    """The nearest commit before the one that is measured that has figures."""
    commits = git("rev-list", "HEAD")
    before = commits if name.endswith(CHANGED) else commits[1:]
    return next((commit for commit in before if commit in kept), None)


def ratios(now: Figures, then: Figures) -> list[str]:
    """Processor time a session-minute, by that of before."""
    lines: list[str] = []
    for sessions, figures in now.items():
        if sessions in then:
            cost, before = Cost(**figures), Cost(**then[sessions])
            measured = cost.cpu_s / before.cpu_s
            shown = f"{sessions} sessions: {measured:.2f} as measured"
            if cost.yardstick_ms and before.yardstick_ms:
                evened = measured * before.yardstick_ms / cost.yardstick_ms
                shown += f", {evened:.2f} by the yardstick"
            lines.append(shown)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.quick", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each run (%(default)s)")
    parser.add_argument("--kept", type=Path, default=KEPT, help="figures by commit (%(default)s)")
    options = parser.parse_args()
    file: Path = options.kept
    kept: dict[str, Figures] = json.loads(file.read_text()) if file.exists() else {}
    now: Figures = {}
    print(HEAD)
    for sessions in SESSIONS:
        cost = measure(Load(sessions, options.seconds))
        now[str(sessions)] = asdict(cost)
        print(line(cost), flush=True)
    name = commit_name()
    if commit := earlier(kept, name):
        print(f"\nCPU-s a session-minute, by those of {commit[:12]}:")
        print("\n".join(ratios(now, kept[commit])))
    else:
        print(f"\nno earlier commit has figures in {file}")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(kept | {name: now}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
