"""The session: whole calls as scripts, in the order that PROTOCOL's clients rely on."""

import base64
from dataclasses import replace

import pytest
from msgspec import to_builtins

from agent.audio import RATE, SAMPLE_BYTES
from agent.model.output import Ended, Sound, Text
from agent.realtime import server_events as events
from agent.realtime.client_events import InputAudioAppend
from agent.realtime.config import SemanticVad, ServerVad, TurnDetection
from agent.realtime.items import MessageItem, OutputAudio
from tests.drivers.virtual_call import (
    ANSWER,
    BROKEN,
    END,
    FRAME,
    IS_SILENT,
    JUDGED,
    ONSET,
    PAUSE,
    POLICY,
    SECOND,
    SPEAKS,
    UTTERANCE,
    Call,
    config,
)

HEARD = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]
OPENED = [
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
]
TEXT, SOUND = "response.output_audio_transcript.delta", "response.output_audio.delta"
CLOSED = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]
ADDED = ["conversation.item.added", "conversation.item.done"]
QUESTION = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi?"}]}


def call(
    detection: TurnDetection | None = ServerVad(),  # noqa: B008 (frozen)
    transcription: bool = False,
    early_start_ms: int = 200,
) -> Call:
    return Call(config(detection, transcription), replace(POLICY, early_start_ms=early_start_ms))


def speaking() -> Call:
    """A call in which the agent is speaking: two seconds were sent, one has been played."""
    each = call()
    each.user(UTTERANCE)
    each.model(*ANSWER[:4])
    each.wait(1.0)
    each.told()
    return each


def test_a_spoken_turn_is_told_in_the_protocols_order():
    each = call()
    each.user(UTTERANCE)
    assert each.told() == [*HEARD, "response.created"]
    each.model(*ANSWER)
    assert each.told() == [*OPENED, TEXT, SOUND, TEXT, SOUND, *CLOSED]
    assert each.done().status == "completed"
    match each.done().output:
        case [MessageItem(content=content)]:
            assert content == [OutputAudio("It is sunny.")]
        case found:
            pytest.fail(f"unexpected: {found}")


def test_what_is_said_about_an_item_fits_together():
    each = call()
    each.user(UTTERANCE)
    each.model(*ANSWER)
    news = each.news()
    started, stopped, committed, added, done = news[:5]
    assert isinstance(started, events.SpeechStarted)
    assert isinstance(stopped, events.SpeechStopped)
    assert isinstance(committed, events.Committed)
    assert isinstance(added, events.ItemAdded)
    assert isinstance(done, events.ItemDone)
    ids = {started.item_id, stopped.item_id, committed.item_id, added.item.id, done.item.id}
    assert len(ids) == 1
    assert (started.audio_start_ms, stopped.audio_end_ms) == (0, 36 * 32)
    answers = [each for each in news if isinstance(each, events.ItemAdded)]
    assert [item.previous_item_id for item in answers] == [None, started.item_id]
    assert to_builtins(added.item)["content"] == [{"type": "input_audio", "transcript": None}]


def test_the_reply_is_asked_for_in_the_pause_and_told_only_after_the_verdict():
    each = call()
    each.user([SPEAKS] * 20 + [IS_SILENT] * PAUSE)
    assert each.asked is not None
    each.model(*ANSWER)
    assert each.told() == ["input_audio_buffer.speech_started"]
    each.user([IS_SILENT] * (END - PAUSE))
    expected = [*HEARD[1:], "response.created", *OPENED, TEXT, SOUND, TEXT, SOUND, *CLOSED]
    assert each.told() == expected
    assert len(each.asks) == 1


def test_speech_after_the_pause_makes_one_longer_turn_and_drops_the_reply_unheard():
    each = call()
    each.user([SPEAKS] * 20 + [IS_SILENT] * (PAUSE + 1))
    each.model(Text("Too"), SECOND)
    each.user([SPEAKS] * 5)
    assert each.asked is None
    each.model(SECOND, of=each.asks[0].response_id)
    each.user([SPEAKS] * 5 + [IS_SILENT] * END)
    assert each.told() == [*HEARD, "response.created"]
    first, second = (ask.messages[-1].pcm for ask in each.asks)
    assert len(second) > len(first)


