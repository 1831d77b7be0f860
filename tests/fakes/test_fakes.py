"""The stand-in for the model server: its shapes are the recorded ones, and it sees all."""

import http.client
import json
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from agent.model.output import Ended, Failed, Output, Sound, Text
from agent.model.reply_reader import ReplyReader
from tests.drivers.model_client import Client, Json, audio_part, silence, user
from tests.drivers.processes import ROOT
from tests.fakes import Fault, StandIn, sound, stand_in

GOLDEN = Path(__file__).parents[1] / "golden" / "wire"
HI: Json = {"stream": True, "messages": [user("hi")]}


def recorded(name: str) -> bytes:
    """The body of a recorded response."""
    head, _, body = (GOLDEN / f"{name}.raw").read_bytes().partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return body
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return whole


def chunks(body: bytes) -> list[Json]:
    lines = body.decode().split("\n\n")
    return [json.loads(line[6:]) for line in lines if line and line != "data: [DONE]"]


def shape(value: Any) -> Any:
    """What stays the same between two chunks of one kind: keys in their order, types, markers."""
    match value:
        case dict():
            found = cast(dict[str, Any], value)
            kept = ("finish_reason", "stop_reason", "format", "modality", "object", "code")
            return [(key, each if key in kept else shape(each)) for key, each in found.items()]
        case list():
            return [shape(each) for each in cast(list[Any], value)]
        case _:
            return type(value).__name__


def shapes(found: list[Json]) -> list[Any]:
    """Each shape once, in the order in which they first came."""
    ordered: list[Any] = []
    for each in found:
        if shape(each) not in ordered:
            ordered.append(shape(each))
    return ordered


def answered(model: StandIn, body: Json) -> bytes:
    with closing(Client(model.url).open(body)) as stream:
        return stream.response.read()


def read(raw: bytes) -> list[Output]:
    reader = ReplyReader()
    return [*reader.outputs_in(raw), *reader.finish()]


def pcm_of(outputs: list[Output]) -> bytes:
    return b"".join(each.pcm for each in outputs if isinstance(each, Sound))


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("stream_normal", {}),
        ("stream_pcm16", {"audio": {"format": "pcm16"}}),
        ("stream_usage", {"stream_options": {"include_usage": True}}),
        ("stream_text_only", {"modalities": ["text"]}),
        ("stream_audio_only", {"modalities": ["audio"]}),
    ],
)
def test_a_stream_has_the_recorded_shapes(name: str, more: Json):
    with stand_in() as model:
        raw = answered(model, HI | more)
    assert raw.endswith(b"data: [DONE]\n\n")
    assert sorted(map(str, shapes(chunks(raw)))) == sorted(map(str, shapes(chunks(recorded(name)))))


def test_a_function_is_called_when_the_user_asks_for_it_and_what_it_returned_is_told():
    wish = user('call: weather {"city": "Oslo"}')
    tools: Json = {"tools": [{"type": "function", "function": {"name": "weather"}}]}

    def said(body: Json) -> str:
        outputs = read(answered(model, {"stream": True} | body))
        return "".join(each.text for each in outputs if isinstance(each, Text))

    with stand_in() as model:
        call = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
        assert said({"messages": [wish]} | tools) == call
        spoken = user(audio_part(silence(1)))
        assert said({"messages": [wish | {"role": "system"}, spoken]} | tools) == call
        assert said({"messages": [wish]}) == model.reply.text
        told: list[Json] = [wish, {"role": "tool", "content": "snow"}]
        assert said({"messages": told} | tools) == "I was told: snow"


def test_a_whole_reply_has_the_recorded_shape():
    with stand_in(text="Hello there") as model:
        reply = Client(model.url).whole(user("hi"))
    assert shape(reply) == shape(json.loads(recorded("full_normal")))


