"""What others said, as a terminal and a log may show it."""

import json

import pytest

from agent.shown import escaped, printable

HOSTILE = [
    "\x1b[2J",
    "\x1b]52;c;aGk=\x07",
    "\x9b31m",
    "\x9d52;c;aGk=\x9c",
    "a\rb",
    "a\x08b",
    "\u202e tuo",
    "\u2066a\u2069",
    "\u200f",
    "\u2028",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_terminal_obeys_is_shown(text: str):
    for shown in (printable(text), escaped(json.dumps(text, ensure_ascii=False))):
        assert all(each.isprintable() for each in shown)
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.parametrize("text", ["one\ntwo", "שלום", "👩‍👩‍👧", "क्‍ष", "می‌خواهم"])
def test_what_people_write_is_shown_as_it_is(text: str):
    assert printable(text) == text
