"""Where conversations are saved, and whether a file can be, before anything is said."""

import os
from datetime import datetime
from pathlib import Path

from agent.errors import AgentError


class SaveError(AgentError):
    """A file that was to be written can't be; names it, and says why."""


def new_conversation(now: datetime) -> Path:
    """Return the path of a conversation that is saved now, without its ending.

    It lies in a folder of the user's own, which no working tree has and nobody else can read.

    Raises:
        OSError: If that folder can't be made.
    """
    named = Path(os.environ.get("XDG_DATA_HOME", ""))
    base = named if named.is_absolute() else Path.home() / ".local" / "share"
    folder = base / "mimo-live" / "conversations"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"conversation-{now:%Y-%m-%d-%H%M%S}"


def check_writable(path: Path | None) -> None:
    """Find out now what would fail when there is something to lose; leaves no file behind.

    Raises:
        SaveError: If no file can be written there.
    """
    if path is None or path.is_fifo():
        return
    is_new = not path.exists()
    try:
        with path.open("ab"):
            pass
        if is_new:
            path.unlink()
    except OSError as error:
        raise SaveError(f"can't write to {path}: {error.strerror}") from error
