"""Voices: read and checked at start, named by clients, never a path."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path

import msgspec
import pytest

from agent.audio import RATE, wav
from agent.commands import AskModel, Send
from agent.errors import SettingsError
from agent.realtime import client_events as protocol, server_events as events
from agent.session import Session
from server.model.voice_samples import load_voices
from server.settings import Persona
from tests.drivers.virtual_call import POLICY, config

SECOND = bytes([1, 0]) * RATE


def spoken_with(
    voices: Mapping[str, bytes], of_session: str = "{}", of_response: str = "{}"
) -> bytes:
    """The sample of the voice that the model gets, for those wishes in `audio.output`."""
    ids = count()
    session = Session(
        config(None),
        POLICY,
        lambda kind: f"{kind}_{next(ids)}",
        voices=voices,
    )
    update = f'{{"type": "realtime", "audio": {{"output": {of_session}}}}}'
    frames = [
        f'{{"type": "session.update", "session": {update}}}',
        f'{{"type": "response.create", "response": {{"audio": {{"output": {of_response}}}}}}}',
    ]
    commands = [
        command for frame in frames for command in session.receive(protocol.decode(frame), 0)
    ]
    [asked] = [command for command in commands if isinstance(command, AskModel)]
    [system] = asked.messages
    assert system.text == "Be brief.\nYour voice should be:"
    return system.pcm


def test_voices_are_known_by_the_names_of_their_files(tmp_path: Path):
    (tmp_path / "anna.WAV").write_bytes(wav(SECOND))
    (tmp_path / "notes.txt").write_text("not a voice")
    (tmp_path / "own.wav").write_bytes(wav(2 * SECOND))
    voices = load_voices(Persona(voice=str(tmp_path / "own.wav"), voices=str(tmp_path)))
    assert voices == {"anna": SECOND, "own": 2 * SECOND, "default": 2 * SECOND}


def test_without_configuration_the_model_speaks_with_its_own():
    assert load_voices(Persona()) == {}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (None, "No such file"),
        (b"ID3", "not a WAV file: it is an MP3 file"),
        (wav(SECOND[:4_000]), "0.1 s of sound; 0.5 to 60 s are accepted"),
    ],
)
def test_a_voice_that_is_unfit_is_named_at_start(tmp_path: Path, file: bytes | None, words: str):
    path = tmp_path / "voice.wav"
    if file is not None:
        path.write_bytes(file)
    with pytest.raises(SettingsError, match=r"persona\.voice: .*voice\.wav") as found:
        load_voices(Persona(voice=str(path)))
    assert words in str(found.value)


def test_a_folder_of_voices_that_is_missing_is_named_at_start(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"persona\.voices: .* is not a folder"):
        load_voices(Persona(voices=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        ('"anna"', SECOND),
        ('"default"', 2 * SECOND),
        ('"marin"', 2 * SECOND),
        ('"../anna"', 2 * SECOND),
        ('{"id": "anna"}', 2 * SECOND),
    ],
)
def test_a_session_speaks_with_the_voice_it_names_or_the_default(wanted: str, heard: bytes):
    voices = {"anna": SECOND, "default": 2 * SECOND}
    assert spoken_with(voices, f'{{"voice": {wanted}}}') == heard


@pytest.mark.parametrize("wanted", ["anna", "../anna", "marin"])
def test_without_a_folder_of_voices_no_client_can_choose_another(tmp_path: Path, wanted: str):
    (tmp_path / "anna.wav").write_bytes(wav(SECOND))
    (tmp_path / "own.wav").write_bytes(wav(2 * SECOND))
    voices = load_voices(Persona(voice=str(tmp_path / "own.wav")))
    assert spoken_with(voices, f'{{"voice": "{wanted}"}}') == 2 * SECOND
    assert spoken_with(voices, of_response=f'{{"voice": "{wanted}"}}') == 2 * SECOND


def test_a_response_may_name_another_voice_for_itself_alone():
    voices = {"anna": SECOND, "default": 2 * SECOND}
    assert spoken_with(voices, of_response='{"voice": "anna"}') == SECOND


def test_a_client_that_asks_for_extensions_is_told_the_voices():
    session = Session(config(None), POLICY, str, voices={"anna": SECOND})
    update = '{"type": "session.update", "session": {"type": "realtime", "x_mimo": {}}}'
    [command] = session.receive(protocol.decode(update), 0)
    assert isinstance(command, Send)
    shown = msgspec.json.decode(events.encode(command.event, "event_1"))
    assert shown["session"]["x_mimo"]["voices"] == ["anna", "default"]
