"""The API keys that this side shows, from the environment or from a file."""

import os
from pathlib import Path

from agent.errors import SettingsError
from agent.keys import LARGEST_FILE, read_key


def key_of_environment(variable: str) -> str | None:
    """Return the key that a variable holds.

    Raises:
        SettingsError: If it holds something that is no key; never shows it.
    """
    return read_key(os.environ.get(variable, ""), f"the environment variable {variable}") or None


def key_of_file(path: Path) -> str:
    """Return the key that a file holds.

    Raises:
        SettingsError: If it can't be read or holds none; never shows what it holds.
    """
    try:
        with path.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    key = read_key(content, str(path))
    if not key:
        raise SettingsError(f"{path} is empty; a key was expected")
    return key


def authorization(key: str | None) -> dict[str, str]:
    """The headers that show a key, if there is one."""
    return {"Authorization": f"Bearer {key}"} if key else {}
