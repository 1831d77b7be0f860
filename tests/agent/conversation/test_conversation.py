"""The conversation: text and sound cut together, rendered in order, within its budget."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given, strategies as st
from msgspec import to_builtins

from agent import limits
from agent.audio import RATE, SAMPLE_BYTES, samples_in
from agent.conversation import edits
from agent.conversation.conversation import Conversation
from agent.conversation.edits import entry_from
from agent.conversation.items import Item, Spoken, Written
from agent.errors import ProtocolError
from agent.limits import REMEMBERED_S
from agent.model.output import ChatMessage
from agent.realtime.config import Audio
from agent.realtime.items import (
    Content,
    InputAudio,
    InputText,
    MessageItem,
    OutputAudio,
    OutputText,
    Role,
)

SECOND = bytes(RATE * SAMPLE_BYTES)


def spoken(*said: tuple[str, float]) -> Spoken:
    """Speech as it comes from the model: each text before the seconds of sound that say it."""
    part = Spoken()
    for text, duration_s in said:
        if text:
            part.add_text(text)
        part.pcm += bytes(int(duration_s * RATE) * SAMPLE_BYTES)
    return part


def answer(item_id: str, *said: tuple[str, float]) -> Item:
    return Item(item_id, "assistant", [spoken(*said)])


def question(item_id: str, text: str = "Hi?") -> Item:
    return Item(item_id, "user", [Written(text)])


def heard_after(end_ms: int, *said: tuple[str, float]) -> tuple[str, float]:
    """The words and the seconds of an answer that are left when it is cut."""
    each = Conversation()
    each.add(answer("a", *said))
    each.truncate("a", end_ms)
    [message] = each.render("")
    return message.text, len(message.pcm) / len(SECOND)


@pytest.mark.parametrize(
    ("end_ms", "text"),
    [
        (300, ""),
        (500, "One"),
        (1_000, "One two"),
        (1_400, "One two"),
        (1_500, "One two three"),
        (1_999, "One two three"),
        (2_000, "One two three four."),
        (9_000, "One two three four."),
    ],
)
def test_text_and_sound_are_cut_together_and_no_word_in_half(end_ms: int, text: str):
    cut = heard_after(end_ms, ("One two ", 1.0), ("three four.", 1.0))
    assert cut == (text, min(end_ms / 1000, 2.0))


def test_sound_that_was_never_heard_leaves_nothing():
    each = Conversation()
    each.add(answer("a", ("One", 1.0)))
    each.truncate("a", 0)
    assert each.render("") == []


def test_text_of_which_no_sound_was_heard_is_cut():
    assert heard_after(1_000, ("One ", 1.0), ("two ", 0.0), ("three ", 1.0)) == ("One", 1.0)


def test_text_that_came_all_at_once_is_laid_evenly_over_the_sound():
    assert heard_after(2_500, ("aaa bbb ccc ddd", 5.0))[0] == "aaa bbb"


def test_sound_without_text_is_cut_as_well():
    assert heard_after(250, ("", 1.0)) == ("", 0.25)


def test_chinese_is_cut_between_its_characters():
    assert heard_after(500, ("今天天气很好", 1.0)) == ("今天天", 0.5)


WORDS = st.lists(
    st.tuples(st.sampled_from(["One ", "two ", "th", "ree ", ", four", " ", ""]), st.floats(0, 2)),
    max_size=8,
)


@given(WORDS, st.integers(0, 20_000), st.integers(0, 20_000))
def test_more_is_never_heard_of_a_shorter_cut(
    said: list[tuple[str, float]], one_ms: int, other_ms: int
):
    def cut(end_ms: int) -> tuple[str, bytes]:
        part = spoken(*said)
        part.heard = min(samples_in(end_ms), len(part.pcm) // SAMPLE_BYTES)
        return part.heard_text(), part.heard_pcm()

    whole = spoken(*said)
    (less, short), (more, long) = cut(min(one_ms, other_ms)), cut(max(one_ms, other_ms))
    words = (whole.transcript or "").split()
    assert len(short) <= len(long) <= len(whole.pcm)
    assert more.split()[: len(less.split())] == less.split()
    assert words[: len(more.split())] == more.split()


def test_the_clients_cut_stands_against_the_servers_guess_and_replaces_it():
    each = Conversation()
    each.add(answer("a", ("One", 2.0)))
    each.interrupt("a", 1.5)
    assert len(each.render("")[0].pcm) == 1.5 * len(SECOND)
    each.truncate("a", 1_750)
    each.interrupt("a", 0.5)
    assert len(each.render("")[0].pcm) == 1.75 * len(SECOND)


def test_an_interruption_of_what_is_not_there_or_was_not_spoken_does_nothing():
    each = Conversation()
    each.add(Item("a", "assistant", [Written("One")]))
    each.interrupt("a", 0.5)
    each.interrupt("b", 0.5)
    assert each.render("") == [ChatMessage("assistant", "One")]


def test_a_length_beyond_the_end_is_clamped_to_a_full_millisecond():
    each = Conversation()
    each.add(Item("a", "assistant", [Spoken(bytearray(SECOND + b"\0\0"))]))
    assert each.truncate("a", 5_000) == 1_001
    assert each.truncate("a", 400) == 400


@pytest.mark.parametrize("item", [question("a"), Item("a", "user", [Spoken(bytearray(SECOND))])])
def test_only_speech_of_the_agent_can_be_cut(item: Item):
    each = Conversation()
    each.add(item)
    with pytest.raises(ProtocolError) as refused:
        each.truncate("a", 5)
    assert refused.value.code == "item_truncate_invalid_item_id"


def test_the_prompt_has_everything_in_order():
    each = Conversation()
    each.add(Item("u1", "user", [Spoken(bytearray(SECOND), "what it says")]))
    each.add(answer("a1", ("Sunny.", 1.0)))
    each.add(Item("s", "system", [Written("Be quick.")]))
    each.add(Item("u2", "user", [Written("Look:"), Spoken(bytearray(SECOND)), Written("Well?")]))
    assert each.render("Be brief.", pending=b"\1\0") == [
        ChatMessage("system", "Be brief."),
        ChatMessage("user", pcm=SECOND, words="what it says"),
        ChatMessage("assistant", "Sunny.", SECOND),
        ChatMessage("system", "Be quick."),
        ChatMessage("user", "Look:", SECOND),
        ChatMessage("user", "Well?"),
        ChatMessage("user", pcm=b"\1\0"),
    ]


def test_a_message_holds_one_clip_at_most():
    each = Conversation()
    each.add(Item("u", "user", [Spoken(bytearray(b"\1\0")), Spoken(bytearray(b"\2\0"))]))
    assert [message.pcm for message in each.render("")] == [b"\1\0", b"\2\0"]


def test_items_know_the_one_before_them():
    each = Conversation()
    items = {name: question(name) for name in "abcd"}
    added = [("b", None), ("a", "root"), ("d", None), ("c", "b")]
    told = [each.add(items[name], after) for name, after in added]
    assert told == [None, None, "b", "b"]
    assert [each.previous(items[name]) for name in "abcd"] == [None, "a", "b", "c"]
    each.delete("b")
    assert each.previous(items["c"]) == "a"


def test_an_item_can_neither_come_twice_nor_follow_what_is_not_there():
    each = Conversation()
    each.add(question("a"))
    for item_id, after, code in [
        ("a", None, "item_create_duplicate_item_id"),
        ("b", "z", "item_create_invalid_previous_item_id"),
    ]:
        with pytest.raises(ProtocolError) as refused:
            each.add(question(item_id), after)
        assert refused.value.code == code
    assert len(each.render("")) == 1


def test_the_oldest_items_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "ITEMS", 3)
    each = Conversation()
    for name in "abcd":
        each.add(question(name, name))
    assert [message.text for message in each.render("")] == ["b", "c", "d"]


def test_a_full_conversation_takes_more_at_any_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "ITEMS", 2)
    each = Conversation()
    each.add(question("a", "a"))
    each.add(question("b", "b"))
    assert each.add(question("c", "c"), "root") is None
    assert [message.text for message in each.render("")] == ["c", "b"]
    assert each.add(question("d", "d"), "c") is None
    assert [message.text for message in each.render("")] == ["d", "b"]


MINUTE = 60 * SECOND


def test_old_speech_is_remembered_as_text_only():
    each = Conversation()
    for minute in range(REMEMBERED_S // 60 + 2):
        each.add(answer(f"a{minute}", (f"Minute {minute}.", 60.0)))
    messages = each.render("")
    assert [len(message.pcm) > 0 for message in messages] == [False] * 2 + [True] * 5
    assert messages[0].text == "Minute 0."


def test_old_speech_that_was_cut_is_remembered_as_it_was_heard():
    each = Conversation()
    each.add(answer("a", ("One two ", 60.0), ("three four", 60.0)))
    each.truncate("a", 60_000)
    for minute in range(5):
        each.add(Item(f"u{minute}", "user", [Spoken(bytearray(MINUTE))]))
    assert each.render("")[0] == ChatMessage("assistant", "One two")


def item_from(wire: MessageItem) -> Item:
    item = entry_from(wire, Audio(), lambda _: "new", "item")
    assert isinstance(item, Item)
    return item


@pytest.mark.parametrize(
    ("role", "content", "shown"),
    [
        ("user", InputText("Hi?"), {"type": "input_text", "text": "Hi?"}),
        ("user", InputAudio("hi"), {"type": "input_audio", "transcript": "hi"}),
        ("user", InputAudio(), {"type": "input_audio", "transcript": None}),
        ("system", InputText("Rhyme."), {"type": "input_text", "text": "Rhyme."}),
        ("assistant", OutputText("Yes."), {"type": "output_text", "text": "Yes."}),
        ("assistant", OutputAudio("Yes."), {"type": "output_audio", "transcript": "Yes."}),
    ],
)
def test_what_a_client_put_in_is_shown_as_it_was(role: Role, content: Content, shown: object):
    item = item_from(MessageItem(role=role, content=[content]))
    assert item.id == "new"
    assert to_builtins(item.wire())["content"] == [shown]


@pytest.mark.parametrize(
    ("role", "content"),
    [
        ("user", OutputText("a")),
        ("assistant", InputText("a")),
        ("assistant", InputAudio()),
        ("system", InputAudio()),
    ],
)
def test_content_must_fit_its_role(role: Role, content: Content):
    with pytest.raises(ProtocolError) as refused:
        item_from(MessageItem(role=role, content=[content]))
    assert refused.value.param == "item.content[0].type"


def test_sound_that_a_client_put_in_is_whole_samples_and_the_id_its_own():
    wire = MessageItem(id="mine", role="user", content=[InputAudio(audio=b"\1\0\2")])
    item = item_from(wire)
    assert item.id == "mine"
    assert item.spoken is not None
    assert item.spoken.pcm == b"\1\0"


def test_a_transcript_finds_its_item_or_nothing():
    each = Conversation()
    each.add(Item("a", "user", [Spoken(bytearray(SECOND))]))
    each.set_transcript("a", "hello")
    each.set_transcript("b", "nobody")
    [told] = to_builtins(each.find("a", "").wire())["content"]
    assert told["transcript"] == "hello"


def test_speech_that_a_client_calls_unfinished_is_remembered_no_longer_than_other_speech():
    each = Conversation()
    for minute in range(REMEMBERED_S // 60 + 2):
        said = Item(f"{minute}", "user", [Spoken(MINUTE), Spoken(MINUTE)], "in_progress")
        each.add(said)
    kept = sum(len(message.pcm) for message in each.render(""))
    assert kept <= REMEMBERED_S * len(SECOND)


def lines_run(play: Callable[[], object]) -> int:
    """How many lines of Python something takes."""
    count = 0

    def follow(frame: FrameType, event: str, _: object) -> object:
        nonlocal count
        count += event == "line"
        return follow

    sys.settrace(follow)  # pyright: ignore[reportArgumentType]
    try:
        play()
    finally:
        sys.settrace(None)
    return count


def test_twice_as_many_items_take_about_twice_the_work():
    def asides(count: int) -> Callable[[], object]:
        texts = [InputText(f"{number}") for number in range(count)]
        wires = [MessageItem(role="user", content=[text]) for text in texts]
        ids = iter(range(count))
        return lambda: edits.aside(wires, Conversation(), Audio(), lambda _: str(next(ids)))

    assert lines_run(asides(800)) < 2.5 * lines_run(asides(400))