@pytest.mark.parametrize(
    ("name", "fault"),
    [("stream_earlyerr", Fault.ERROR_FIRST), ("stream_miderr", Fault.ERROR_MIDWAY)],
)
def test_errors_in_a_stream_are_the_recorded_ones(name: str, fault: Fault):
    with stand_in(always={fault}) as model:
        raw = answered(model, HI)
    assert chunks(raw)[-1] == chunks(recorded(name))[-1]
    assert raw.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{nope", 400, "1 validation error"),
        ({"messages": [], "modalities": ["image"]}, 400, "Unsupported output modalities image"),
        ({"messages": [], "model": "other"}, 404, "The model `other` does not exist."),
        (
            {"messages": [user(audio_part(b"a"), audio_part(b"b"))]},
            500,
            "Mismatch between audio placeholders and audio items in a message.",
        ),
    ],
)
def test_wrong_requests_are_refused_as_the_real_server_does(
    body: Json | bytes, status: int, message: str
):
    with stand_in() as model:
        found, answer = Client(model.url).post(body)
    assert found == status
    assert answer["error"]["message"].startswith(message)


def test_health_and_models_are_told():
    with stand_in() as model:
        root = Client(model.url)
        assert root.get("/health") == (200, json.loads(recorded("health")))
        model.healthy = False
        assert root.get("/health")[0] == 503
        assert root.get("/v1/models")[1]["data"][0]["id"] == "MiMo-Audio-7B-Instruct"


@pytest.mark.parametrize(
    "fault", [None, Fault.WAV, Fault.WAV_ONCE, Fault.STOP_EVERYWHERE, Fault.EMPTY_CHUNKS]
)
@pytest.mark.parametrize("groups", [9, 10])
@pytest.mark.parametrize("pcm16", [True, False])
def test_every_version_carries_the_same_sound(fault: Fault | None, groups: int, pcm16: bool):
    with stand_in(groups=groups) as model:
        model.faults.append(fault)
        outputs = read(answered(model, HI | ({"audio": {"format": "pcm16"}} if pcm16 else {})))
        assert outputs[-1] == Ended()
        assert pcm_of(outputs) == model.chats[0].pcm == sound(0, groups)


def test_the_last_chunk_comes_twice_where_the_groups_fill_it():
    def contents(groups: int, *faults: Fault) -> list[str]:
        with stand_in(groups=groups, always=set(faults)) as model:
            found = chunks(answered(model, HI))
        sounding = [each for each in found if each["modality"] == "audio"]
        return [each["choices"][0]["delta"]["content"] for each in sounding]

    assert len(contents(10)) == 4
    full = contents(9)
    assert len(full) == 4
    assert full[2] == full[3] != full[1]
    assert len(contents(10, Fault.DUPLICATE_TAIL)) == 5


@pytest.mark.parametrize(
    "fault", [Fault.ERROR_MIDWAY, Fault.WRONG_JSON, Fault.WRONG_BASE64, Fault.ERROR_FIRST]
)
def test_a_broken_reply_ends_in_a_failure(fault: Fault):
    with stand_in() as model:
        model.faults.append(fault)
        outputs = read(answered(model, HI))
        assert isinstance(outputs[-1], Failed)
        assert bool(pcm_of(outputs)) is (fault is not Fault.ERROR_FIRST)
        assert read(answered(model, HI))[-1] == Ended()


def test_a_stream_may_lack_its_done():
    with stand_in(always={Fault.NO_DONE}) as model:
        raw = answered(model, HI)
    assert b"[DONE]" not in raw
    assert pcm_of(read(raw)) == sound(0, 10)


