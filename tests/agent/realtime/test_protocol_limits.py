"""Frames in and out: any size in, under 1 MiB out, and binary for those who ask."""

import base64

import pytest

from agent.audio import seconds
from agent.commands import Send
from agent.errors import ProtocolError
from agent.model.output import Ended, Usage
from agent.realtime import client_events as protocol, server_events as events
from tests.drivers.scripted import Json, Scripted, decoded, sound

MEBIBYTE = 2**20
LONG = 2**19


def item(text: str) -> Json:
    content: list[Json] = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content}


def read(frame: str) -> protocol.AnyClientEvent:
    """Read an event of any size, as the server does."""
    steps = protocol.decode_in_steps(frame)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def append(scripted: Scripted, data: bytes) -> bytes:
    audio = base64.b64encode(data).decode()
    event = read(f'{{"type":"input_audio_buffer.append","audio":"{audio}"}}')
    assert isinstance(event, protocol.InputAudioAppend)
    return scripted.session.append(event)


def formats(scripted: Scripted, **input_and_output: str) -> None:
    audio = {side: {"format": {"type": name}} for side, name in input_and_output.items()}
    scripted.send({"type": "session.update", "session": {"type": "realtime", "audio": audio}})


def spoken(scripted: Scripted) -> bytes:
    deltas = [each for each in scripted.server if each["type"] == "response.output_audio.delta"]
    return b"".join(base64.b64decode(delta["delta"]) for delta in deltas)


@pytest.mark.parametrize(
    ("format", "duration_ms"),
    [("audio/pcm", 60_000), ("audio/pcmu", 60_000), ("audio/pcma", 130)],
)
def test_frames_stay_under_a_mebibyte_and_bytes_equal_duration(format: str, duration_ms: int):
    scripted = Scripted()
    formats(scripted, output=format)
    scripted.send({"type": "response.create"})
    scripted.model(sound(duration_ms))
    bytes_a_ms = 48 if format == "audio/pcm" else 8
    scripted.model(Ended())
    assert max(map(len, scripted.frames)) < MEBIBYTE
    assert abs(len(spoken(scripted)) - duration_ms * bytes_a_ms) <= 1
    if format == "audio/pcm":
        assert spoken(scripted) == sound(duration_ms).pcm


def test_fifteen_mebibytes_come_in_one_append():
    scripted = Scripted()
    data = bytes(15 * MEBIBYTE)
    assert append(scripted, data) == data


LARGE = base64.b64encode(bytes(MEBIBYTE)).decode()


@pytest.mark.parametrize(
    "audio", [LARGE.replace("A", "/"), LARGE.replace("A", "/").replace("/", "\\/")]
)
def test_a_large_append_is_read_like_a_small_one(audio: str):
    event = read(f'{{"event_id":"a", "audio" : "{audio}" ,"type":"input_audio_buffer.append"}}')
    assert event == protocol.InputAudioAppend(
        audio=base64.b64decode(audio.replace("\\", "")), event_id="a"
    )


@pytest.mark.parametrize(
    "audio", [f"{LARGE}A", f"{LARGE[:-4]}*AAA", f"AAA={LARGE}", f"{LARGE}===="]
)
def test_a_large_append_of_what_is_no_sound_is_refused(audio: str):
    with pytest.raises(ProtocolError) as refused:
        read(f'{{"type":"input_audio_buffer.append","audio":"{audio}","event_id":"mine"}}')
    error = refused.value
    assert (error.code, error.param, error.event_id) == ("invalid_value", "audio", "mine")


def test_no_other_event_may_be_large():
    text = "x" * MEBIBYTE
    for frame in (
        f'{{"type":"conversation.item.delete","item_id":"{text}","event_id":"mine"}}',
        f'{{"type":"input_audio_buffer.append","audio":["{text}"],"event_id":"mine"}}'[:-1] + ",}",
        f'{{"type":"input_audio_buffer.append","audio":"","x":"{text}","event_id":"mine"}}',
        f'"{text}"',
    ):
        for way in (read, protocol.decode):
            with pytest.raises(ProtocolError, match="limit is 1048576") as refused:
                way(frame)
            assert refused.value.code == "event_too_large"


