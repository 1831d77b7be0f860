"""Where a text is cut after a barge-in: after a word, and nowhere inside what is one letter."""

import json
import unicodedata
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, strategies as st

from agent.conversation.items import Spoken
from agent.words import heard_text, last_word_end

THAI = "สวัสดีครับวันนี้อากาศดีมาก"
KHMER = "សួស្តីអ្នកសុខសប្បាយទេ"
LAO = "ສະບາຍດີມື້ນີ້ອາກາດດີ"
BURMESE = "မင်္ဂလာပါနေကောင်းလား"
TIBETAN = "བཀྲ་ཤིས་བདེ་ལེགས"
JAVANESE = "ꦱꦸꦒꦼꦁꦫꦮꦸꦃꦲꦏ꧀ꦱꦫ"
BALINESE = "ᬅᬓ᭄ᬱᬭᬩᬮᬶ"
TAI_THAM = "ᨲ᩠ᩅᩫᨾᩮᩬᩥᨦ"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
FAMILY = "👨‍👩‍👧"


class Case(NamedTuple):
    pieces: list[tuple[int, str]]
    """Samples of sound before each piece of text, and the piece."""
    received: int
    heard: int
    kept: str


CASES = [
    Case(**case)
    for case in json.loads((Path(__file__).parents[1] / "golden" / "heard.json").read_text("utf-8"))
]


@pytest.mark.parametrize("case", CASES)
def test_what_was_heard_of_an_answer_is_kept_in_whole_words_and_letters(case: Case):
    spoken = Spoken(heard=case.heard)
    for samples, text in case.pieces:
        spoken.pcm = bytearray(2 * samples)
        spoken.add_text(text)
    spoken.pcm = bytearray(2 * case.received)
    assert spoken.heard_text() == case.kept


ALL = [
    *(THAI, KHMER, LAO, BURMESE, TIBETAN, JAVANESE, BALINESE, TAI_THAM),
    *(FAMILY, ENGLAND, "Two words", "好", "🇩🇪", "👍🏽", " "),
]
WAIT_FOR_THE_NEXT = "\u1039\u17d2\u1a60\u1b44\ua9c0\u200dเแโໂໃໄ"
"""What joins the next consonant, or is written before it."""


@given(st.lists(st.sampled_from(ALL), min_size=1, max_size=4).map(" ".join), st.data())
def test_more_that_was_heard_is_never_less_that_is_kept(text: str, data: st.DataObject):
    less = data.draw(st.integers(0, len(text)))
    more = data.draw(st.integers(less, len(text)))
    assert last_word_end(text, less) <= last_word_end(text, more) <= more
    at = last_word_end(text, more)
    kept, rest = text[:at], text[at:]
    assert not rest or unicodedata.category(rest[0]) not in ("Mn", "Mc", "Me", "Cf")
    assert not kept or not rest or kept[-1] not in WAIT_FOR_THE_NEXT
    assert heard_text(text, [(0, 0)], 100, 100) == text


@pytest.mark.parametrize("text", [THAI, KHMER, LAO, BURMESE, JAVANESE])
def test_of_a_text_without_blanks_nearly_all_that_was_heard_is_kept(text: str):
    for at in range(len(text) + 1):
        assert at - last_word_end(text, at) <= 4
