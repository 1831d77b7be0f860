"""Since when the user has been silent, found in the sound itself.

A detector goes on hearing speech for a moment after its end, the longer the louder the room is.
"""

import numpy as np

from agent.audio import RATE, SAMPLE_BYTES, milliseconds, samples_in
from agent.floor.states import Silence
from agent.hearing.buffer import InputAudio
from agent.hearing.endpointing import Endpointer

_FRAME = samples_in(10)
_LOOKED_AT = samples_in(1_500)
"""So much of an utterance tells how loud its voice is."""
_LATEST = samples_in(160)
"""No detector notices the end later than this; farther back it would be a word that is missed."""
_GONE_DB = 35.0
_NOISE_FRAMES = 8
_OVER_NOISE_DB = 4.0


def silence(buffer: InputAudio, start: int, endpointer: Endpointer) -> Silence:
    """Since the voice of the utterance that begins at a sample died away."""
    heard = endpointer.speech_end
    first = max(start, heard - _LOOKED_AT)
    found = first + end_of_voice(buffer.cut(first, endpointer.now))
    end = min(heard, max(heard - _LATEST, found))
    # Sound that has come and is still to be judged has lasted as well.
    return Silence((buffer.received - end) / RATE, milliseconds(end))


def end_of_voice(pcm: bytes) -> int:
    """Sample at which a voice sinks into the noise that mono PCM16 ends with; its end if none
    stands out."""
    count = len(pcm) // SAMPLE_BYTES
    frames = np.frombuffer(pcm, "<i2")[: count // _FRAME * _FRAME].astype(np.float32) / 2**15
    if not frames.size:
        return count
    levels = 10 * np.log10((frames.reshape(-1, _FRAME) ** 2).mean(axis=1) + 1e-12)
    noise = float(levels[-_NOISE_FRAMES:].mean())
    audible = np.flatnonzero(levels > max(float(levels.max()) - _GONE_DB, noise + _OVER_NOISE_DB))
    return (int(audible[-1]) + 1) * _FRAME if audible.size else count
