"""What the model gets to read: keys that name clips, and a prompt that fits."""

import pytest
from hypothesis import given, settings, strategies as st

from agent.audio import RATE
from agent.conversation.conversation import Conversation
from agent.conversation.items import Item, Spoken, Written
from agent.errors import ModelError
from agent.model.context import SHORTEST_REPLY, fit, positions
from agent.model.output import ChatMessage
from agent.realtime.config import RetentionRatio, TokenLimits

SECRET = "secret_1"


def speech(seconds: float, value: int = 1) -> bytes:
    return bytes([value, 0]) * round(RATE * seconds)


def spoken(seconds: float, role: str = "user") -> ChatMessage:
    assert role in {"user", "assistant"}
    if role == "user":
        return ChatMessage("user", pcm=speech(seconds), key="k", words="what I said")
    return ChatMessage("assistant", "what it said", speech(seconds), "k")


VOICE = ChatMessage("system", "Be brief.\nYour voice should be:", speech(5), "v")


def test_what_fits_stays_as_it_is():
    messages = [VOICE, spoken(3), spoken(5, "assistant"), spoken(3)]
    assert fit(messages, 3_200, 8_192) == (messages, 3_200)


def test_speech_costs_what_the_model_takes_for_it():
    assert positions(ChatMessage("user", pcm=speech(8))) - positions(ChatMessage("user")) == 52


def test_the_oldest_speech_becomes_text_first():
    messages = [VOICE, spoken(40), spoken(40, "assistant"), spoken(40), spoken(40)]
    fitted, _ = fit(messages, 100, 800)
    assert fitted == [
        VOICE,
        ChatMessage("user", "what I said"),
        ChatMessage("assistant", "what it said"),
        *messages[3:],
    ]


def test_speech_without_words_goes():
    unknown = ChatMessage("user", pcm=speech(40), key="k")
    assert fit([VOICE, unknown, spoken(40), spoken(40)], 100, 700)[0] == [
        VOICE,
        spoken(40),
        spoken(40),
    ]


def test_then_the_oldest_messages_go():
    talk = [ChatMessage("user", "word " * 60), ChatMessage("assistant", "word " * 60)] * 20
    fitted, most = fit([VOICE, *talk, spoken(10)], 500, 2_000)
    assert fitted[0] == VOICE
    assert fitted[-1] == spoken(10)
    assert fitted[1:-1] == talk[-len(fitted) + 2 :]
    assert 5 < len(fitted) < len(talk)
    assert sum(map(positions, fitted)) + most <= 2_000


def test_nothing_is_left_out_where_that_is_disabled():
    messages = [VOICE, spoken(40), spoken(40, "assistant"), spoken(40)]
    assert fit(messages, 100, 1_000, "disabled") == (messages, 100)
    with pytest.raises(ModelError, match="truncation is disabled") as refused:
        fit(messages, 100, 900, "disabled")
    assert refused.value.code == "context_length_exceeded"


def lines(count: int) -> list[ChatMessage]:
    """A talk of messages that take 20 positions each, and differ."""
    return [ChatMessage("user" if n % 2 else "assistant", f"{n:036}") for n in range(count)]


def test_what_must_go_goes_down_to_the_ratio_and_then_not_again_for_a_while():
    system = ChatMessage("system", "Be brief.")
    room = positions(system) + 20 * 20
    cuts: list[int] = []
    for count in range(1, 60):
        talk = lines(count)
        fitted, _ = fit([system, *talk], 100, room + 100, RetentionRatio(0.5))
        cuts.append(count - len(fitted) + 1)
        assert fitted == [system, *talk[cuts[-1] :]]
    assert cuts == [0] * 20 + [11] * 11 + [22] * 11 + [33] * 11 + [44] * 6


def test_a_client_may_allow_the_talk_less_than_the_model_takes():
    few = RetentionRatio(1.0, TokenLimits(post_instructions=100))
    fitted, _ = fit([VOICE, *lines(12)], 100, 8_000, few)
    assert fitted == [VOICE, *lines(12)[7:]]
    assert fit([VOICE, spoken(40)], 100, 8_000, few)[0] == [VOICE, spoken(40)]


def test_a_reply_gets_what_is_left():
    asked = [ChatMessage("user", pcm=speech(100), key="k")]
    _, most = fit(asked, 8_192, 2_000)
    assert most == 2_000 - positions(asked[0])


