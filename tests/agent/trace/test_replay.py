"""Traces: what is written can be read, and a recorded session held again decides the same."""

from collections.abc import Iterable
from functools import cache

import pytest
from msgspec import Raw, structs

from agent.errors import ModelError, ProtocolError
from agent.model.output import Ended, Failed, Sound, Text, TextEnded, Usage
from agent.realtime.client_events import BinaryAppend
from agent.realtime.resumption import Position
from agent.trace import lines as trace
from agent.trace.inputs import Busy, FromModel, Input, Returned, Transcribed
from agent.trace.lines import Line, TraceError
from agent.trace.recorder import Recorder, Setup
from agent.trace.replay import Difference, decisions, replay
from client.evaluation.recordings import SHIPPED, Library
from client.evaluation.scenarios import scenarios
from tests.drivers.simulated_call import SimulatedCall

SCENARIOS = {each.name: each for each in scenarios(Library(SHIPPED), seed=1)}


@cache
def recorded(name: str, answers: bool = True) -> tuple[Line, ...]:
    call = SimulatedCall(SCENARIOS[name], answers=answers)
    call.hold()
    return tuple(call.lines)


def difference(lines: Iterable[Line]) -> Difference:
    """The first one; of nothing and nothing if there is none."""
    found = (step.difference for step in replay(lines))
    return next(filter(None, found), Difference(None, None))


@pytest.mark.parametrize("name", ["interruption/help_me", "pause/1000/LJ001-0004"])
def test_a_recorded_session_replays_to_the_same_decisions(name: str):
    written = b"".join(map(trace.encode, recorded(name)))
    steps = list(replay(trace.decode(written.splitlines())))
    assert not [step for step in steps if step.difference]
    again = [line for step in steps for line in step.again]
    assert again == decisions(trace.decode(written.splitlines()))
    assert b"response.done" in b"".join(map(trace.encode, again))


def test_another_course_is_not_taken_for_the_same():
    lines = recorded("turn/hello_world")
    silent = [line for line in lines if line.source != "speech"]
    before, now = difference(silent)
    assert before is not None
    assert now is None
    [started] = [
        line for line in lines if b'input_audio_buffer.speech_started"' in bytes(line.what)
    ]
    assert before == started


def test_another_timing_differs_where_it_first_matters():
    setup, *others = recorded("turn/hello_world")
    text = bytes(setup.what).replace(b'"early_start_ms":160', b'"early_start_ms":320')
    before, now = difference([structs.replace(setup, what=Raw(text)), *others])
    assert before == next(line for line in others if line.source == "request")
    assert now is None


def test_a_deadline_that_passed_passes_again():
    lines = recorded("turn/hello_world", answers=False)
    steps = list(replay(lines))
    assert not [step for step in steps if step.difference]
    again = [line for step in steps for line in step.again]
    assert b"model_timeout" in bytes(again[-1].what)


def test_what_was_heard_by_the_time_of_an_interruption_is_replayed():
    lines = recorded("pause/1000/LJ001-0004")
    # Without the client's word on it the session goes by the times.
    told = (b"item.truncate", b"x_mimo.playout")
    untold = [each for each in lines if not any(t in bytes(each.what) for t in told)]
    late = [structs.replace(line, at_s=line.at_s * 1.01) for line in untold]

    def asks(lines: list[Line]) -> list[bytes]:
        again = [line for step in replay(lines) for line in step.again]
        return [bytes(each.what) for each in again if each.source == "request"]

    assert asks(untold) == asks(untold)
    assert asks(untold) != asks(late)


def test_an_id_that_was_not_recorded_is_a_difference():
    lines = [line for line in recorded("turn/hello_world") if line.source != "id"]
    before, now = difference(lines)
    assert before is not None
    assert now is not None
    assert b"_unrecorded" in bytes(now.what)


def test_a_trace_that_was_cut_off_is_the_same_as_far_as_it_goes():
    lines = recorded("turn/hello_world")
    last = max(place for place, line in enumerate(lines) if line.source == "server")
    steps = list(replay(lines[:last]))
    assert not [step for step in steps if step.difference]
    assert not steps[-1].is_whole
    assert difference([*lines[:last], lines[-1]]).recorded is None


@pytest.mark.parametrize("missing", [1, None], ids=["its beginning", "all of it"])
def test_a_trace_that_is_none_of_a_session_is_refused(missing: int | None):
    lines = recorded("turn/hello_world")[missing:] if missing else ()
    with pytest.raises(TraceError):
        list(replay(lines))


EVERY_KIND: dict[bytes, Input] = {
    b'"model","what":{"response_id":"r","text":"Hi"}': FromModel("r", Text("Hi")),
    b'"model","what":{"response_id":"r","sound":"AQI="}': FromModel("r", Sound(b"\1\2")),
    b'"model","what":{"response_id":"r","text_cut":true}': FromModel("r", TextEnded(True)),
    b'"model","what":{"response_id":"r","failed":["broken","model_refused"]}': FromModel(
        "r", Failed(ModelError("broken", code="model_refused"))
    ),
    b'"model","what":{"response_id":"r","usage":{"prompt_tokens":7,"completion_tokens":8},'
    b'"cut_short":true}': FromModel("r", Ended(Usage(7, 8), cut_short=True)),
    b'"model","what":{"response_id":"r"}': FromModel("r", Ended()),
    b'"sound","what":"AQI="': BinaryAppend(audio=b"\1\2"),
    b'"refused","what":{"message":"no","code":"invalid_json","event_id":"e"}': ProtocolError(
        "no", code="invalid_json", event_id="e"
    ),
    b'"busy","what":true': Busy(True),
    b'"resumed","what":{"after":3,"item_id":"i","received_samples":480}': Returned(
        Position(3, "i", 480)
    ),
    b'"transcript","what":{"item_id":"i","text":"Hi","duration_s":0.5,"error":null}': Transcribed(
        "i", "Hi", 0.5
    ),
}


@pytest.mark.parametrize(("written", "taken"), EVERY_KIND.items(), ids=str)
def test_every_kind_of_input_is_written_with_what_it_holds_and_read_as_it_was(
    written: bytes, taken: Input
):
    lines: list[Line] = []
    recorder = Recorder(lines.append, str)
    recorder.took(taken, 1.5)
    assert b'"from":' + written in trace.encode(lines[0])
    *_, step = replay([*recorded("turn/hello_world")[:4], *lines])
    assert type(step.taken) is type(taken)
    assert not isinstance(step.taken, Setup)
    recorder.took(step.taken, 1.5)
    assert lines[0].what == lines[1].what


def test_a_line_is_one_json_object_and_is_read_as_it_was():
    line = trace.line(0.1, 480, "server", {"type": "response.done"})
    text = trace.encode(line)
    assert text == (
        b'{"at_s":0.1,"microphone":480,"from":"server","what":{"type":"response.done"}}\n'
    )
    assert list(trace.decode([text, b"\n"])) == [line]


@pytest.mark.parametrize("text", [b"{", b'{"at_s":1}', b'{"at_s":1,"microphone":2,"from":"me"}'])
def test_a_broken_line_is_named(text: bytes):
    good = trace.encode(trace.line(0.0, 0, "deadline"))
    with pytest.raises(TraceError, match="line 2 of the trace"):
        list(trace.decode([good, text]))