@pytest.mark.parametrize("fault", [Fault.CUT_FIRST, Fault.CUT_MIDWAY])
@pytest.mark.parametrize("streams", [True, False])
def test_a_cut_connection_breaks_while_reading(fault: Fault, streams: bool):
    with stand_in() as model:
        model.faults.append(fault)
        with pytest.raises((OSError, http.client.HTTPException)):
            answered(model, HI | {"stream": streams})
        model.wait(lambda: model.chats[0].ended == "cut")


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.STALL_FIRST, Fault.STALL_MIDWAY])
def test_a_client_that_leaves_during_a_stall_is_seen(fault: Fault):
    with stand_in() as model:
        model.faults.append(fault)
        connection = http.client.HTTPConnection(urlsplit(model.url).netloc, timeout=10)
        connection.request("POST", "/v1/chat/completions", json.dumps(HI))
        model.wait(lambda: model.chats)
        assert model.chats[0].ended == ""
        connection.close()
        model.wait(lambda: model.chats[0].ended == "closed")
        assert read(answered(model, HI))[-1] == Ended()


def test_replies_are_made_one_at_a_time_and_one_that_is_not_wanted_gives_way():
    with stand_in() as model:
        model.faults.append(Fault.STALL_MIDWAY)
        first = Client(model.url).open(HI)
        model.wait(lambda: model.chats[0].sent_at)
        second = Client(model.url).open(HI)
        third = Client(model.url).open(HI)
        assert [each.work_began_at is None for each in model.chats] == [False, True, True]
        second.close()
        model.wait(lambda: model.chats[1].ended == "closed")
        first.close()
        assert read(third.response.read())[-1] == Ended()
        third.close()
        model.wait(lambda: model.chats[2].ended)
        ends = [(each.ended, each.work_began_at is None) for each in model.chats]
        assert ends == [("closed", False), ("closed", True), ("finished", False)]


def test_audio_is_known_by_its_uuid_until_it_is_lost():
    reference = {"type": "audio_url", "audio_url": None, "uuid": "a"}
    with stand_in() as model:
        client = Client(model.url)
        messages = [user(audio_part(silence(0.1), "a")), user(reference)]
        assert client.post({"messages": [user("x"), *messages[1:]]})[0] == 400
        assert client.post({"messages": messages})[0] == 200
        assert client.post({"messages": messages[1:]})[0] == 200
        model.faults.append(Fault.CACHE_LOST)
        missed = client.post({"messages": [user(audio_part(silence(0.1))), user(reference)]})
    text = "Cache miss for audio at index 1 but data is not provided."
    assert missed == (
        400,
        {"error": {"message": text, "type": "BadRequestError", "param": None, "code": 400}},
    )


def test_a_request_is_kept_as_it_came():
    with stand_in(text="One two.") as model:
        outputs = read(answered(model, HI))
        model.wait(lambda: model.chats[0].ended == "finished")
        kept = model.chats[0]
    assert "".join(each.text for each in outputs if isinstance(each, Text)) == "One two."
    assert kept.body == HI
    assert kept.raw == json.dumps(HI).encode()
    assert len(kept.sent_at) == 4
    assert kept.ended_at is not None
    assert kept.began_at <= kept.sent_at[0] <= kept.sent_at[-1] <= kept.ended_at


def test_time_passes_as_it_was_set():
    with stand_in(first_chunk_ms=40, rtf=0.05, groups=7) as model:
        answered(model, HI)
        kept = model.chats[0]
    assert kept.work_began_at is not None
    due_s = [0.040, 0.040 + 3 * 0.160 * 0.05, 0.040 + 4 * 0.160 * 0.05]
    assert all(at - kept.work_began_at >= due for at, due in zip(kept.sent_at, due_s, strict=True))


def test_it_runs_as_a_program_too():
    command = [sys.executable, "-m", "tests.fakes", "--port", "0", "--first-chunk-ms", "0"]
    options = ["--rtf", "0", "--groups", "4", "--text", "Hi."]
    with subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().removeprefix("listening on ").strip()
        reply = Client(url).whole(user("hi"))
        requests = Client(url).get("/requests")[1]["requests"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert reply["choices"][0]["message"]["content"] == "Hi."
    assert [each["ended"] for each in requests] == ["finished"]
