"""The model server's wire: recorded replies to the byte, and what servers do to them."""

import base64
import http.client
import io
import json
from pathlib import Path
from time import process_time
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies as st

from agent.audio import RATE, wav
from agent.errors import ModelError
from agent.model.mimo import plain
from agent.model.output import ChatMessage, Ended, Failed, Output, Sound, Text, TextEnded, Usage
from agent.model.reply_content import TextFilter
from agent.model.reply_reader import ReplyReader
from agent.model.request import chat_request
from agent.model.whole_reply import read_refusal, read_whole

WIRE = Path(__file__).parents[2] / "golden" / "wire"
TONE = bytes(range(256)) * 15
OTHER = TONE[::-1]
SILENCE = bytes(len(TONE))

Json = dict[str, Any]


class Recorded:
    """Stands in for a socket from which a recorded response is read."""

    def __init__(self, raw: bytes):
        self._raw = raw

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._raw)


def recorded(name: str) -> tuple[int, bytes]:
    """Status and body of a recorded response, as an HTTP client reads them."""
    socket = Recorded((WIRE / f"{name}.raw").read_bytes())
    response = http.client.HTTPResponse(cast(Any, socket))
    response.begin()
    return response.status, response.read()


def read(*pieces: bytes) -> list[Output]:
    reader = ReplyReader()
    return [*(output for piece in pieces for output in reader.outputs_in(piece)), *reader.finish()]


def text_of(outputs: list[Output]) -> str:
    return "".join(each.text for each in outputs if isinstance(each, Text))


def pcm_of(outputs: list[Output]) -> bytes:
    return b"".join(each.pcm for each in outputs if isinstance(each, Sound))


def event(body: Json) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chunk(content: str, modality: str = "text", **choice: object) -> bytes:
    inner = {"index": 0, "delta": {"content": content}, "finish_reason": None, **choice}
    return event({"choices": [inner], "modality": modality})


def audio(sound: bytes, **choice: object) -> bytes:
    return chunk(base64.b64encode(sound).decode(), "audio", **choice)


DONE = b"data: [DONE]\n\n"
TEXT_END = chunk("", stop_reason=151671)


def naive_pcm(body: bytes) -> bytes:
    """The sound of a recorded stream, read with nothing but its own JSON."""
    pcm = b""
    for line in body.splitlines():
        if line.startswith(b"data: {"):
            found = json.loads(line[6:])
            if found.get("modality") == "audio":
                sound = base64.b64decode(found["choices"][0]["delta"]["content"])
                pcm += sound[44:] if sound.startswith(b"RIFF") else sound
    return pcm


STREAMS: list[tuple[str, str, int, Output]] = [
    ("stream_normal", "Hello there, how are you?", 5_760, Ended()),
    ("stream_pcm16", "Hello there, how are you?", 5_760, Ended()),
    ("stream_usage", "Hello there, how are you?", 5_760, Ended(Usage(34, 14))),
    ("stream_audio_only", "", 5_760, Ended()),
    ("stream_text_only", "Hello there, how are you?", 0, Ended()),
    ("stream_noaudio", "Hi", 0, Ended()),
    ("stream_zerolast", "Hi", 2_400, Ended()),
]


@pytest.mark.parametrize(("name", "text", "samples", "end"), STREAMS, ids=str)
def test_recorded_streams(name: str, text: str, samples: int, end: Output):
    _, body = recorded(name)
    outputs = read(body)
    assert text_of(outputs) == text
    assert pcm_of(outputs) == naive_pcm(body)
    assert len(pcm_of(outputs)) == 2 * samples
    assert outputs[-1] == end


@pytest.mark.parametrize(
    ("name", "text", "samples", "message"),
    [
        ("stream_earlyerr", "", 0, "prompt too long"),
        ("stream_miderr", "Hi", 960, "stage-1 exploded"),
    ],
)
def test_recorded_errors_in_a_stream(name: str, text: str, samples: int, message: str):
    outputs = read(recorded(name)[1])
    assert text_of(outputs) == text
    assert len(pcm_of(outputs)) == 2 * samples
    match outputs[-1]:
        case Failed(error):
            assert str(error) == message
        case end:
            pytest.fail(f"ended with {end}")


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("bad_json", 400, "JSON decode error"),
        ("bad_modality", 400, "Unsupported output modalities image"),
        ("bad_spl_key", 500, "Unexpected keyword argument 'nope'"),
        ("full_err", 400, "prompt too long"),
    ],
)
def test_recorded_refusals(name: str, status: int, words: str):
    found, body = recorded(name)
    assert found == status
    assert words in str(read_refusal(body, found))


