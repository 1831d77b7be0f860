"""Which words of an answer were heard: whole words, or in scripts without blanks whole clusters.

A cluster is what a reader takes for one letter, marks included. The rules are those of Unicode's
annex 29 as far as the scripts concerned need them, and two more: vowels of Thai and Lao that are
written before or behind their consonant stay with it, and Tibetan is cut between syllables. The
page has the same rules in `server/page/heard.js`.
"""

import unicodedata
from collections.abc import Sequence

Mark = tuple[int, int]
"""Where text came in: (samples of sound so far, characters of text so far)."""

_FIRST_CJK = "\u2e80"
_WITHOUT_BLANKS = (
    ("\u0e00", "\u0fff"),  # Thai, Lao, Tibetan
    ("\u1000", "\u109f"),  # Burmese
    ("\u1780", "\u17ff"),  # Khmer
    ("\u1950", "\u19ff"),  # Tai Le, New Tai Lue, Khmer symbols
    ("\u1a20", "\u1aaf"),  # Tai Tham
    ("\u1b00", "\u1b7f"),  # Balinese
)
_TIBETAN = ("\u0f00", "\u0fff")
_BEFORE_CONSONANT = frozenset("\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4")
_BEHIND_CONSONANT = frozenset("\u0e30\u0e32\u0e33\u0e45\u0e46\u0e2f\u0eb0\u0eb2\u0eb3\u0ebd\u0ec6")
_STACKERS = frozenset("\u1039\u17d2\u1a60\u1b44\ua9c0")
"""What joins the next consonant: of Burmese, Khmer, Tai Tham, Balinese and Javanese."""
_HALF_WIDTH_MARKS = ("\uff9e", "\uff9f")
_JOINER, _NON_JOINER = "\u200d", "\u200c"
_MARKS = {"Mn", "Mc", "Me"}


def heard_text(text: str, marks: Sequence[Mark], received: int, heard: int) -> str:
    """The words of an answer up to where it was heard.

    Text precedes its sound, so each piece of text is laid evenly over the sound that came between
    it and the next piece.

    Args:
        marks: Where each piece of the text came in.
        received: Samples of sound that there are.
        heard: How many of them were heard.
    """
    starts = marks or [(0, 0)]
    ends = [*starts[1:], (received, len(text))]
    cut = 0
    for (start, first), (end, last) in zip(starts, ends, strict=True):
        if heard > start:
            share = min(1.0, (heard - start) / max(1, end - start))
            cut = first + int(share * (last - first))
    end = last_word_end(text, cut)
    return text[:end].rstrip() if end < len(text) else text


def last_word_end(text: str, at: int) -> int:
    """The latest place to cut a text at or before one; 0 if it is in the first word."""
    while 0 < at < len(text) and not _may_be_cut(text, at):
        at -= 1
    return at


def _may_be_cut(text: str, at: int) -> bool:
    before, after = text[at - 1], text[at]
    if before.isspace() or after.isspace():
        return True
    return (_has_no_blanks(before) or _has_no_blanks(after)) and _is_between_clusters(text, at)


def _has_no_blanks(char: str) -> bool:
    return char >= _FIRST_CJK or any(first <= char <= last for first, last in _WITHOUT_BLANKS)


def _is_between_clusters(text: str, at: int) -> bool:
    before, after = text[at - 1], text[at]
    if unicodedata.category(after) in _MARKS or after in _BEHIND_CONSONANT:
        return False
    if before in _BEFORE_CONSONANT or before in _STACKERS or _JOINER in (before, after):
        return False
    if after in (_NON_JOINER, *_HALF_WIDTH_MARKS) or "\U0001f3fb" <= after <= "\U0001f3ff":
        return False
    if "\U000e0020" <= after <= "\U000e007f":
        # Tags, which spell the flag of a part of a country.
        return False
    if _TIBETAN[0] <= before <= _TIBETAN[1] and _TIBETAN[0] <= after <= _TIBETAN[1]:
        return unicodedata.category(before)[0] == "P"
    # Two regional indicators are one flag.
    return not (_is_regional(after) and _regionals_before(text, at) % 2)


def _is_regional(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _regionals_before(text: str, at: int) -> int:
    count = 0
    while count < at and _is_regional(text[at - 1 - count]):
        count += 1
    return count
