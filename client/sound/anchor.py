"""Keeps sound from being late after an underrun on PulseAudio.

PortAudio then has ALSA's plug-in end its stream and begin another. A sink without a stream works
up to two seconds ahead; where it can't take that back, as a null sink can't, the new stream is
late by as much. So there is a second stream, to which nothing is ever written: it makes no sound,
can't run dry, and has the sink go in short steps.
"""

import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import cast

from agent.audio import samples_in
from client.sound.device_sound import Form
from client.sound.portaudio import PortAudio

STEP_MS = 10
"""Half of what a new stream starts with; where a step takes all of that, it runs dry again."""


@contextmanager
def anchored(portaudio: PortAudio, name: str | None, form: Form) -> Generator[None]:
    """Keep the sink of a loudspeaker that takes `form` from working ahead until the block ends."""
    with ExitStack() as opened:
        if sys.platform == "linux":
            with suppress(portaudio.PortAudioError):
                _anchor(portaudio, name, form, opened)
        yield


def _anchor(portaudio: PortAudio, name: str | None, form: Form, opened: ExitStack) -> None:
    device = cast(dict[str, str], portaudio.query_devices(name, "output"))
    # A card without a sound system takes one stream only, and the second waits for it.
    if "(hw:" in device["name"]:
        return
    stream = portaudio.RawOutputStream(
        device=name,
        samplerate=form.rate,
        blocksize=samples_in(STEP_MS, form.rate),
        channels=form.channels,
        dtype="int16",
        latency="low",
    )
    opened.callback(stream.close)
    stream.start()
