"""Commands for the user, written so that they can be pasted where the user is."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUESTION = ROOT / "tests" / "data" / "weather_question.wav"


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


def pasteable(text: str) -> str:
    """Write the commands in a help text, and the files they name, as they are from here."""
    text = re.sub(r"(?m)(^  |`)mimo-live(?= )", lambda found: found[1] + own_command(), text)
    named = r"(?<=[ (])(?:configs|tests)/[\w./-]*\w"
    return re.sub(named, lambda found: _from_here(ROOT / found[0]), text)


def _from_here(path: Path) -> str:
    here, path = Path(os.getcwd()), path.absolute()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return shlex.quote(str(shown))
