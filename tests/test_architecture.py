"""The shape of the project: who may import whom, and how long a file may be."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "agent": {"agent"},
    "server": {"agent", "server"},
    "server/embedded": {"agent", "server.embedded"},
    "client": {"agent", "client"},
}
NEVER_IN_AGENT = {"asyncio", "os", "pathlib", "random", "secrets", "socket", "threading", "time"}
FLOORS = (
    {"realtime"},
    {"model"},
    {"commands", "policy"},
    {"floor", "conversation"},
    {"hearing", "speaking", "metrics"},
    {"session"},
    {"trace"},
)
"""What `agent/` is built of, from the ground up; all else in it is the ground, such as `audio`."""
LONGEST = 300
LONGER = {
    "agent/floor/states.py": "every state, event and action of the floor, one line of theory each",
    "agent/floor/step.py": "the whole transition function: a part of it can't be judged alone",
    "agent/hearing/microphone.py": "one state machine, from a frame to what it means",
}
"""What would be harder to follow in pieces, and why."""


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def floor_of(room: str) -> int:
    return next((level for level, rooms in enumerate(FLOORS) if room in rooms), -1)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_point_to_the_agent_only(folder: str):
    ours = {"agent", "server", "client"}
    for source in sources(folder):
        allowed = MAY_IMPORT[folder]
        if folder == "server" and "embedded" in source.parts:
            continue
        for name in imports(source):
            if name.split(".")[0] in ours:
                fits = any(name == each or name.startswith(f"{each}.") for each in allowed)
                assert fits, f"{source.relative_to(ROOT)} imports {name}"


def test_the_server_names_no_module_of_the_client():
    for source in sources("server"):
        for node in ast.walk(ast.parse(source.read_text())):
            named = node.value if isinstance(node, ast.Constant) else ""
            where = f"{source.relative_to(ROOT)}: {named!r}"
            assert not re.fullmatch(r"client(\.\w+)+", str(named)), where


def test_the_agent_does_no_io_and_reads_neither_clock_nor_chance():
    for source in sources("agent"):
        found = {name.split(".")[0] for name in imports(source)} & NEVER_IN_AGENT
        assert not found, f"{source.relative_to(ROOT)} imports {found}"


def test_no_room_of_the_agent_knows_one_beside_or_above_it():
    for source in sources("agent"):
        own = source.relative_to(ROOT / "agent").with_suffix("").parts[0]
        for name in imports(source):
            room = name.removeprefix("agent.").split(".")[0]
            if name.startswith("agent.") and room != own and floor_of(room) >= 0:
                where = source.relative_to(ROOT)
                assert floor_of(room) < floor_of(own), f"{where} imports {name}"


@pytest.mark.parametrize("folder", ["agent", "client", "server"])
def test_each_figure_is_explained_where_it_stands(folder: str):
    for source in sources(folder):
        lines = source.read_text().splitlines()
        body = ast.parse(source.read_text()).body
        for statement, after in pairwise([*body, ast.Pass()]):
            if is_figure(statement):
                above, below = lines[statement.lineno - 2], isinstance(after, ast.Expr)
                where = f"{source.relative_to(ROOT)}:{statement.lineno}"
                assert below or above.startswith("#"), f"{where}: what does this figure trade?"


def is_figure(statement: ast.stmt) -> bool:
    """Whether it names a number or several; tables and derived values explain themselves."""
    match statement:
        case ast.Assign([ast.Name(name) | ast.Tuple([ast.Name(name), *_])], value):
            within = list(ast.walk(value))
        case _:
            return False
    numbers = [each for each in within if isinstance(each, ast.Constant)]
    is_plain = all(isinstance(each.value, int | float) for each in numbers)
    is_table = isinstance(value, ast.Dict | ast.Subscript)
    return name.isupper() and bool(numbers) and is_plain and not is_table


def test_no_file_is_longer_than_a_reader_can_hold():
    for folder in ("agent", "server", "client"):
        for source in sources(folder):
            name = source.relative_to(ROOT).as_posix()
            lines = len(source.read_text().splitlines())
            assert lines <= LONGEST or name in LONGER, f"{name}: {lines} lines"