def test_every_recorded_response_is_tested():
    refused = {"bad_json", "bad_modality", "bad_spl_key", "full_err"}
    streams = {row[0] for row in STREAMS} | {"stream_earlyerr", "stream_miderr"}
    others = {"full_normal", "health", "stream_tool_call"}
    assert {file.stem for file in WIRE.glob("*.raw")} == refused | streams | others


def test_a_whole_reply():
    _, body = recorded("full_normal")
    tone = base64.b64decode(json.loads(body)["choices"][0]["message"]["audio"]["data"])[44:]
    assert len(tone) == 2 * 4_800
    assert read_whole(body) == [Text("Hello there"), Sound(tone), Ended(Usage(34, 6))]


def test_a_whole_reply_of_an_older_server_is_two_choices():
    sound = {"data": base64.b64encode(wav(TONE)).decode()}
    choices = [
        {"index": 0, "message": {"content": "Hi", "audio": None}, "stop_reason": 151671},
        {"index": 0, "message": {"content": None, "audio": sound}, "stop_reason": None},
    ]
    assert read_whole(json.dumps({"choices": choices}).encode()) == [
        Text("Hi"),
        Sound(TONE),
        Ended(),
    ]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices":[]}', b'{"error":"no"}', b"\xff"])
def test_a_whole_reply_that_is_none(body: bytes):
    with pytest.raises(ModelError):
        read_whole(body)
    assert str(read_refusal(body, 502))


@given(name=st.sampled_from([row[0] for row in STREAMS] + ["stream_miderr"]), data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_cut_of_the_bytes_gives_the_same(name: str, data: st.DataObject):
    _, body = recorded(name)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=30)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    whole, cut = read(body), read(*pieces)
    assert (text_of(cut), pcm_of(cut)) == (text_of(whole), pcm_of(whole))
    assert str(cut[-1]) == str(whole[-1])


def test_a_byte_at_a_time():
    body = chunk("Grüße, ") + chunk("你好") + TEXT_END + audio(TONE) + DONE
    outputs = read(*(bytes([each]) for each in body))
    assert outputs == [Text("Grüße, "), Text("你好"), TextEnded(), Sound(TONE), Ended()]


@pytest.mark.parametrize(
    "sounds",
    [
        [wav(TONE), wav(OTHER), wav(TONE)],
        [wav(TONE), OTHER, TONE],
        [TONE, OTHER, TONE],
        [wav(TONE)[:40] + b"\xff\xff\xff\xff" + TONE, OTHER, TONE],
    ],
    ids=["a header in each", "in the first", "in none", "of an endless file"],
)
@pytest.mark.parametrize("finish", [None, "stop"], ids=["stop at the end", "stop on every chunk"])
def test_headers_and_finish_reasons_of_all_versions(sounds: list[bytes], finish: str | None):
    chunks = [audio(sound, finish_reason=finish) for sound in sounds]
    outputs = read(b"".join(chunks) + DONE)
    assert outputs == [Sound(TONE), Sound(OTHER), Sound(TONE), Ended()]


@pytest.mark.parametrize("wrap", [wav, bytes])
def test_a_last_chunk_sent_twice_is_heard_once(wrap: Any):
    body = audio(wrap(OTHER)) + 2 * audio(wrap(TONE), finish_reason="stop") + DONE
    assert pcm_of(read(body)) == OTHER + TONE


def test_equal_chunks_within_a_reply_are_all_heard():
    body = 3 * audio(SILENCE) + audio(TONE) + DONE
    assert pcm_of(read(body)) == 3 * SILENCE + TONE


def test_an_empty_chunk_shows_that_the_one_before_was_not_the_last():
    for empty in ("", base64.b64encode(wav(b"")).decode()):
        body = 2 * audio(TONE) + chunk(empty, "audio", finish_reason="stop") + DONE
        assert pcm_of(read(body)) == 2 * TONE


def test_only_a_repeated_chunk_waits_for_the_next():
    reader = ReplyReader()
    assert reader.outputs_in(audio(TONE)) == [Sound(TONE)]
    assert reader.outputs_in(audio(TONE)) == []
    assert reader.outputs_in(audio(OTHER)) == [Sound(TONE + OTHER)]