@pytest.mark.parametrize("part", ["[],", "{},"])
def test_an_event_of_very_many_parts_is_refused_before_it_is_read(part: str):
    frame = f'{{"type":"session.update","session":[{part * 30_000}0]}}'
    with pytest.raises(ProtocolError, match=r"30002 lists and objects; the limit is 20000"):
        protocol.decode(frame)


def test_more_items_than_a_conversation_holds_are_refused():
    scripted = Scripted()
    wish = {"input": [item("a")] * 1_001}
    [error] = scripted.send({"type": "response.create", "response": wish})
    assert error["error"]["param"] == "response.input"
    assert scripted.asked is None


def test_more_sound_than_a_clip_may_hold_is_refused():
    scripted = Scripted()
    by_hand = {"audio": {"input": {"turn_detection": None}}}
    scripted.send({"type": "session.update", "session": {"type": "realtime", **by_hand}})
    append(scripted, bytes(15 * MEBIBYTE))
    with pytest.raises(ProtocolError, match=r"full \(600 s\)") as refused:
        append(scripted, bytes(15 * MEBIBYTE))
    assert refused.value.code == "input_audio_buffer_full"


def test_a_sample_may_be_split_over_two_appends():
    scripted = Scripted()
    assert append(scripted, b"\x01\x00\x02") + append(scripted, b"\x00\x03\x00") == (
        b"\x01\x00\x02\x00\x03\x00"
    )


@pytest.mark.parametrize("format", ["audio/pcmu", "audio/pcma"])
def test_a_hundred_milliseconds_of_telephony_can_be_committed(format: str):
    scripted = Scripted()
    formats(scripted, input=format)
    turn_off: Json = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
    scripted.send({"type": "session.update", "session": turn_off})
    append(scripted, bytes(800))
    scripted.send({"type": "input_audio_buffer.commit"})
    assert "input_audio_buffer.committed" in scripted.types()


def test_clips_in_items_come_in_the_formats_of_the_session():
    scripted = Scripted()
    formats(scripted, input="audio/pcmu")
    audio = base64.b64encode(bytes(8_000)).decode()
    said: Json = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_audio", "audio": audio}],
    }
    added = scripted.send({"type": "conversation.item.create", "item": said})
    assert added[0]["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    scripted.send({"type": "response.create"})
    assert scripted.asked is not None
    assert round(seconds(scripted.asked.messages[-1].pcm), 3) == 1.0


def test_text_that_would_come_back_too_large_is_refused():
    scripted = Scripted()
    answer = scripted.send({"type": "conversation.item.create", "item": item("\0" * 100_000)})
    assert answer[0]["error"]["code"] == "string_above_max_length"
    session: Json = {"type": "realtime", "instructions": "x" * (MEBIBYTE - 1_000)}
    answer = scripted.send({"type": "session.update", "session": session})
    assert answer[0]["error"]["param"] == "session"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "x" * LONG},
        {"type": "response.create", "x" * LONG: 1},
        {"type": "conversation.item.delete", "item_id": "x" * LONG},
        {"type": "conversation.item.create", "event_id": "x" * LONG},
        {"type": "conversation.item.create", "previous_item_id": "x" * LONG, "item": item("")},
        {"type": "session.update", "session": {"type": "realtime", "tool_choice": "x" * LONG}},
    ],
)
def test_what_is_wrong_is_not_repeated_by_the_megabyte(event: Json):
    scripted = Scripted()
    (answer,) = scripted.send(event)
    assert answer["type"] == "error"
    assert len(scripted.frames[-1]) < 4_000


def test_binary_frames_must_be_asked_for():
    scripted = Scripted()
    frame = protocol.BinaryAppend(audio=b"\x01\x00")
    with pytest.raises(ProtocolError, match="binary_audio") as refused:
        scripted.session.append(frame)
    assert refused.value.code == "invalid_event"
    ask: Json = {"type": "realtime", "x_mimo": {"binary_audio": True}}
    scripted.send({"type": "session.update", "session": ask})
    assert scripted.session.append(frame) == b"\x01\x00"


