"""A virtual sound card: a PulseAudio of its own, with a microphone and a loudspeaker of air.

Programs started with `VirtualAudio.environment` find it as their default devices. It needs
no sound card, no session bus and no privilege, and any number may run side by side.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

MICROPHONE, LOUDSPEAKER = "microphone_air", "loudspeaker_air"

HEADER_BYTES = 44

MODULES = f"""\
load-module module-native-protocol-unix socket={{socket}} auth-anonymous=1
load-module module-null-sink sink_name={LOUDSPEAKER} rate=48000 channels=1
load-module module-null-sink sink_name={MICROPHONE} rate=48000 channels=1
load-module module-remap-source master={MICROPHONE}.monitor source_name=microphone
set-default-sink {LOUDSPEAKER}
set-default-source microphone
"""

ALSA = """\
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
"""

_STRICT = """
# The real package, on real devices, but they take one form only.
import os, sys

sys.path.remove(os.path.dirname(__file__))
del sys.modules["sounddevice"]
import sounddevice

def only(stream, rate, channels):
    def open_stream(**options):
        if options["samplerate"] != rate:
            raise sounddevice.PortAudioError("Error opening RawStream: Invalid sample rate")
        if options["channels"] != channels:
            raise sounddevice.PortAudioError("Error opening RawStream: Invalid number of channels")
        return stream(**options)
    return open_stream

def query_devices(device=None, kind=None, ask=sounddevice.query_devices):
    found = ask(device, kind)
    if kind:
        form = {0} if kind == "input" else {1}
        found |= dict(default_samplerate=float(form[0]))
        found[f"max_{{kind}}_channels"] = form[1]
    return found

sounddevice.RawInputStream = only(sounddevice.RawInputStream, *{0})
sounddevice.RawOutputStream = only(sounddevice.RawOutputStream, *{1})
sounddevice.query_devices = query_devices
"""


def strict_devices(folder: Path, microphone: tuple[int, int], loudspeaker: tuple[int, int]) -> None:
    """Have a program whose PYTHONPATH is this folder find devices of one rate and channels each."""
    (folder / "sounddevice.py").write_text(_STRICT.format((*microphone,), (*loudspeaker,)))


def is_installed() -> bool:
    return all(map(shutil.which, ("pulseaudio", "paplay", "parecord", "pactl")))


class VirtualAudio(NamedTuple):
    environment: dict[str, str]

    def say(self, wav_file: Path) -> "subprocess.Popen[bytes]":
        """Speak a file into the microphone, in real time."""
        return self._run("paplay", f"--device={MICROPHONE}", str(wav_file))

    @contextmanager
    def ear(self, wav_file: Path) -> Generator[None]:
        """Record what the loudspeaker plays: 48 kHz, mono, 16 bits."""
        options = ("--rate=48000", "--channels=1", "--format=s16le", "--file-format=wav")
        source = f"--device={LOUDSPEAKER}.monitor"
        with self._run("parecord", source, *options, str(wav_file)) as recorder:
            try:
                # It misses what is played before a loudspeaker without a stream has gone on, at
                # most two seconds after it was made.
                while not wav_file.exists() or wav_file.stat().st_size <= HEADER_BYTES:
                    with suppress(subprocess.TimeoutExpired):
                        raise RuntimeError(f"parecord ended with {recorder.wait(0.05)}")
                yield
            finally:
                recorder.terminate()

    def couple(self) -> None:
        """Let the microphone hear the loudspeaker, as in a room."""
        words = ("load-module", "module-loopback", f"source={LOUDSPEAKER}.monitor")
        more = (f"sink={MICROPHONE}", "latency_msec=50")
        with self._run("pactl", *words, *more) as loading:
            assert loading.wait(10) == 0

    def plug_in(self, name: str, other: "VirtualAudio") -> None:
        """Make another sound card a device of this one; it is unplugged by its end."""
        address = other.environment["PULSE_SERVER"]
        described = f'hint {{ show on description "{name}" }}'
        with Path(self.environment["ALSA_CONFIG_PATH"]).open("a") as alsa:
            alsa.write(f'pcm.{name} {{ type pulse server "{address}" {described} }}\n')

    def _run(self, *words: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(words, env=self.environment)


@contextmanager
def virtual_audio() -> Generator[VirtualAudio]:
    """Run a virtual sound card until the block ends."""
    with tempfile.TemporaryDirectory(prefix="virtual-audio-") as folder:
        place = Path(folder)
        socket = place / "socket"
        (place / "modules").write_text(MODULES.format(socket=socket))
        (place / "alsa").write_text(ALSA)
        environment = os.environ | {
            "HOME": folder,
            "XDG_RUNTIME_DIR": folder,
            "PULSE_RUNTIME_PATH": folder,
            "PULSE_SERVER": f"unix:{socket}",
            "ALSA_CONFIG_PATH": str(place / "alsa"),
        }
        words = ["pulseaudio", "-n", f"--file={place / 'modules'}", "--daemonize=no"]
        words += ["--exit-idle-time=-1", "--use-pid-file=no"]
        with (place / "log").open("wb") as log:
            server = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        try:
            _await_ready(server, environment, place / "log")
            yield VirtualAudio(environment)
        finally:
            server.terminate()
            server.wait(10)


def _await_ready(server: "subprocess.Popen[bytes]", environment: dict[str, str], log: Path) -> None:
    for _ in range(100):
        ask = ["pactl", "list", "short", "sources"]
        answer = subprocess.run(ask, env=environment, capture_output=True, text=True, check=False)
        if "\tmicrophone\t" in answer.stdout:
            return
        try:
            server.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    raise RuntimeError(f"PulseAudio did not start:\n{log.read_text()}")
