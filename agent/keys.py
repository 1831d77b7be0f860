"""API keys as people store them: read in one way, whoever wants them and wherever they lie."""

import re

from agent.errors import SettingsError
from agent.text_file import text_in

SERVER = "MIMO_LIVE_API_KEY"
"""Environment variable: what clients show the conversation server."""
MODEL = "MIMO_LIVE_MODEL_API_KEY"
"""Environment variable: what a model server is shown, by the server and by `mimo-live ask`."""
TRANSCRIPTION = "MIMO_LIVE_TRANSCRIPTION_API_KEY"
"""Environment variable: what a recogniser at `transcription.url` is shown."""

LARGEST_FILE = 2**14
"""Bytes; whoever names another file by mistake need not wait until it is read."""

_AROUND = re.compile(r"^[\s\ufeff]+|[\s\ufeff]+$")
_SENDABLE = re.compile(r"[!-~]+")


def read_key(found: str | bytes, source: str) -> str:
    """Take off what editors and shells leave around a key: blanks, line ends, a byte order mark.

    Returns:
        The key, or nothing if there is none.

    Raises:
        SettingsError: If what is left can't go into an HTTP header; names `source`, never the key.
    """
    if isinstance(found, bytes):
        found = text_in(found, errors="replace")
    key = _AROUND.sub("", found)
    if key and (len(key) > LARGEST_FILE or not _SENDABLE.fullmatch(key)):
        raise SettingsError(
            f"{source} holds no API key: one line of ASCII letters, digits and signs was expected, "
            "without blanks inside"
        )
    return key


def redacted(text: str, key: str | None) -> str:
    """Take the key out of what somebody else says, for logs and for people."""
    return text.replace(key, "[key]") if key else text
