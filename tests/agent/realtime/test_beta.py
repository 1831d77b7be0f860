"""Clients of the beta shape: told what to use instead, and closed."""

import json

import pytest

from agent.commands import Close, Send
from agent.errors import ProtocolError
from agent.realtime import beta, client_events as protocol
from agent.realtime.config import PcmaFormat, PcmFormat, PcmuFormat, SessionPatch
from agent.realtime.server_events import Error
from agent.session import Session
from agent.trace.inputs import feed
from tests.drivers.virtual_call import POLICY, opened

OLD = {
    "modalities": ["text", "audio"],
    "voice": "alloy",
    "input_audio_format": "pcm16",
    "turn_detection": {"type": "server_vad"},
    "temperature": 0.8,
}


def refused(event: object) -> ProtocolError:
    with pytest.raises(ProtocolError) as error:
        protocol.decode(json.dumps(event))
    return error.value


def update(session: object) -> ProtocolError:
    return refused({"type": "session.update", "event_id": "mine", "session": session})


def test_a_session_of_the_beta_shape_is_told_the_new_place_of_each_field():
    error = update({"instructions": "Be brief.", **OLD})
    assert (error.code, error.param, error.event_id) == (beta.CODE, "session.modalities", "mine")
    told = str(error)
    assert 'session.type is "realtime"' in told
    assert "session.modalities is now session.output_modalities" in told
    assert "session.voice is now session.audio.output.voice" in told
    assert "session.input_audio_format is now session.audio.input.format" in told
    assert "session.turn_detection is now session.audio.input.turn_detection" in told
    assert "session.temperature is gone" in told


@pytest.mark.parametrize("name", beta.RENAMED)
def test_each_of_its_fields_gives_it_away(name: str):
    assert update({name: None}).code == beta.CODE


def test_so_does_its_transcription_session():
    error = refused({"type": "transcription_session.update", "session": {}})
    assert error.code == beta.CODE


@pytest.mark.parametrize("session", [{}, {"instructions": "Be brief."}, [], "modalities", None])
def test_other_mistakes_are_other_errors(session: object):
    assert update(session).code in ("missing_required_parameter", "invalid_type")


def test_a_session_of_the_new_shape_with_an_old_field_goes_on_and_is_told_the_new_place():
    error = update({"type": "realtime", "voice": "alloy"})
    assert (error.code, error.param) == ("unknown_parameter", "session.voice")
    assert str(error).endswith("In the GA shape, session.voice is now session.audio.output.voice.")
    error = refused({"type": "response.create", "response": {"modalities": ["text"]}})
    assert (error.code, error.param) == ("unknown_parameter", "response.modalities")
    assert str(error).endswith("response.modalities is now response.output_modalities.")


def test_the_beta_shape_ends_a_session_with_its_close_code():
    session = Session(opened(), POLICY, lambda kind: f"{kind}_1")
    told, close = feed(session, update(OLD), 0.0)
    assert isinstance(told, Send)
    assert isinstance(told.event, Error)
    assert told.event.error.code == "beta_api_shape_disabled"
    assert close == Close(4000, "invalid_request_error.beta_api_shape_disabled")


@pytest.mark.parametrize(
    ("said", "format"),
    [
        ({"type": "audio/pcmu", "rate": 8_000}, PcmuFormat(rate=8_000)),
        ({"type": "audio/pcma", "rate": 8_000}, PcmaFormat(rate=8_000)),
        ({"type": "audio/pcmu"}, PcmuFormat()),
        ({"type": "audio/pcm", "rate": 24_000}, PcmFormat()),
        ({"type": "audio/pcm"}, PcmFormat()),
    ],
)
def test_the_rate_of_a_format_may_be_given(said: object, format: object):
    audio = {"input": {"format": said}, "output": {"format": said}}
    event = protocol.decode(
        json.dumps({"type": "session.update", "session": {"type": "realtime", "audio": audio}})
    )
    assert isinstance(event, protocol.SessionUpdate)
    patch: SessionPatch = event.session
    assert patch.audio.input.format == patch.audio.output.format == format


@pytest.mark.parametrize("rate", [16_000, 24_000, "8000"])
def test_another_rate_is_refused_by_its_path(rate: object):
    audio = {"input": {"format": {"type": "audio/pcmu", "rate": rate}}}
    error = update({"type": "realtime", "audio": audio})
    assert error.param == "session.audio.input.format.rate"
