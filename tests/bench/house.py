"""`python -m tests.bench.house`: how much of the code one has to know, in figures.

Files of `agent/` that a spoken turn enters from silence to first sound, and a barge-in from its
onset to the cut; the largest folders; classes with many attributes; lines of the product.
"""

import ast
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from agent.model.output import Text
from agent.realtime.config import SemanticVad
from tests.drivers.virtual_call import IS_SILENT, SECOND, SPEAKS, Call, config

ROOT = Path(__file__).parents[2]
PRODUCT = ("agent", "client", "server")
MOST_ATTRIBUTES = 8


@contextmanager
def entered() -> Generator[set[str]]:
    """The files of `agent/` whose functions a session calls meanwhile."""
    core, found = f"{ROOT / 'agent'}/", {"session.py"}

    def look(frame: FrameType, event: str, _: object) -> None:
        name, caller = frame.f_code.co_filename, frame.f_back
        by_core = caller is not None and caller.f_code.co_filename.startswith(core)
        if event == "call" and by_core and name.startswith(core):
            found.add(name.removeprefix(core))

    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(None)


def turn(call: Call) -> set[str]:
    call.user([SPEAKS] * 20)
    with entered() as files:
        while call.asked is None:
            call.user([IS_SILENT])
        call.model(Text("It is "), SECOND)
        call.user([IS_SILENT] * 40)
    return files


def barge_in(call: Call) -> set[str]:
    call.model(*[SECOND] * 4)
    call.told()
    with entered() as files:
        while "input_audio_buffer.speech_started" not in call.told():
            call.user([SPEAKS])
    return files


def attributes(source: Path) -> Iterator[tuple[str, int]]:
    """Each class of a file that is no record, and how many attributes its instances set."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ClassDef):
            names = {
                each.attr
                for each in ast.walk(node)
                if isinstance(each, ast.Attribute)
                and isinstance(each.ctx, ast.Store)
                and isinstance(each.value, ast.Name)
                and each.value.id == "self"
            }
            yield node.name, len(names)


def main() -> None:
    call = Call(config(SemanticVad()))
    for name, files in (("turn", turn(call)), ("barge-in", barge_in(call))):
        print(f"{name}: {len(files)} files of agent/: {', '.join(sorted(files))}")
    for folder in (*PRODUCT, "tests"):
        found = Counter(each.parent for each in (ROOT / folder).rglob("*.py"))
        largest, count = found.most_common(1)[0]
        print(f"largest folder of {folder}/: {largest.relative_to(ROOT)}, {count} files")
    for folder in PRODUCT:
        for source in sorted((ROOT / folder).rglob("*.py")):
            for name, count in attributes(source):
                if count > MOST_ATTRIBUTES:
                    print(f"{count} attributes: {name} in {source.relative_to(ROOT)}")
    suffixes = {".py", ".js", ".css", ".html"}
    sources = [
        each for folder in PRODUCT for each in (ROOT / folder).rglob("*") if each.suffix in suffixes
    ]
    print(f"product: {sum(len(each.read_text().splitlines()) for each in sources)} lines")


if __name__ == "__main__":
    main()