def test_a_binary_frame_is_the_event_a_line_feed_and_the_sound():
    event = events.BinaryAudioDelta(response_id="resp_1", item_id="item_1", delta=b"\n\x00")
    frame = events.encode(event, "event_7")
    header, _, pcm = frame.partition(b"\n")
    assert pcm == b"\n\x00"
    assert decoded(header) == {
        "event_id": "event_7",
        "type": "response.output_audio.delta",
        "response_id": "resp_1",
        "item_id": "item_1",
        "output_index": 0,
        "content_index": 0,
    }


def test_extensions_are_told_only_to_those_who_asked():
    scripted = Scripted()
    assert "x_mimo" not in scripted.server[0]["session"]
    ask: Json = {"type": "realtime", "x_mimo": {"marks": True}}
    (updated,) = scripted.send({"type": "session.update", "session": ask})
    assert updated["session"]["x_mimo"] == {
        "binary_audio": False,
        "duck": False,
        "playout": False,
        "marks": True,
        "resume": False,
        "echo_cancelled": False,
        "voices": ["default"],
    }


def test_the_user_is_quoted_in_a_delta_and_at_the_end():
    scripted = Scripted()
    commands = scripted.session.transcribed("item_1", "Hello.", 1.5)
    told = [command.event for command in commands if isinstance(command, Send)]
    assert told == [
        events.TranscriptionDelta(item_id="item_1", content_index=0, delta="Hello."),
        events.TranscriptionCompleted(
            item_id="item_1",
            content_index=0,
            transcript="Hello.",
            usage={"type": "duration", "seconds": 1.5},
        ),
    ]


def test_nothing_of_a_cancelled_response_is_sent_any_more():
    scripted = Scripted()
    formats(scripted, output="audio/pcmu")
    scripted.send({"type": "response.create"})
    scripted.model(sound(500))
    answers = scripted.send({"type": "response.cancel"})
    assert next(each["type"] for each in answers) == "response.output_audio.done"
    assert len(spoken(scripted)) < 4_000, "what the resampler held back stays unsaid"


def test_a_cleared_buffer_begins_anew_at_a_whole_sample():
    scripted = Scripted()
    append(scripted, b"\x01")
    scripted.send({"type": "input_audio_buffer.clear"})
    assert append(scripted, b"\x02\x00") == b"\x02\x00"


def test_usage_adds_up_whatever_the_model_server_counted():
    scripted = Scripted()
    scripted.send({"type": "response.create"})
    scripted.model(sound(2_000))
    scripted.model(Ended(Usage(prompt_tokens=20, completion_tokens=5)))
    usage = scripted.server[-1]["response"]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (20, 5, 25)
    assert usage["output_token_details"] == {"text_tokens": 0, "audio_tokens": 5}


def test_a_clip_keeps_its_key_when_it_is_read_beside_the_conversation():
    scripted = Scripted()
    clip: Json = {"type": "input_audio", "audio": base64.b64encode(bytes(9_600)).decode()}
    said: Json = {"id": "said", "type": "message", "role": "user", "content": [clip]}
    scripted.send({"type": "conversation.item.create", "item": said})
    beside: Json = {"conversation": "none", "input": [{"type": "item_reference", "id": "said"}]}
    scripted.send({"type": "response.create", "response": beside})
    first = scripted.asked
    scripted.send({"type": "response.cancel"})
    scripted.send({"type": "response.create"})
    assert first is not None
    assert scripted.asked is not None
    assert first.messages[-1].key == scripted.asked.messages[-1].key != ""


@pytest.mark.parametrize("digits", [17, 308, 309, 5_000])
@pytest.mark.parametrize(
    "event",
    [
        '{"type":"x_mimo.playout","item_id":"a","audio_end_samples":COUNT}',
        '{"type":"conversation.item.truncate","item_id":"a","content_index":0,"audio_end_ms":COUNT}',
    ],
)
def test_a_count_of_very_many_digits_is_no_time(event: str, digits: int):
    scripted = Scripted()
    scripted.receive(event.replace("COUNT", "9" * digits))
    assert scripted.server[-1]["error"]["param"] in ("audio_end_samples", "audio_end_ms", None)
    scripted.send({"type": "input_audio_buffer.clear"})
    assert scripted.types()[-1] == "input_audio_buffer.cleared"
