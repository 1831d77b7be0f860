"""Text to speech with Piper: one clause in, its sound out.

piper-tts and the espeak-ng inside it are under GPL-3.0-or-later. They are imported here only,
in a process that the conversation server reaches over HTTP.
"""

import json
import re
from pathlib import Path

import onnxruntime
from piper import PiperVoice, SynthesisConfig
from piper.config import PiperConfig

_SPOKEN = [
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
    (re.compile(r"[$]\s?(\d+(?:\.\d+)?)"), r"\1 dollars"),
    (re.compile(r"€\s?(\d+(?:\.\d+)?)"), r"\1 euros"),
    (re.compile(r"°\s?C\b"), " degrees Celsius"),
    (re.compile(r"°\s?F\b"), " degrees Fahrenheit"),
    (re.compile(r"°"), " degrees"),
    (re.compile(r"(?<=\d)\s?[x*\u00d7]\s?(?=\d)"), " times "),
    (re.compile(r"(?<=\d)\s?\+\s?(?=\d)"), " plus "),
    (re.compile(r"\s?=\s?(?=\d)"), " equals "),
    (re.compile(r"&"), " and "),
]


class Synthesiser:
    """A Piper voice on `threads` threads. Not to be called from two threads at once."""

    def __init__(self, voice: Path, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin for work starve the language model, which runs at the same time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings = json.loads(voice.with_name(voice.name + ".json").read_text(encoding="utf-8"))
        self._voice = PiperVoice(
            session=onnxruntime.InferenceSession(
                str(voice), sess_options=options, providers=["CPUExecutionProvider"]
            ),
            config=PiperConfig.from_dict(settings),
        )
        self._manner = SynthesisConfig(volume=0.7)

    @property
    def rate(self) -> int:
        """Samples a second of what `say` returns."""
        return self._voice.config.sample_rate

    def say(self, text: str) -> bytes:
        """Return mono PCM16 at `rate`; nothing for a text without anything to pronounce."""
        # Double square brackets would be read as raw phonemes.
        plain = spoken(text).replace("[[", " ").replace("]]", " ")
        return b"".join(
            chunk.audio_int16_bytes for chunk in self._voice.synthesize(plain, self._manner)
        )


def spoken(text: str) -> str:
    """Write out the signs that espeak-ng would name or skip: amounts, degrees, sums."""
    for sign, words in _SPOKEN:
        text = sign.sub(words, text)
    return " ".join(text.split())
