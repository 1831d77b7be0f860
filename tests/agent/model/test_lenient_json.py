"""Fields of the model server that nobody hears, in any form: what is heard stays whole."""

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from agent.audio import wav
from agent.errors import ModelError
from agent.model.lenient_json import refusal
from agent.model.output import Ended, Failed, Output, Sound, Text, TextEnded, Usage
from agent.model.reply_reader import ReplyReader
from agent.model.whole_reply import read_refusal, read_whole
from tests.drivers.scripted import Scripted

TONE = bytes(range(256)) * 15
SOUND = b64encode(TONE).decode()
DONE = b"data: [DONE]\n\n"

Json = dict[str, Any]


def event(body: Json) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def read(body: bytes) -> list[Output]:
    reader = ReplyReader()
    return [*reader.outputs_in(body), *reader.finish()]


def heard(outputs: list[Output]) -> tuple[str, bytes]:
    words = "".join(each.text for each in outputs if isinstance(each, Text))
    return words, b"".join(each.pcm for each in outputs if isinstance(each, Sound))


@pytest.mark.parametrize(
    ("counts", "read_as"),
    [
        ('{"prompt_tokens": 34, "completion_tokens": null}', Usage(34, None)),
        ('{"prompt_tokens": "34", "completion_tokens": 14}', Usage(None, 14)),
        ('{"prompt_tokens": -1, "completion_tokens": 14.0}', Usage(None, 14)),
        ('{"prompt_tokens": true, "completion_tokens": 1e400}', Usage(None, None)),
        ('{"prompt_tokens": NaN, "completion_tokens": 1.5}', Usage(None, None)),
        ('{"prompt_tokens": 2147483648, "completion_tokens": 2147483647}', Usage(None, 2**31 - 1)),
        (f'{{"prompt_tokens": {"9" * 5_000}, "completion_tokens": {{}}}}', Usage(None, None)),
        ('{"total_tokens": 5}', Usage(None, None)),
        ("null", None),
        ('"34"', None),
        ("[1]", None),
    ],
)
def test_usage_of_any_form_is_read_as_far_as_it_says(counts: str, read_as: Usage | None):
    usage = f'data: {{"choices": [], "usage": {counts}}}\n\n'.encode()
    said = event({"choices": [{"delta": {"content": "Hi"}}]})
    assert read(said + usage + DONE) == [Text("Hi"), Ended(read_as)]
    message = '{"choices": [{"message": {"content": "Hi"}}], "usage": ' + counts + "}"
    assert read_whole(message.encode()) == [Text("Hi"), Ended(read_as)]


def test_a_count_that_is_not_known_is_reckoned_and_the_reply_is_complete():
    scripted = Scripted()
    scripted.send({"type": "response.create"})
    scripted.model(Text("I am."))
    scripted.model(Ended(Usage(34, None)))
    done = scripted.server[-1]["response"]
    assert done["status"] == "completed"
    assert (done["usage"]["input_tokens"], done["usage"]["output_tokens"]) == (34, 2)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["stop", "audio_metadata", "9" * 30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)
CHUNK = ["id", "object", "created", "model", "usage", "metrics", "prompt_token_ids", "new"]
CHOICE = ["index", "logprobs", "finish_reason", "token_ids", "audio_metadata", "stop_reason"]
DELTA = ["role", "reasoning", "tool_calls", "refusal"]


def fields(names: list[str]) -> st.SearchStrategy[Json]:
    return st.dictionaries(st.sampled_from(names), ANYTHING, max_size=4)


@given(*map(fields, (CHUNK, CHOICE, DELTA)), st.sets(st.integers(0, 3), min_size=1))
@settings(max_examples=60, deadline=None)
def test_whatever_else_the_chunks_hold_what_is_heard_is_whole(
    beside: Json, choice: Json, delta: Json, odd: set[int]
):
    body = b""
    contents = [("Good ", "text"), (SOUND, "audio"), ("day.", "text"), ("", "audio")]
    for number, (content, modality) in enumerate(contents):
        chunk = {"modality": modality, "choices": [{"delta": {"content": content}}]}
        if number in odd:
            inner = {**choice, "delta": {**delta, "content": content}}
            chunk = {**beside, "modality": modality, "choices": [inner]}
        body += event(chunk)
    outputs = read(body + DONE)
    assert heard(outputs) == ("Good day.", TONE)
    assert isinstance(outputs[-1], Ended)


