"""The page in a real browser, against a scripted server on a real socket."""

import base64
import json
import queue
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from agent.audio import RATE, Samples, read_wav, samples_in, wav
from tests.page import CHROMIUM, Caption, Event, TalkPage, talk_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")

PAGE = Path(__file__).parent.parent / "server" / "page"
QUESTION = Path(__file__).parent / "data" / "weather_question.wav"
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
AMPLITUDE, CYCLE_SAMPLES = 8000, 96
LARGEST_STEP = AMPLITUDE * 2 * np.pi / CYCLE_SAMPLES
"""Between two samples of the agent's voice, which is a tone of 250 Hz."""


class Peer:
    """The server's side of one call."""

    def __init__(self, socket: ServerConnection):
        self._socket = socket
        self.greet()

    def send(self, *events: Event) -> None:
        for event in events:
            self._socket.send(json.dumps(event))

    def greet(self) -> None:
        self.send(
            {"type": "session.created", "session": {"model": "a tone"}},
            {"type": "session.updated", "session": {"audio": {"input": {"turn_detection": None}}}},
        )

    def begin(self, response: str) -> None:
        self.send({"type": "response.created", "response": {"id": response}})

    def speak(self, response: str, duration_ms: int, words: str = "") -> None:
        of: Event = {"response_id": response, "item_id": f"item_{response}"}
        sound = base64.b64encode(tone(duration_ms).tobytes()).decode()
        self.send(
            of | {"type": "response.output_audio_transcript.delta", "delta": words},
            of | {"type": "response.output_audio.delta", "delta": sound},
        )

    def end(self, response: str, status: str = "completed") -> None:
        item = f"item_{response}"
        done = {"id": response, "status": status, "output": [{"id": item}]}
        self.send(
            {"type": "response.output_audio.done", "response_id": response, "item_id": item},
            {"type": "response.done", "response": done},
        )

    def hear_onset(self) -> None:
        self.send({"type": "input_audio_buffer.speech_started", "item_id": "item_user"})


