"""Where a text is cut after a barge-in: after a word, and nowhere inside what is one letter."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.conversation import Spoken
from agent.words import last_word_end

THAI = "สวัสดีครับวันนี้อากาศดีมาก"
KHMER = "សួស្តីអ្នកសុខសប្បាយទេ"
LAO = "ສະບາຍດີມື້ນີ້ອາກາດດີ"
BURMESE = "မင်္ဂလာပါနေကောင်းလား"
TIBETAN = "བཀྲ་ཤིས་བདེ་ལེགས"
JAVANESE = "ꦱꦸꦒꦼꦁꦫꦮꦸꦃ"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
FAMILY = "👨‍👩‍👧"


def heard(text: str, share: float) -> str:
    """What is kept of an answer of ten seconds of which so much was heard."""
    spoken = Spoken()
    spoken.add_text(text)
    spoken.pcm = bytearray(480_000)
    spoken.heard = int(240_000 * share)
    return spoken.heard_text()


@pytest.mark.parametrize(
    ("text", "share", "kept"),
    [
        (THAI, 0.5, "สวัสดีครับวัน"),
        (THAI, 0.2, "สวัส"),
        (KHMER, 0.5, "សួស្តីអ្នក"),
        (KHMER, 0.25, "សួ"),
        (LAO, 0.5, "ສະບາຍດີມື້"),
        (BURMESE, 0.3, "မင်္ဂ"),
        (BURMESE, 0.5, "မင်္ဂလာပါ"),
        (TIBETAN, 0.6, "བཀྲ་ཤིས་"),
        (JAVANESE, 0.5, "ꦱꦸ"),
        (JAVANESE, 0.6, "ꦱꦸꦒꦼꦁ"),
        ("今天天气很好。", 0.5, "今天天"),
        ("The weather is fine.", 0.5, "The"),
        ("Say สวัสดี now", 0.55, "Say สวั"),
        (f"好{FAMILY}好", 0.6, "好"),
        ("好🇩🇪🇫🇷好", 0.5, "好🇩🇪"),
        ("か\u3099き\u3099", 0.3, ""),
        ("\uff76\uff9e\uff76\uff9e", 0.75, "\uff76\uff9e"),
        (f"好{ENGLAND}好", 0.6, "好"),
    ],
)
def test_what_was_heard_of_a_text_is_kept_in_whole_letters(text: str, share: float, kept: str):
    assert heard(text, share) == kept


ALL = [THAI, KHMER, LAO, BURMESE, TIBETAN, JAVANESE, FAMILY, "Two words", "好", "🇩🇪", "👍🏽"]


@given(st.lists(st.sampled_from(ALL), min_size=1, max_size=4).map(" ".join), st.data())
def test_more_that_was_heard_is_never_less_that_is_kept(text: str, data: st.DataObject):
    less = data.draw(st.integers(0, len(text)))
    more = data.draw(st.integers(less, len(text)))
    assert last_word_end(text, less) <= last_word_end(text, more) <= more
    rest = text[last_word_end(text, more) :]
    assert not rest or unicodedata.category(rest[0]) not in ("Mn", "Mc", "Me", "Cf")
    assert heard(text, 1.0) == text


@pytest.mark.parametrize("text", [THAI, KHMER, LAO, BURMESE, JAVANESE])
def test_of_a_text_without_blanks_nearly_all_that_was_heard_is_kept(text: str):
    for at in range(len(text) + 1):
        assert at - last_word_end(text, at) <= 4
