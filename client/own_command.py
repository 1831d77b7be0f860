"""The command itself, written so that it can be pasted where the user is."""

import os
import shlex
import shutil
import sys
from pathlib import Path

QUESTION = Path(__file__).parent.parent / "tests" / "data" / "weather_question.wav"


def own_command() -> str:
    """`mimo-live`, or the path to it where a shell would find none, or another one."""
    script = Path(sys.executable).with_name("mimo-live")
    if not script.is_file():
        return f"{shlex.quote(sys.executable)} -m client.cli"
    found = shutil.which("mimo-live")
    if found is not None and Path(found).absolute() == script.absolute():
        return "mimo-live"
    shown = _from_here(script)
    return shown if "/" in shown else f"./{shown}"


def example_question() -> str:
    """A recording of a question that is there."""
    return _from_here(QUESTION) if QUESTION.is_file() else "QUESTION.wav"


def _from_here(path: Path) -> str:
    here, path = Path(os.getcwd()), path.absolute()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return shlex.quote(str(shown))