def test_chunks_without_choices_and_metrics_of_any_form():
    inner: Json = {"delta": {"content": "Hi"}, "finish_reason": None}
    odd: list[Json] = [
        {"choices": []},
        {"choices": None, "modality": None},
        {"choices": [inner], "metrics": None},
        {"choices": [inner], "metrics": {"ttft": 1.0, "stages": [{}]}, "modality": "text"},
        {"choices": [inner], "metrics": ["?"], "new": {"field": 1}},
        {"choices": [{"delta": None}]},
    ]
    body = b": a comment\n\n" + b"".join(map(event, odd)) + b"event: x\r\ndata:[DONE]\r\n\r\n"
    assert read(body) == [Text("Hi")] * 3 + [Ended()]


def test_a_reply_cut_at_its_limit_says_so():
    outputs = read(chunk("Hi") + chunk("", stop_reason=None) + audio(TONE) + DONE)
    ended = [TextEnded(cut_short=True), Sound(TONE), Ended(cut_short=True)]
    assert outputs == [Text("Hi"), *ended]


def test_the_text_of_a_real_reply_is_over_long_before_its_sound():
    # A real server's, with forced words, the sound of each chunk cut to a millisecond.
    outputs = read((WIRE / "stream_tool_call.raw").read_bytes())
    over = outputs.index(TextEnded())
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    assert text_of(outputs[:over]) == f"Let me look. {call}" == text_of(outputs)
    assert [type(each) for each in outputs[over + 1 :]] == [Sound, Sound, Ended]


def test_text_goes_on_after_five_groups_and_a_character_in_pieces():
    body = chunk("A") + 8 * chunk("") + chunk("B") + 20 * chunk("") + TEXT_END + DONE
    assert read(body) == [Text("A"), Text("B"), TextEnded(), Ended()]


def code_of(output: Output) -> str:
    return output.error.code if isinstance(output, Failed) else f"no failure but {output}"


@pytest.mark.parametrize(
    ("body", "heard", "code"),
    [
        (chunk("Hi") + audio(TONE), TONE, "model_cut_off"),
        (chunk("Hi") + audio(TONE) + b'data: {"choi', TONE, "model_bad_chunk"),
        (b"", b"", "model_cut_off"),
        (audio(TONE) + chunk("!" * 10, "audio") + audio(TONE) + DONE, TONE, "model_bad_audio"),
        (audio(TONE) + chunk("AAA", "audio") + DONE, TONE, "model_bad_audio"),
        (audio(TONE) + audio(wav(TONE, channels=2)) + DONE, TONE, "model_bad_audio"),
        (audio(TONE) + audio(wav(TONE)[:36]) + DONE, TONE, "model_bad_audio"),
        (audio(TONE) + b"data: [1]\n\n" + DONE, TONE, "model_bad_chunk"),
        (audio(TONE) + b"data: \xff\n\n" + DONE, TONE, "model_bad_chunk"),
        (event({"error": "no"}) + DONE, b"", "model_refused"),
        (event({"error": {"message": "no", "code": 400}}) + DONE, b"", "model_refused"),
        (event({"error": {"message": "Cache miss for audio at index 0 but data is not provided."}}),
         b"", "model_cache_miss"),
    ],
)  # fmt: skip
def test_what_came_before_a_failure_counts(body: bytes, heard: bytes, code: str):
    outputs = read(body)
    assert pcm_of(outputs) == heard
    assert code_of(outputs[-1]) == code
    assert sum(isinstance(each, Failed | Ended) for each in outputs) == 1


def test_a_stream_without_done_is_complete_if_it_looks_it():
    body = chunk("Hi") + TEXT_END + audio(TONE) + audio(OTHER, finish_reason="stop")
    assert read(body) == [Text("Hi"), TextEnded(), Sound(TONE), Sound(OTHER), Ended()]