@given(*map(fields, (CHUNK, CHOICE, DELTA)))
@settings(max_examples=40, deadline=None)
def test_so_it_is_of_a_whole_reply(beside: Json, choice: Json, message: Json):
    message = {**message, "content": "Good day.", "audio": {"id": None, "data": SOUND}}
    body = {**beside, "choices": [{**choice, "message": message}]}
    assert heard(read_whole(json.dumps(body).encode())) == ("Good day.", TONE)


@pytest.mark.parametrize(
    "inner",
    [None, {}, {"delta": None}, {"delta": "x"}, {"delta": {}}, {"delta": {"content": None}}, 7],
)
def test_a_chunk_without_content_is_nothing(inner: object):
    body = event({"choices": [inner]}) + event({"choices": "?"}) + event({"choices": {}})
    assert read(body + DONE) == [Ended()]


@pytest.mark.parametrize("modality", [None, 3, {}])
def test_sound_is_known_without_the_word_for_it(modality: object):
    with_header = b64encode(wav(TONE)).decode()
    by_header = {"delta": {"content": with_header}}
    by_data = {"delta": {"content": SOUND}, "audio_metadata": None}
    said = {"delta": {"content": "Hi"}}
    body = [event({"modality": modality, "choices": [each]}) for each in (said, by_header, by_data)]
    assert heard(read(b"".join(body) + DONE)) == ("Hi", 2 * TONE)


def test_a_reason_to_stop_that_is_always_there_ends_no_call():
    texts = ['<tool_call>{"name"', ': "now"}</tool_call>']
    chunks = [{"delta": {"content": text}, "stop_reason": None} for text in texts]
    body = b"".join(event({"choices": [each]}) for each in chunks)
    assert read(body + DONE) == [*map(Text, texts), Ended()]


def test_a_text_cut_at_its_limit_within_a_chunk_says_so():
    chunk = {"delta": {"content": "Hi"}, "finish_reason": "length", "stop_reason": None}
    body = event({"choices": [chunk]}) + DONE
    assert read(body) == [Text("Hi"), TextEnded(cut_short=True), Ended(cut_short=True)]


def test_half_a_character_is_no_reason_to_fail():
    chunk = b'data: {"choices": [{"delta": {"content": "a\\ud83d"}}]}\n\n'
    assert read(chunk + DONE) == [Text("a?"), Ended()]


@pytest.mark.parametrize("body", [b"[]", b"7", b'{"choices": [{"delta": {"content": 7}}]}'])
def test_what_can_not_be_read_is_named(body: bytes):
    [failed] = read(b"data: " + body + b"\n\n")
    assert isinstance(failed, Failed)
    assert failed.error.code == "model_bad_chunk"


def test_nesting_without_end_is_named():
    deep = b'data: {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n"
    [failed] = read(deep)
    assert isinstance(failed, Failed)
    assert failed.error.code == "model_bad_chunk"


@pytest.mark.parametrize("code", [None, "400", {}, [500], 10**30])
def test_a_lost_clip_is_known_whatever_the_code(code: object):
    message = "Cache miss for audio at index 0 but data is not provided."
    assert refusal({"message": message, "code": code}).code == "model_cache_miss"
    assert str(read_refusal(json.dumps({"error": {"message": "no", "code": code}}).encode(), 400))


@pytest.mark.parametrize("message", [None, 7, {}])
def test_a_refusal_without_words_is_still_a_refusal(message: object):
    assert refusal({"message": message, "code": 503}).code == "model_failed"
    with pytest.raises(ModelError):
        read_whole(json.dumps({"error": {"message": message}}).encode())