def test_without_an_early_start_the_request_waits_for_the_verdict():
    each = call(early_start_ms=0)
    each.user([SPEAKS] * 20 + [IS_SILENT] * (END - 1))
    assert each.asked is None
    each.user([IS_SILENT])
    assert each.asked is not None
    each.model(*ANSWER)
    assert each.done().status == "completed"


def test_semantic_turn_detection_hears_and_answers_as_well():
    each = call(SemanticVad())
    each.user([SPEAKS] * 20 + [IS_SILENT] * 23)
    assert each.told() == [*HEARD, "response.created"]


def test_speech_begins_by_the_clients_own_threshold_and_padding():
    each = call(ServerVad(threshold=0.95))
    each.user(UTTERANCE)
    assert each.told() == []
    starts: list[int] = []
    for padding_ms in (100, 300):
        each = call(ServerVad(prefix_padding_ms=padding_ms))
        each.user([IS_SILENT] * 40 + UTTERANCE)
        started = each.news()[0]
        assert isinstance(started, events.SpeechStarted)
        starts.append(started.audio_start_ms)
    assert starts[0] - starts[1] == 200


def test_a_microphone_that_goes_dead_in_a_pause_ends_the_turn():
    each = call()
    each.user([SPEAKS] * 20 + [IS_SILENT] * PAUSE)
    each.wait(5.0)
    assert each.told() == [*HEARD, "response.created"]
    each.model(*ANSWER)
    each.user(UTTERANCE)
    assert each.told().count("input_audio_buffer.speech_started") == 1


def test_a_typed_turn_is_answered_when_the_client_asks():
    each = call()
    each.client("conversation.item.create", item=QUESTION)
    assert each.told() == ADDED
    each.client("response.create")
    assert each.told() == ["response.created"]
    assert [message.text for message in each.asks[0].messages] == ["Be brief.", "Hi?"]
    each.model(*ANSWER)
    assert each.told() == [*OPENED, TEXT, SOUND, TEXT, SOUND, *CLOSED]


def test_an_answer_in_writing_has_text_events():
    each = call()
    response = {"output_modalities": ["text"], "metadata": {"n": "1"}, "instructions": "Rhyme."}
    each.client("response.create", response=response)
    assert each.asks[0].modality == "text"
    assert each.asks[0].messages[0].text == "Rhyme."
    each.model(Text("A "), Text("poem"), Ended())
    delta, done = "response.output_text.delta", "response.output_text.done"
    assert each.told() == ["response.created", *OPENED, delta, delta, done, *CLOSED[2:]]
    assert each.done().metadata == {"n": "1"}
    each.user(UTTERANCE)
    assert each.asks[1].modality == "audio"
    assert each.asks[1].messages[0].text == "Be brief."
    each.model(*ANSWER)
    assert each.done().metadata is None


def test_without_turn_detection_only_the_client_ends_turns():
    each = call(None)
    each.user([SPEAKS] * 20 + [IS_SILENT] * 40)
    assert each.told() == []
    each.client("input_audio_buffer.commit")
    assert each.told() == ["input_audio_buffer.committed", *ADDED]
    each.client("response.create")
    assert len(each.asks[0].messages[-1].pcm) == 60 * len(FRAME)
    each.model(*ANSWER)
    assert each.done().status == "completed"
    each.client("input_audio_buffer.commit")
    assert each.told()[-1] == "error"


def test_a_commit_takes_an_open_utterance():
    each = call()
    each.user([SPEAKS] * 20)
    each.client("input_audio_buffer.commit")
    assert each.told() == HEARD
    assert each.asked is None
    each.user(UTTERANCE)
    assert each.told() == [*HEARD, "response.created"]


def test_a_commit_in_a_pause_drops_the_reply_that_was_made_in_advance():
    each = call()
    each.user([SPEAKS] * 20 + [IS_SILENT] * PAUSE)
    each.client("input_audio_buffer.commit")
    assert each.asked is None
    each.client("response.create")
    each.model(*ANSWER)
    assert each.done().status == "completed"


