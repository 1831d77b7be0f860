"""The API keys that a server knows, from the environment or from files."""

from collections.abc import Mapping
from pathlib import Path

from agent.errors import SettingsError
from agent.keys import LARGEST_FILE, read_key


def find_key(environment: Mapping[str, str], variable: str, file: str, setting: str) -> str | None:
    """Return a key: from the environment, else from the file that a setting names.

    Raises:
        SettingsError: If the file can't be read, or what is found is no key; never shows it.
    """
    if key := read_key(environment.get(variable, ""), f"the environment variable {variable}"):
        return key
    if not file:
        return None
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SettingsError(f"{setting}: can't read {file}: {error}") from error
    key = read_key(content, f"{setting}: {file}")
    if not key:
        raise SettingsError(f"{setting}: {file} is empty; a key was expected")
    return key