class ScriptedServer:
    """Serves the page's files; every call is answered by the test."""

    def __init__(self):
        self._peers: queue.Queue[Peer] = queue.Queue()
        self._server: Server = serve(
            self._converse, "127.0.0.1", 0, process_request=serve_file, compression=None
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        port = self._server.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"

    def accept(self) -> Peer:
        return self._peers.get(timeout=15)

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()

    def _converse(self, socket: ServerConnection) -> None:
        self._peers.put(Peer(socket))
        try:
            for _ in socket:
                pass
        except ConnectionClosed:
            return


def serve_file(_: ServerConnection, request: Request) -> Response | None:
    if request.path == "/v1/realtime":
        return None
    file = PAGE / ("index.html" if request.path == "/" else request.path.removeprefix("/page/"))
    headers = Headers(
        {
            "Content-Type": TYPES[file.suffix],
            "Content-Security-Policy": "default-src 'self'",
            "Connection": "close",
        }
    )
    return Response(HTTPStatus.OK, "OK", headers, file.read_bytes())


def tone(duration_ms: int) -> Samples:
    """Begins and ends at zero, when it lasts whole cycles of 4 ms."""
    samples = np.arange(samples_in(duration_ms))
    return np.rint(AMPLITUDE * np.sin(2 * np.pi * samples / CYCLE_SAMPLES)).astype(np.int16)


def spans_ms(sound: npt.NDArray[np.int16]) -> list[float]:
    """How long each span of sound lasts; 10 ms of silence separate two."""
    sounding = np.flatnonzero(sound)
    gaps = np.flatnonzero(np.diff(sounding) > samples_in(10))
    starts = np.concatenate([sounding[:1], sounding[gaps + 1]])
    ends = np.concatenate([sounding[gaps], sounding[-1:]])
    return [1000 * float(length) / RATE for length in ends - starts + 1]


def envelope(pcm: bytes) -> npt.NDArray[np.float64]:
    """The level of every 20 ms."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    frames = samples[: len(samples) // 480 * 480].reshape(-1, 480)
    return np.sqrt((frames**2).mean(axis=1))


def played(talk: TalkPage) -> Samples:
    return np.frombuffer(talk.played(), "<i2")


@pytest.fixture
def server() -> Generator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()


@contextmanager
def call(
    server: ScriptedServer, folder: Path, *, separate_rates: bool = False
) -> Generator[tuple[TalkPage, Peer]]:
    """Open the page and call, with a microphone that is silent."""
    silence = folder / "silence.wav"
    silence.write_bytes(wav(bytes(96_000), rate=48_000))
    with talk_page(server.url, microphone=silence, separate_rates=separate_rates) as talk:
        talk.press_talk()
        peer = server.accept()
        talk.wait_for_phase("listening")
        yield talk, peer


def test_all_that_the_agent_says_is_played_once_and_captioned(
    server: ScriptedServer, tmp_path: Path
):
    with call(server, tmp_path) as (talk, peer):
        peer.begin("one")
        peer.speak("one", 200, "Good ")
        peer.speak("one", 40, "morning")
        peer.end("one")
        talk.wait_for_phase("agent")
        talk.wait_for_phase("listening")
        assert spans_ms(played(talk)) == pytest.approx([240], abs=0.1)
        assert talk.captions() == [Caption("Agent", "Good morning", interrupted=False)]
        talk.press_talk()
        talk.wait_for_phase("idle")


def test_a_cut_ends_at_the_sample_that_the_server_is_told_and_late_sound_is_dropped(
    server: ScriptedServer, tmp_path: Path
):
    with call(server, tmp_path) as (talk, peer):
        peer.begin("one")
        peer.speak("one", 8000)
        talk.wait_for_phase("agent")
        peer.hear_onset()
        peer.speak("one", 1000, "late")
        peer.end("one", "cancelled")
        truncate = talk.wait_for_sent("conversation.item.truncate")
        peer.send({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 100})
        peer.begin("two")
        peer.speak("two", 100)
        peer.end("two")
        talk.wait_for_phase("agent")
        talk.wait_for_phase("listening")

        sound = played(talk)
        assert truncate["item_id"] == "item_one"
        assert spans_ms(sound) == pytest.approx([truncate["audio_end_ms"], 100], abs=1)
        assert np.abs(np.diff(sound.astype(int))).max() <= LARGEST_STEP
        assert talk.captions() == [
            Caption("Agent", "", interrupted=True),
            Caption("Agent", "", interrupted=False),
        ]


def test_a_chunk_that_comes_too_late_makes_a_pause_without_a_click(
    server: ScriptedServer, tmp_path: Path
):
    with call(server, tmp_path) as (talk, peer):
        peer.begin("one")
        peer.speak("one", 200)
        talk.wait_for_phase("agent")
        talk.wait_for_silence()
        peer.speak("one", 100)
        peer.end("one")
        talk.wait_for_phase("listening")

        sound = played(talk)
        assert spans_ms(sound) == pytest.approx([200, 100], abs=0.1)
        assert np.abs(np.diff(sound.astype(int))).max() <= LARGEST_STEP


def test_a_blocked_microphone_is_said_and_one_can_type(server: ScriptedServer, tmp_path: Path):
    with talk_page(server.url, microphone=tmp_path / "unheard.wav", permission="denied") as talk:
        talk.press_talk()
        talk.wait_for_problem("The microphone is blocked")
        talk.type("Hello?")
        server.accept()
        create = talk.wait_for_sent("conversation.item.create")
        talk.wait_for_sent("response.create")
        content = [{"type": "input_text", "text": "Hello?"}]
        assert create["item"] == {"type": "message", "role": "user", "content": content}


def test_a_machine_without_microphone_is_told_so(server: ScriptedServer):
    with talk_page(server.url) as talk:
        talk.press_talk()
        talk.wait_for_problem("No microphone was found")
        talk.wait_for_phase("idle")


def test_the_page_outlives_its_server(server: ScriptedServer, tmp_path: Path):
    with call(server, tmp_path) as (talk, _):
        server.stop()
        talk.wait_for_problem("The connection to the server was lost")
        talk.wait_for_phase("idle")
        talk.press_talk()
        talk.wait_for_problem("The server can't be reached")
        talk.wait_for_phase("idle")


@pytest.mark.parametrize("separate_rates", [False, True])
def test_what_is_said_into_the_microphone_is_sent_at_24_khz(
    server: ScriptedServer, tmp_path: Path, separate_rates: bool
):
    question = read_wav(QUESTION.read_bytes(), 48_000)
    spoken = tmp_path / "question.wav"
    # The file begins when the microphone opens, the call somewhat later.
    spoken.write_bytes(wav(bytes(3 * 96_000) + question, rate=48_000))
    with talk_page(server.url, microphone=spoken, separate_rates=separate_rates) as talk:
        talk.press_talk()
        server.accept()
        heard = envelope(talk.wait_for_heard(6))
    said = envelope(read_wav(QUESTION.read_bytes()))
    windows = np.lib.stride_tricks.sliding_window_view(heard, len(said))
    # The browser evens out the level and removes noise: alike, not equal.
    assert max(np.corrcoef(window, said)[0, 1] for window in windows if window.any()) > 0.75


RESAMPLE = """
async ([from, to, frequency]) => {
  const { Resampler } = await import("/page/resample.js");
  const resampler = new Resampler(from, to);
  const output = [];
  for (let start = 0; start < from; start += 100) {
    const quantum = Float32Array.from({ length: 100 }, (_, index) =>
      Math.sin((2 * Math.PI * frequency * (start + index)) / from),
    );
    output.push(...resampler.push(quantum));
  }
  return output;
}
"""


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_resampling_keeps_a_tone(server: ScriptedServer, rate: int):
    with talk_page(server.url) as talk:
        output = np.array(talk.page.evaluate(RESAMPLE, [rate, RATE, 1000]))
    expected = np.sin(2 * np.pi * 1000 * np.arange(len(output)) / RATE)
    assert len(output) == pytest.approx(RATE, abs=60)
    # The filter's first taps still see the silence before the tone.
    np.testing.assert_allclose(output[200:], expected[200:], atol=0.001)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_resampling_removes_what_24_khz_cannot_hold(server: ScriptedServer, rate: int):
    with talk_page(server.url) as talk:
        output = np.array(talk.page.evaluate(RESAMPLE, [rate, RATE, 14_000]))
    assert np.abs(output[200:]).max() < 0.01