@pytest.mark.parametrize("detection", [None, ServerVad()])
def test_too_little_to_commit_is_an_error(detection: TurnDetection | None):
    each = call(detection)
    each.user([IS_SILENT] * 3)
    each.client("input_audio_buffer.commit", event_id="mine")
    error = each.error()
    assert (error.code, error.event_id) == ("input_audio_buffer_commit_empty", "mine")


def test_a_commit_where_no_speech_was_detected_takes_what_no_turn_has_taken():
    each = call()
    each.user([IS_SILENT] * 5)
    each.client("input_audio_buffer.commit")
    assert each.told() == [HEARD[2], *ADDED]
    each.client("input_audio_buffer.commit")
    assert each.error().code == "input_audio_buffer_commit_empty"
    each.user([*UTTERANCE, *[IS_SILENT] * 4])
    each.model(*ANSWER)
    each.told()
    each.client("input_audio_buffer.commit")
    assert each.told() == [HEARD[2], *ADDED]
    each.client("response.create")
    clips = [len(message.pcm) // len(FRAME) for message in each.asks[-1].messages]
    assert (clips[1], clips[-1]) == (5, 4)


def test_a_commit_while_a_sound_over_the_agents_voice_is_judged_ends_no_speech():
    each = call(SemanticVad())
    each.client("response.create")
    each.model(*ANSWER[:4])
    each.told()
    each.user([SPEAKS] * (ONSET + 1))
    each.client("input_audio_buffer.commit")
    assert each.told() == [HEARD[2], *ADDED]


def test_a_clip_in_one_piece_of_odd_length_is_heard():
    each = call(None)
    each.append(FRAME * 10 + b"\0")
    each.append(b"\0" + FRAME)
    each.client("input_audio_buffer.commit")
    each.client("response.create")
    assert len(each.asks[0].messages[-1].pcm) == 11 * len(FRAME) + SAMPLE_BYTES


def test_split_samples_are_judged_whole():
    session = call().session
    pieces = [b"\1", b"\0\2", b"\0", b"", b"\3\0\4"]
    judged = [session.append(InputAudioAppend(audio=piece)) for piece in pieces]
    assert all(len(piece) % SAMPLE_BYTES == 0 for piece in judged)
    assert b"".join(judged) == b"\1\0\2\0\3\0"


def test_clearing_while_the_user_speaks_drops_the_utterance():
    each = call()
    each.user([SPEAKS] * 20)
    each.client("input_audio_buffer.clear")
    assert each.told() == [HEARD[0], "input_audio_buffer.cleared"]
    each.user([IS_SILENT] * 40)
    assert each.told() == []
    each.user(UTTERANCE)
    assert each.told() == [*HEARD, "response.created"]


def test_turn_detection_switched_off_in_a_pause_drops_the_reply():
    each = call()
    each.user([SPEAKS] * 20 + [IS_SILENT] * PAUSE)
    each.update(turn_detection=None)
    assert each.asked is None
    assert each.told() == [HEARD[0], "session.updated"]
    each.user(UTTERANCE)
    assert each.told() == []
    each.update(turn_detection={"type": "server_vad"})
    each.user(UTTERANCE)
    assert each.told() == ["session.updated", *HEARD, "response.created"]


def test_an_update_while_the_user_speaks_holds_for_the_rest_of_the_utterance():
    each = call()
    each.user([SPEAKS] * 20)
    each.update(turn_detection={"type": "server_vad", "silence_duration_ms": 960})
    each.user([IS_SILENT] * 29)
    assert each.told() == [HEARD[0], "session.updated"]
    each.user([IS_SILENT])
    assert each.told() == [*HEARD[1:], "response.created"]


def test_an_update_changes_only_what_it_names():
    each = call()
    each.client("session.update", session={"type": "realtime", "instructions": ""})
    each.client("session.update", session={"type": "realtime", "tracing": "auto", "model": "x"})
    updates = [each for each in each.news() if isinstance(each, events.SessionUpdated)]
    session = updates[-1].session
    assert (session.instructions, session.tracing, session.model) == ("", "auto", "gpt-realtime")
    assert session.audio == config(ServerVad()).audio


def test_a_request_says_what_may_be_left_out_of_it():
    each = call()
    each.client("session.update", session={"type": "realtime", "truncation": "disabled"})
    each.client("response.create")
    assert each.asks[0].truncation == "disabled"


def test_a_refused_update_changes_nothing():
    each = call()
    patch = {"type": "realtime", "instructions": "x", "audio": {"output": {"speed": 9}}}
    each.client("session.update", session=patch, event_id="mine")
    error = each.error()
    assert (error.code, error.param) == ("invalid_value", "session.audio.output.speed")
    assert error.event_id == "mine"
    each.client("response.create")
    assert each.asks[0].messages[0].text == "Be brief."


def test_defaults_of_turn_detection_are_shown():
    each = call()
    each.update(turn_detection={"type": "semantic_vad"})
    shown = to_builtins(each.news()[0])["session"]["audio"]["input"]["turn_detection"]
    assert shown["interrupt_response"] is True
    assert shown["create_response"] is True


# --- barge-in -------------------------------------------------------------------------------


def test_barge_in_cancels_in_the_protocols_order_and_aborts_the_request():
    each = speaking()
    each.user([SPEAKS] * JUDGED)
    assert each.asked is None
    assert each.told() == [HEARD[0], *CLOSED]
    done = each.done()
    assert (done.status, done.output[0].status) == ("cancelled", "incomplete")
    assert done.status_details is not None
    assert done.status_details.reason == "turn_detected"
    each.model(SECOND, Ended(), of=done.id)
    assert each.told() == []


def test_after_a_barge_in_the_model_reads_what_was_heard():
    each = speaking()
    each.user(UTTERANCE)
    spoken = each.asks[-1].messages[-2]
    assert spoken.text == "It is"
    assert len(spoken.pcm) == 1_096 * RATE // 1_000 * SAMPLE_BYTES


def test_barge_in_before_the_first_sound_leaves_no_trace_of_the_response():
    each = call()
    each.user(UTTERANCE)
    each.told()
    each.user([SPEAKS] * ONSET)
    assert each.told() == [HEARD[0], "response.done"]
    assert each.done().output == []


def test_barge_in_into_sound_that_still_plays_cuts_a_complete_response():
    each = speaking()
    each.model(Ended())
    each.told()
    each.user([SPEAKS] * JUDGED)
    assert each.told() == [HEARD[0]]
    each.user([SPEAKS] * 20 + [IS_SILENT] * END)
    assert each.asks[-1].messages[-2].text == "It is"


def test_speech_after_the_answer_was_played_cuts_nothing():
    each = speaking()
    each.model(Ended())
    each.wait(5.0)
    each.user(UTTERANCE)
    assert each.asks[-1].messages[-2].text == "It is sunny."


def test_speech_that_may_not_interrupt_is_answered_afterwards():
    each = call(ServerVad(interrupt_response=False))
    each.user(UTTERANCE)
    each.model(*ANSWER[:2])
    each.told()
    each.user(UTTERANCE)
    assert each.told() == HEARD
    each.model(*ANSWER[2:])
    assert each.told() == [TEXT, SOUND, *CLOSED, "response.created"]
    each.model(*ANSWER)
    assert each.done().status == "completed"


def test_a_client_that_answers_itself_gets_turns_and_no_responses():
    each = call(ServerVad(create_response=False))
    each.user(UTTERANCE)
    assert each.told() == HEARD
    assert each.asks == []
    each.client("response.create")
    each.model(*ANSWER)
    assert each.done().status == "completed"


# --- responses ------------------------------------------------------------------------------


@pytest.mark.parametrize("said", range(5))
def test_a_cancelled_response_ends_at_once_whatever_was_said(said: int):
    each = call()
    each.user(UTTERANCE)
    each.model(*ANSWER[:said])
    each.told()
    running = each.running
    each.client("response.cancel")
    assert each.told() == (CLOSED if said else CLOSED[-1:])
    assert each.asked is None
    done = each.done()
    assert done.status_details is not None
    assert (done.id, done.status_details.reason) == (running, "client_cancelled")
    each.model(*ANSWER, of=running)
    assert each.told() == []
    each.wait(5.0)
    each.user(UTTERANCE)
    each.model(*ANSWER)
    assert each.done().status == "completed"


def test_cancelling_nothing_is_the_error_that_clients_ignore():
    each = call()
    each.client("response.cancel", event_id="mine")
    error = each.error()
    assert (error.code, error.event_id) == ("response_cancel_not_active", "mine")
    assert error.message.startswith("Cancellation failed")


@pytest.mark.parametrize("moment", ["pause", "complete"])
def test_there_is_nothing_to_cancel_before_created_and_after_done(moment: str):
    each = call()
    each.user(UTTERANCE[: -END + PAUSE] if moment == "pause" else UTTERANCE)
    if moment == "complete":
        each.model(*ANSWER)
    each.told()
    each.client("response.cancel")
    assert each.error().code == "response_cancel_not_active"


def test_cancelling_another_response_leaves_the_running_one():
    each = speaking()
    each.client("response.cancel", response_id="resp_other")
    assert each.error().code == "response_cancel_not_active"
    each.model(Ended())
    assert each.done().status == "completed"


def test_a_second_response_at_once_is_refused():
    each = speaking()
    each.client("response.create", event_id="mine")
    error = each.error()
    assert error.code == "conversation_already_has_active_response"
    assert error.message.startswith("Conversation already has an active response in progress: resp")


def test_the_client_may_ask_again_while_the_last_answer_still_plays():
    each = speaking()
    each.model(Ended())
    each.client("response.create")
    each.model(*ANSWER)
    assert each.done().status == "completed"


def test_a_response_asked_for_in_a_pause_replaces_the_early_one():
    each = call()
    each.user([SPEAKS] * 20 + [IS_SILENT] * PAUSE)
    each.client("response.create")
    assert len(each.asks) == 2
    each.model(*ANSWER)
    assert each.done().status == "completed"
    each.user([IS_SILENT] * END)
    assert each.told()[-1] == "response.created"


def test_a_model_that_fails_ends_the_response_and_not_the_session():
    each = speaking()
    each.model(BROKEN)
    assert each.told() == CLOSED
    details = each.done().status_details
    assert details is not None
    assert details.error is not None
    assert (each.done().status, details.error.code) == ("failed", "model_broken")
    each.user(UTTERANCE)
    each.model(*ANSWER)
    assert each.done().status == "completed"


def test_a_model_that_fails_in_a_pause_is_asked_again_at_the_verdict():
    each = call()
    each.user([SPEAKS] * 20 + [IS_SILENT] * PAUSE)
    each.model(BROKEN)
    each.user([IS_SILENT] * (END - PAUSE))
    assert each.told() == [*HEARD, "response.created"]
    assert len(each.asks) == 2


@pytest.mark.parametrize(("said", "patience_s"), [(0, 10.0), (1, 5.0), (2, 5.0)])
def test_a_model_that_falls_silent_is_given_up(said: int, patience_s: float):
    each = call()
    each.user(UTTERANCE)
    each.model(*ANSWER[:said])
    each.wait(patience_s - 0.001)
    assert each.running is not None
    each.wait(0.002)
    assert each.asked is None
    details = each.done().status_details
    assert details is not None
    assert details.error is not None
    assert details.error.code == "model_timeout"


def test_a_long_piece_of_sound_is_sent_in_frames_that_every_client_takes():
    each = call()
    each.client("response.create")
    each.told()
    each.model(Sound(SECOND.pcm * 25))
    deltas = [news for news in each.news() if isinstance(news, events.AudioDelta)]
    assert b"".join(delta.delta for delta in deltas) == SECOND.pcm * 25
    assert all(len(events.encode(delta, "event_1")) < 2**20 for delta in deltas)


def test_a_model_that_says_nothing_makes_an_empty_response():
    each = call()
    each.client("response.create")
    each.model(Ended())
    assert each.told() == ["response.created", "response.done"]
    assert (each.done().status, each.done().output) == ("completed", [])


# --- items ----------------------------------------------------------------------------------


def test_an_unknown_item_has_an_error_for_each_event():
    for verb in ("retrieve", "delete", "truncate"):
        each = call()
        rest = {"content_index": 0, "audio_end_ms": 5} if verb == "truncate" else {}
        each.client(f"conversation.item.{verb}", item_id="nope", event_id="mine", **rest)
        error = each.error()
        assert error.code == f"item_{verb}_invalid_item_id"
        assert (error.param, error.event_id) == ("item_id", "mine")


def test_items_keep_the_clients_ids_and_their_place():
    each = call()
    for name, after in [("b", None), ("a", "root"), ("d", None), ("c", "b")]:
        item = {**QUESTION, "id": name}
        each.client("conversation.item.create", item=item, previous_item_id=after)
    added = [each for each in each.news() if isinstance(each, events.ItemAdded)]
    told = [(item.item.id, item.previous_item_id) for item in added]
    assert told == [("b", None), ("a", None), ("d", "b"), ("c", "b")]
    each.client("conversation.item.create", item={**QUESTION, "id": "a"})
    assert each.error().code == "item_create_duplicate_item_id"
    each.client("conversation.item.create", item=QUESTION, previous_item_id="z")
    assert each.error().code == "item_create_invalid_previous_item_id"


def test_a_deleted_item_is_forgotten():
    each = call()
    each.client("conversation.item.create", item={**QUESTION, "id": "a"})
    each.told()
    each.client("conversation.item.delete", item_id="a")
    assert each.told() == ["conversation.item.deleted"]
    each.client("response.create")
    assert len(each.asks[0].messages) == 1


def test_the_item_of_a_running_response_may_be_retrieved_truncated_and_deleted():
    each = speaking()
    item_id = each.item("assistant")
    each.client("conversation.item.retrieve", item_id=item_id)
    truncate(each, item_id, 500)
    each.client("conversation.item.delete", item_id=item_id)
    assert each.told() == [
        "conversation.item.retrieved",
        "conversation.item.truncated",
        "conversation.item.deleted",
    ]
    each.model(SECOND, Ended())
    assert each.told() == [SOUND, *CLOSED]
    each.user(UTTERANCE)
    assert [message.role for message in each.asks[-1].messages] == ["system", "user", "user"]


def truncate(each: Call, item_id: str, audio_end_ms: int) -> None:
    each.client(
        "conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=audio_end_ms
    )


@pytest.mark.parametrize("moment", ["while it is made", "after a barge-in", "when complete"])
def test_a_truncated_answer_is_remembered_as_it_was_heard(moment: str):
    each = speaking()
    item_id = each.item("assistant")
    match moment:
        case "after a barge-in":
            each.user([SPEAKS] * ONSET)
        case "when complete":
            each.model(Ended())
        case _:
            pass
    each.told()
    truncate(each, item_id, 750)
    assert each.news() == [events.ItemTruncated(item_id=item_id, content_index=0, audio_end_ms=750)]
    each.client("conversation.item.retrieve", item_id=item_id)
    match each.news():
        case [events.ItemRetrieved(item=MessageItem(content=[OutputAudio(transcript)]))]:
            assert transcript == ""
        case found:
            pytest.fail(f"unexpected: {found}")
    each.user([SPEAKS] * 20 + [IS_SILENT] * END)
    spoken = next(m for m in each.asks[-1].messages if m.role == "assistant")
    assert len(spoken.pcm) == 0.75 * RATE * SAMPLE_BYTES
    assert spoken.text == "It"


def test_a_length_beyond_the_end_is_the_end():
    each = speaking()
    item_id = each.item("assistant")
    each.model(Sound(bytes(2)))
    each.told()
    truncate(each, item_id, 99_999)
    assert each.news() == [
        events.ItemTruncated(item_id=item_id, content_index=0, audio_end_ms=2_001)
    ]


def test_an_answer_of_sound_alone_survives_a_barge_in():
    each = call()
    each.user(UTTERANCE)
    each.model(SECOND, SECOND)
    each.wait(1.0)
    each.user(UTTERANCE)
    assert each.told()[-1] == "response.created"


def test_an_answer_that_a_client_replayed_can_be_truncated():
    each = call()
    audio = base64.b64encode(SECOND.pcm).decode()
    content = [{"type": "output_audio", "transcript": "one two", "audio": audio}]
    item = {"type": "message", "id": "a", "role": "assistant", "content": content}
    each.client("conversation.item.create", item=item)
    truncate(each, "a", 600)
    assert each.told() == [*ADDED, "conversation.item.truncated"]
    each.client("response.create")
    assert each.asks[0].messages[-1].text == "one"


def test_speech_is_written_down_where_the_client_wants_it():
    each = call(transcription=True)
    each.user(UTTERANCE)
    each.transcript(each.transcribe[0], "hello")
    news = each.news()[-1]
    assert isinstance(news, events.TranscriptionCompleted)
    assert (news.item_id, news.transcript) == (each.item("user"), "hello")
    each.client("conversation.item.retrieve", item_id=each.item("user"))
    shown = to_builtins(each.news()[0])["item"]["content"]
    assert shown == [{"type": "input_audio", "transcript": "hello"}]


def test_a_transcript_that_comes_after_its_item_is_gone_does_no_harm():
    each = call(transcription=True)
    each.user(UTTERANCE)
    each.client("conversation.item.delete", item_id=each.item("user"))
    each.transcript(each.transcribe[0], "hello")
    assert "error" not in each.told()
    each.model(*ANSWER)
    assert each.done().status == "completed"


def test_an_error_quotes_no_more_of_hostile_input_than_a_reader_needs():
    each = call()
    each.client("conversation.item.retrieve", item_id="x" * 2**19)
    error = each.error()
    assert len(error.message) < 2_000
    each.client("session.update", session={"type": "realtime", "y" * 2**19: 1})
    error = each.error()
    assert error.code == "unknown_parameter"
    assert len(error.message) + len(error.param or "") < 4_000


def test_a_buffer_that_is_full_refuses_more_and_keeps_what_it_has():
    each = call(None)
    minute = FRAME * 1875
    for _ in range(10):
        each.append(minute)
    assert each.told() == []
    each.append(FRAME)
    assert each.error().code == "input_audio_buffer_full"
    each.client("input_audio_buffer.commit")
    assert each.told() == ["input_audio_buffer.committed", *ADDED]


def test_speech_that_was_asked_about_in_a_pause_keeps_its_key():
    line = call()
    line.user(UTTERANCE)
    line.model(*ANSWER)
    line.user(UTTERANCE)
    early, later = line.asks[0], line.asks[-1]
    assert [message.role for message in later.messages] == ["system", "user", "assistant", "user"]
    assert later.messages[1].key == early.messages[1].key
    keys = [message.key for message in later.messages if message.pcm]
    assert len(keys) == 3


def test_a_request_says_how_long_the_listener_has_something_to_hear():
    line = call(None)
    line.client("response.create")
    assert line.asks[-1].playing_until <= line.now
    line.model(*ANSWER)
    line.wait(0.5)
    line.client("response.create")
    assert line.asks[-1].playing_until == pytest.approx(line.now + 1.5)  # pyright: ignore[reportUnknownMemberType]


def test_prompts_hold_the_sound_of_earlier_turns_and_no_copies_of_it():
    line = call(early_start_ms=0)
    for _ in range(3):
        line.user(UTTERANCE)
        line.model(*ANSWER)
        line.wait(10)
    second, third = (
        [message.pcm for message in ask.messages if message.pcm] for ask in line.asks[1:]
    )
    assert len(third) == 5
    assert all(after is before for before, after in zip(second, third, strict=False))
