"""Server-sent events: as the standard has them, wherever their bytes are cut."""

from itertools import pairwise

from hypothesis import given, strategies as st

from agent.model.output import Ended, Failed, Output, Text
from agent.model.reply_reader import ReplyReader
from agent.model.sse import EventReader, ServerEvent

STREAM = (
    b"\xef\xbb\xbf: a comment\n\ndata: one\r\rdata:two\r\ndata:  three\r\n\r\n"
    b"event: error\rdata: {}\r\n\nid: 7\nretry: 10\n\ndata\n\ndata: a: b\nnonsense\n\r"
    b"event: unheard\n\ndata: after\n\ndata: last"
)
EVENTS = [
    ServerEvent("", b"one"),
    ServerEvent("", b"two\n three"),
    ServerEvent("error", b"{}"),
    ServerEvent("", b""),
    ServerEvent("", b"a: b"),
    ServerEvent("", b"after"),
    ServerEvent("", b"last"),
]


def read(pieces: list[bytes]) -> list[ServerEvent]:
    reader = EventReader()
    found = [event for piece in pieces for event in reader.events_in(piece)]
    return found + reader.finish()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(places), len(stream)]
    return [stream[start:end] for start, end in pairwise(ends)]


def test_every_form_of_the_standard_is_read():
    assert read([STREAM]) == EVENTS
    assert read([STREAM[at : at + 1] for at in range(len(STREAM))]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_where_the_bytes_are_cut_makes_no_difference(places: list[int]):
    assert read(cut(STREAM, places)) == EVENTS


def test_an_event_is_there_with_the_first_byte_of_its_blank_line():
    reader = EventReader()
    assert reader.events_in(b"data: x\r") == []
    assert reader.events_in(b"\n\r") == [ServerEvent("", b"x")]
    assert reader.events_in(b"\ndata: y\n") == []
    assert reader.events_in(b"\n") == [ServerEvent("", b"y")]


WORD = b'{"choices":[{"delta":{"content":"Hi"}}],"modality":"text"}'


def reply(stream: bytes) -> list[Output]:
    reader = ReplyReader()
    return reader.outputs_in(stream) + reader.finish()


def test_a_reply_may_use_every_end_of_line_and_several_data_lines():
    halves = WORD.replace(b",", b",\ndata: ", 1)
    for stream in (
        b"data: " + WORD + b"\r\rdata: [DONE]\r\r",
        b"data:" + WORD + b"\r\n\r\ndata:[DONE]\r\n\r\n",
        b"\xef\xbb\xbfdata: " + halves + b"\n\n: ping\n\ndata: [DONE]\n\n",
    ):
        *said, end = reply(stream)
        assert "".join(each.text for each in said if isinstance(each, Text)) == "Hi"
        assert end == Ended()


def test_an_error_event_fails_the_reply_in_its_own_words():
    for data, message, code in [
        (b'{"error":{"message":"out of memory","code":500}}', "out of memory", "model_failed"),
        (b'{"message":"too long","code":400}', "too long", "model_refused"),
        (b"the engine\ndata: is gone", "the engine is gone", "model_failed"),
        (b"", "the model server gave no reason", "model_failed"),
    ]:
        *said, end = reply(b"data: " + WORD + b"\n\nevent: error\ndata: " + data + b"\n\n")
        assert isinstance(end, Failed)
        assert (str(end.error), end.error.code) == (message, code)
        assert "".join(each.text for each in said if isinstance(each, Text)) == "Hi"
