"""Samples of voices, read once at start. Clients name one; no name ever becomes a path."""

from pathlib import Path

from agent.audio import read_wav, seconds
from agent.errors import AudioError, SettingsError
from agent.speaking.speaker import DEFAULT_VOICE
from server.settings import Persona

SHORTEST_S = 0.5
"""Less tells the model nothing about a voice."""
LONGEST_S = 60.0
"""A sample stays in the model's context for the whole session, 6.25 positions a second."""


def load_voices(persona: Persona) -> dict[str, bytes]:
    """Return the samples by name, as mono PCM16 at 24 kHz.

    Raises:
        SettingsError: If a file can't be read or has an unfit length; names key and file.
    """
    folder = Path(persona.voices)
    if persona.voices and not folder.is_dir():
        raise SettingsError(f"persona.voices: {folder} is not a folder")
    found = sorted(folder.iterdir()) if persona.voices else []
    files = [file for file in found if file.suffix.lower() == ".wav"]
    voices = {file.stem: _sample(file, "persona.voices") for file in files}
    if persona.voice:
        voices[DEFAULT_VOICE] = _sample(Path(persona.voice), "persona.voice")
    return voices


def _sample(file: Path, key: str) -> bytes:
    try:
        pcm = read_wav(file.read_bytes())
    except (OSError, AudioError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{key}: {file}: {reason}") from error
    if not SHORTEST_S <= seconds(pcm) <= LONGEST_S:
        allowed = f"{SHORTEST_S} to {LONGEST_S:.0f} s are accepted"
        raise SettingsError(f"{key}: {file} has {seconds(pcm):.1f} s of sound; {allowed}")
    return pcm
