"""Traces: what is written can be read, and a recorded session held again decides the same."""

import pytest
from msgspec import structs

from agent import trace
from agent.errors import ModelError
from agent.mimo import Ended, Failed, Sound, Text, TextEnded
from agent.replay import FromModel, Recorder, decisions, replay
from agent.trace import TraceError
from client.recordings import SHIPPED, Library
from client.scenarios import scenarios
from tests.simulated_call import SimulatedCall

SCENARIOS = {each.name: each for each in scenarios(Library(SHIPPED), seed=1)}


def recorded(name: str, answers: bool = True) -> SimulatedCall:
    call = SimulatedCall(SCENARIOS[name], answers=answers)
    call.hold()
    return call


@pytest.mark.parametrize("name", ["interruption/help_me", "pause/1000/LJ001-0004"])
def test_a_recorded_session_replays_to_the_same_decisions(name: str):
    call = recorded(name)
    written = b"".join(map(trace.encode, call.lines))
    again = replay(trace.decode(written.splitlines()), call.make)
    assert again == decisions(call.lines)
    assert b"response.done" in b"".join(map(trace.encode, again))


def test_another_course_is_not_taken_for_the_same():
    call = recorded("turn/hello_world")
    silent = [line for line in call.lines if line.source != "speech"]
    assert replay(silent, call.make) != decisions(call.lines)


def test_a_deadline_that_passed_passes_again():
    call = recorded("turn/hello_world", answers=False)
    again = replay(call.lines, call.make)
    assert again == decisions(call.lines)
    assert b"model_timeout" in bytes(again[-1].what)


def test_what_was_heard_by_the_time_of_an_interruption_is_replayed():
    call = recorded("pause/1000/LJ001-0004")
    # Without the client's word on it the session goes by the times.
    told = (b"item.truncate", b"x_mimo.playout")
    untold = [each for each in call.lines if not any(t in bytes(each.what) for t in told)]
    late = [structs.replace(line, at_s=line.at_s * 1.01) for line in untold]

    def asks(lines: list[trace.Line]) -> list[bytes]:
        return [bytes(each.what) for each in replay(lines, call.make) if each.source == "request"]

    assert asks(untold) == asks(untold)
    assert asks(untold) != asks(late)


def test_a_session_that_draws_more_ids_than_were_recorded_is_refused():
    call = recorded("turn/hello_world")
    without = [line for line in call.lines if line.source != "id"]
    with pytest.raises(TraceError, match=r"draws an id for \w+ that the trace doesn't have"):
        replay(without, call.make)


def test_every_kind_of_output_is_written_with_what_it_holds():
    lines: list[trace.Line] = []
    recorder = Recorder(lines.append, str)
    failed = Failed(ModelError("broken", code="model_refused"))
    for output in (Text("Hi"), Sound(b"\1\2"), TextEnded(True), failed, Ended()):
        recorder.took(FromModel("resp_1", output), 1.5)
    assert [bytes(line.what) for line in lines] == [
        b'{"response_id":"resp_1","text":"Hi"}',
        b'{"response_id":"resp_1","sound":"AQI="}',
        b'{"response_id":"resp_1","text_cut":true}',
        b'{"response_id":"resp_1","failed":["broken","model_refused"]}',
        b'{"response_id":"resp_1"}',
    ]


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
