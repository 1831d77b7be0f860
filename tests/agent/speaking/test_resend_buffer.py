"""What goes out again when a client comes back, event by event."""

import json

import pytest
from msgspec import structs

from agent.audio import samples_in
from agent.commands import Close
from agent.realtime import server_events as events
from agent.realtime.config import Extensions, PcmuFormat, SessionConfig
from agent.realtime.response_object import (
    ResponseAudio,
    ResponseAudioOutput,
    ResponseObject,
    ResponseStatus,
)
from agent.realtime.resumption import Position
from agent.speaking.resend_buffer import MOST_KEPT_BYTES, MOST_KEPT_EVENTS, Frame, ResendBuffer
from tests.drivers.virtual_call import opened

NOWHERE = Position()
END = events.AudioDone(response_id="resp_1", item_id="item_1")
PCM = bytes(2 * samples_in(100))


def session(*, playout: bool = False) -> SessionConfig:
    return structs.replace(opened(), x_mimo=Extensions(resume=True, playout=playout))


def response(status: ResponseStatus) -> ResponseObject:
    format = PcmuFormat()
    return ResponseObject(
        id="resp_1",
        status=status,
        output=[],
        conversation_id=None,
        output_modalities=["audio"],
        max_output_tokens="inf",
        audio=ResponseAudio(ResponseAudioOutput("default", format)),
    )


def sound(pcm: bytes = PCM) -> events.AudioDelta:
    return events.AudioDelta(response_id="resp_1", item_id="item_1", delta=pcm)


def words(text: str) -> events.TranscriptDelta:
    return events.TranscriptDelta(response_id="resp_1", item_id="item_1", delta=text)


def taken(outgoing: ResendBuffer) -> list[str]:
    """Take all that waits; the numbers and types of it, and what is special about it."""
    told: list[str] = []
    while len(outgoing):
        frame = outgoing.take()
        assert isinstance(frame, Frame)
        event = json.loads(frame.data.partition(b"\n")[0])
        number, kind = event["event_id"].removeprefix("event_"), event["type"].split(".")[-2:]
        start = event.get("audio_start_samples", "")
        told.append(f"{number} {'.'.join(kind)} {start}".strip())
    return told


def sending(*sent: events.ServerEvent, playout: bool = False) -> ResendBuffer:
    """The way of a client that asked to resume, over which that was sent after `event_1`."""
    outgoing = ResendBuffer()
    outgoing.put(events.SessionUpdated(session=session(playout=playout)))
    for event in sent:
        outgoing.put(event)
    taken(outgoing)
    return outgoing


def resumed(
    outgoing: ResendBuffer, position: Position = NOWHERE, *, playout: bool = False
) -> list[str]:
    outgoing.resume(events.SessionCreated(session=session(playout=playout)), position)
    return taken(outgoing)


def test_what_was_sent_after_an_event_goes_out_before_what_waits():
    outgoing = sending(words("a"), sound(), sound())
    outgoing.put(END)
    assert resumed(outgoing, Position(after=3)) == [
        "5 session.created",
        "6 x_mimo.resumed 2400",
        "7 output_audio.delta",
        "8 output_audio.done",
    ]


def test_numbers_say_what_a_client_has_also_after_it_was_sent_again():
    outgoing = sending(sound(), sound(), sound())
    resumed(outgoing, Position(after=1))
    # It received 5 to 7: the greeting, the position and the first of three.
    assert resumed(outgoing, Position(after=7)) == [
        "10 session.created",
        "11 x_mimo.resumed 2400",
        "12 output_audio.delta",
        "13 output_audio.delta",
    ]


def test_a_delta_that_was_heard_in_part_goes_out_whole():
    outgoing = sending(sound(), sound(), words("a"), END)
    outgoing.heard("item_1", samples_in(150))
    assert resumed(outgoing, playout=True) == [
        "6 session.created",
        "7 x_mimo.resumed 2400",
        "8 output_audio.delta",
        "9 output_audio.done",
    ]


def test_an_item_in_the_middle_goes_on_with_its_count():
    outgoing = sending(sound())
    assert resumed(outgoing, Position(item_id="item_1", received_samples=2400)) == [
        "3 session.created",
        "4 x_mimo.resumed 2400",
    ]
    outgoing.put(sound())
    outgoing.put(sound())
    taken(outgoing)
    assert resumed(outgoing, Position(after=5))[1:] == [
        "8 x_mimo.resumed 4800",
        "9 output_audio.delta",
    ]


def test_nothing_goes_out_again_to_a_client_that_says_nothing():
    outgoing = sending(sound(), END)
    assert resumed(outgoing) == ["4 session.created"]


def test_a_configuration_of_before_does_not_follow_the_one_of_now():
    outgoing = sending(events.SessionUpdated(session=session()), events.Cleared())
    outgoing.put(events.SessionUpdated(session=session()))
    assert resumed(outgoing, Position(after=1)) == [
        "4 session.created",
        "5 input_audio_buffer.cleared",
    ]


def test_sound_of_a_cancelled_response_does_not_go_out_again():
    outgoing = sending(sound(), sound())
    outgoing.put(sound())
    outgoing.put(events.ResponseDone(response=response("cancelled")))
    assert "output_audio.delta" not in " ".join(resumed(outgoing, Position(after=2)))


def test_sound_that_the_client_cut_does_not_go_out_again():
    outgoing = sending(sound(), sound(), END)
    outgoing.put(events.ItemTruncated(item_id="item_1", content_index=0, audio_end_ms=50))
    assert "output_audio.delta" not in " ".join(resumed(outgoing, playout=True))


def test_telephone_sound_is_counted_as_if_at_24_khz():
    created = events.ResponseCreated(response=response("in_progress"))
    outgoing = sending(created, sound(bytes(800)), sound(bytes(800)))
    outgoing.heard("item_1", samples_in(100))
    assert resumed(outgoing, playout=True)[1] == "6 x_mimo.resumed 2400"


@pytest.mark.parametrize(("size", "count"), [(0, MOST_KEPT_EVENTS + 10), (300_000, 40)])
def test_what_is_kept_has_an_end(size: int, count: int):
    outgoing = sending(*[sound(bytes(size))] * count)
    again = resumed(outgoing, Position(after=1))[2:]
    wire = size * 4 // 3 + 150
    assert min(MOST_KEPT_EVENTS, MOST_KEPT_BYTES // wire) - 1 <= len(again) <= MOST_KEPT_EVENTS
    assert len(again) * (size * 4 // 3) <= MOST_KEPT_BYTES


def test_the_end_of_a_session_is_told_to_a_client_that_comes_back():
    outgoing = sending()
    outgoing.put(Close(1001, "over"))
    outgoing.resume(events.SessionCreated(session=session()), Position())
    assert isinstance(outgoing.take(), Frame)
    assert outgoing.take() == Close(1001, "over")
