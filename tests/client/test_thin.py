"""The thin client: G.711 as the standard has it, and a call against a scripted server."""

import base64
import wave
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from agent.audio import read_wav
from client.thin import FRAME_SAMPLES, decode, encode, main
from tests.drivers.scripted_server import Peer, ScriptedServer

QUESTION = Path(__file__).parents[1] / "data" / "weather_question.wav"
G711 = {"format": {"type": "audio/pcmu"}}


def test_mu_law_is_that_of_g711():
    known = {0: 0xFF, 8: 0xFE, 1000: 0xCE, 32_767: 0x80, -8: 0x7E, -1000: 0x4E, -32_768: 0x00}
    assert {sample: encode(sample) for sample in known} == known
    assert (decode(0xFF), decode(0x7F), decode(0x80), decode(0x00)) == (0, 0, 32_124, -32_124)


def test_mu_law_keeps_every_sample_to_within_a_32nd():
    for sample in range(-32_635, 32_636, 7):
        assert abs(decode(encode(sample)) - sample) <= max(4, (abs(sample) + 132) / 32)


def test_every_byte_stands_for_itself():
    # Minus nothing is nothing.
    assert [encode(decode(byte)) for byte in range(256) if byte != 0x7F] == [
        byte for byte in range(256) if byte != 0x7F
    ]


def say(peer: Peer, item: str, sound: bytes) -> None:
    delta = base64.b64encode(sound).decode()
    peer.send({"type": "response.output_audio.delta", "item_id": item, "delta": delta})


def converse(server: ScriptedServer, heard: bytearray) -> None:
    """Answer, be cut short after a while, and answer again."""
    peer = server.accept()
    update = peer.expect("session.update")["session"]
    assert update["audio"] == {"input": G711, "output": G711}
    peer.send({"type": "session.updated", "session": {}})
    say(peer, "item_1", bytes([0xA0]) * 8000)
    for _ in range(10):
        heard += base64.b64decode(peer.expect("input_audio_buffer.append")["audio"])
    peer.hear_onset()
    cut = peer.expect("conversation.item.truncate")
    assert cut["item_id"] == "item_1"
    peer.send({"type": "response.done", "response": {"status": "cancelled"}})
    say(peer, "item_2", bytes([0x20]) * 800)
    peer.send({"type": "response.done", "response": {"status": "completed"}})
    heard.extend(cut["audio_end_ms"].to_bytes(4, "little"))


def test_a_call_sends_20_ms_at_a_time_and_falls_silent_when_the_user_cuts_in(tmp_path: Path):
    question = np.frombuffer(read_wav(QUESTION.read_bytes(), 8_000), "<i2")
    said, saved = tmp_path / "said.wav", tmp_path / "saved.wav"
    with wave.open(str(said), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
        file.writeframes(question.tobytes())
    server, heard = ScriptedServer(), bytearray()
    answering = Thread(target=converse, args=(server, heard))
    answering.start()
    try:
        main(["--url", server.url.replace("http", "ws") + "v1/realtime",
              "--wav", str(said), "--save", str(saved)])  # fmt: skip
    finally:
        answering.join()
        server.stop()
    assert (
        heard[: 10 * FRAME_SAMPLES] == bytes(map(encode, question.tolist()))[: 10 * FRAME_SAMPLES]
    )
    with wave.open(str(saved)) as file:
        played = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    heard_ms = int.from_bytes(heard[10 * FRAME_SAMPLES :], "little")
    assert np.count_nonzero(played == decode(0xA0)) == heard_ms * 8
    assert np.count_nonzero(played == decode(0x20)) == 800


def test_a_file_in_another_form_is_refused_with_the_form_that_is_taken(tmp_path: Path):
    with pytest.raises(SystemExit, match=r"weather_question.wav: not mono with 16 bits at 8 kHz"):
        main(["--wav", str(QUESTION), "--save", str(tmp_path / "saved.wav")])