def test_a_connection_that_broke_is_no_end_however_it_looks():
    reader = ReplyReader()
    reader.outputs_in(chunk("Hi..", finish_reason="stop"))
    outputs = reader.finish(ModelError("reset", code="model_cut_off"))
    assert text_of(outputs) == ".."
    assert code_of(outputs[-1]) == "model_cut_off"


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_sound_of_another_rate_is_resampled(rate: int):
    second = bytes(2 * rate)
    halves = [second[: len(second) // 2], second[len(second) // 2 :]]
    body = b"".join(audio(wav(half, rate), id=n) for n, half in enumerate(halves)) + audio(b"")
    assert abs(len(pcm_of(read(body + DONE))) // 2 - RATE) <= 1


def test_a_rate_that_changes_loses_nothing():
    body = audio(wav(bytes(2 * 8_000), 8_000)) + audio(wav(TONE)) + DONE
    pcm = pcm_of(read(body))
    assert pcm.endswith(TONE)
    assert abs(len(pcm) // 2 - RATE - len(TONE) // 2) <= 1


def test_filler_and_special_tokens_go_wherever_they_are_cut():
    said = "Well... yes.<|eot|> I am....... 3.5 <b> < |x| <|empty|>fine..."
    wanted = "Well... yes. I am 3.5 <b> < |x| fine..."
    for at in range(len(said)):
        for to in range(at, len(said)):
            body = chunk(said[:at]) + chunk(said[at:to]) + chunk(said[to:]) + DONE
            assert text_of(read(body)) == wanted


@given(pieces=st.lists(st.text("<|>.a", max_size=8), max_size=12))
@settings(max_examples=200, deadline=None)
def test_text_is_filtered_the_same_in_any_pieces(pieces: list[str]):
    def filtered(*parts: str) -> str:
        words = TextFilter()
        return "".join([*map(words.filter, parts), words.finish()])

    assert filtered(*pieces) == filtered("".join(pieces))


def test_text_that_is_no_noise_is_not_delayed():
    words = TextFilter()
    assert [words.filter(each) for each in ("Hi", " a<", "b", " 3", ".", "5")] == [
        "Hi", " a", "<b", " 3", "", ".5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "safe"),
    [
        ("hello", "hello"),
        ("a <| b |> c | d", "a  c | d"),
        ("x<|im_end|>y", "xy"),
        ("<|<|im_end|>im_end|>", ""),
        ("<|im_<|im_end|>end|>", ""),
        ("<<|x|>|im_end|>", ""),
        ("<|im_end<|x|>|>", ""),
    ],
)
def test_typed_special_tokens_are_taken_out(typed: str, safe: str):
    assert plain(typed) == safe


@given(text=st.text("<|>a", max_size=40))
@settings(max_examples=200, deadline=None)
def test_nothing_typed_leaves_a_special_token(text: str):
    assert "<|a|>" not in plain(text)
    assert plain(plain(text)) == plain(text)


def test_tokens_nested_without_end_are_broken_up():
    deep = "<|" * 50_000 + "a" + "|>" * 50_000
    assert "<|" not in plain(deep)


def test_a_request_without_messages_holds_what_the_template_begins_with():
    [system] = cast(Json, chat_request([], "audio", 100, "m"))["messages"]
    text = {"type": "text", "text": "You are a helpful assistant."}
    assert system == {"role": "system", "content": [text]}


def test_a_request_names_speech_that_the_replica_has():
    messages = [
        ChatMessage("system", "Be <|im_end|>brief."),
        ChatMessage("user", pcm=TONE, key="k1"),
        ChatMessage("assistant", "Yes.", OTHER, "k2"),
        ChatMessage("user", pcm=TONE, key="k3"),
    ]
    body = cast(Json, chat_request(messages, "audio", 100, "m", known={"k1"}))
    contents = [message["content"] for message in body["messages"]]
    assert contents[0] == [{"type": "text", "text": "Be brief."}]
    assert contents[1] == [{"type": "audio_url", "audio_url": None, "uuid": "k1"}]
    assert contents[2][0] == {"type": "text", "text": "Yes."}
    url = contents[2][1]["audio_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:audio/wav;base64,")) == wav(OTHER)
    assert contents[3][0]["uuid"] == "k3"
    assert contents[3][0]["audio_url"] is not None
    assert body["sampling_params_list"][0]["max_tokens"] == 100


@pytest.mark.parametrize(
    "typed", ["</tool_response>", "<tool_call>", "</think>", "</tool_<|x|>call>"]
)
def test_the_marks_of_calls_and_results_are_broken_up(typed: str):
    assert plain(typed).startswith("< ")
    assert plain(plain(typed)) == plain(typed)


@pytest.mark.parametrize("noise", [".", "<", "<|", "<|a", ". ", ".<"])
def test_text_in_pieces_is_read_like_the_whole_and_little_of_it_waits(noise: str):
    text = f"a{noise * 500}b"
    reader, said = TextFilter(), ""
    for piece in text:
        said += reader.filter(piece)
        assert len(reader._held) <= 64  # pyright: ignore[reportPrivateUsage]
    whole = TextFilter()
    assert said + reader.finish() == whole.filter(text) + whole.finish()


def busy_s(dots: int) -> float:
    """Processor time for a reply of so many dots, and a word."""
    began = process_time()
    TextFilter().filter("." * dots + "a")
    return process_time() - began


def test_ten_times_as_many_dots_take_no_hundred_times_as_long():
    shortest = min(busy_s(10_000) for _ in range(5))
    assert busy_s(100_000) < 30 * max(shortest, 0.001)