MESSAGES = st.one_of(
    st.builds(ChatMessage, st.sampled_from(["user", "assistant"]), st.text("ab 你", min_size=1)),
    st.builds(spoken, st.sampled_from([0.1, 3, 30]), st.sampled_from(["user", "assistant"])),
)


@given(
    talk=st.lists(MESSAGES, max_size=12),
    most=st.integers(16, 3_200),
    context=st.integers(200, 2_000),
)
@settings(max_examples=60, deadline=None)
def test_prompt_and_reply_stay_within_the_context(talk: list[ChatMessage], most: int, context: int):
    fitted, tokens = fit([VOICE, *talk, spoken(3)], most, context)
    assert fitted[0] == VOICE
    assert fitted[-1] == spoken(3)
    assert SHORTEST_REPLY <= tokens <= most
    used = sum(map(positions, fitted))
    assert used + tokens <= context or len(fitted) == 2


@pytest.mark.parametrize("seconds", [0.1, 0.5, 2.0, 10.0])
def test_words_never_outlast_the_sound_they_were_cut_with(seconds: float):
    words = "All the words of an answer that went on and on. " * 20
    message = ChatMessage("assistant", words, speech(seconds), "k")
    [fitted, _], _ = fit([message, spoken(1)], 3_200, 8_192)
    tokens = len(fitted.text) / 3
    assert words.startswith(fitted.text)
    assert fitted.text
    assert int(seconds * 6.25) >= 5 * (-(-tokens // 5) - 1)


def talk(*items: Item) -> Conversation:
    conversation = Conversation(SECRET)
    for item in items:
        conversation.add(item)
    return conversation


def keys(conversation: Conversation, pending: bytes = b"") -> list[str]:
    return [message.key for message in conversation.render("", pending) if message.pcm]


def said(item_id: str, pcm: bytes) -> Item:
    return Item(item_id, "user", [Spoken(bytearray(pcm))])


def answered(item_id: str, pcm: bytes) -> Item:
    return Item(item_id, "assistant", [Spoken(bytearray(pcm), "Yes of course")])


def test_a_key_stays_with_its_clip():
    conversation = talk(said("a", speech(1)), answered("b", speech(2)))
    assert keys(conversation) == keys(conversation)
    assert len(set(keys(conversation))) == 2


def test_speech_cut_to_what_was_heard_is_another_clip():
    conversation = talk(answered("b", speech(2)))
    [whole] = keys(conversation)
    conversation.truncate("b", 1_000)
    [cut] = keys(conversation)
    conversation.truncate("b", 2_000)
    assert whole != cut
    assert keys(conversation) == [whole]


def test_cut_speech_without_marks_keeps_its_share_of_the_words():
    conversation = talk(answered("b", speech(2)))
    conversation.truncate("b", 1_000)
    assert [message.text for message in conversation.render("")] == ["Yes of"]


def test_speech_asked_about_in_a_pause_is_known_after_it():
    early = keys(talk(), speech(1))
    assert keys(talk(said("a", speech(1)))) == early
    assert keys(talk(said("a", speech(1.5)))) != early


def test_an_id_that_is_used_again_does_not_bring_back_old_speech():
    conversation = talk(said("a", speech(1, 1)))
    before = keys(conversation)
    conversation.delete("a")
    conversation.add(said("a", speech(1, 2)))
    assert keys(conversation) != before


def test_no_session_can_guess_the_keys_of_another():
    assert Conversation("x").render("", speech(1)) != Conversation("y").render("", speech(1))


def test_the_voice_comes_with_the_instructions():
    conversation = talk(Item("a", "user", [Written("Hi")]))
    [system, user] = conversation.render("Be brief.", voice=speech(1))
    assert (system.role, system.text) == ("system", "Be brief.\nYour voice should be:")
    assert system.pcm == speech(1)
    assert user == ChatMessage("user", "Hi")
    assert conversation.render("", voice=speech(1))[0].text == "Your voice should be:"


def test_the_words_of_the_user_stand_by():
    conversation = talk(said("a", speech(1)))
    conversation.set_transcript("a", "Hello.")
    [message] = conversation.render("")
    assert (message.text, message.words) == ("", "Hello.")
