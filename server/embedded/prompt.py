"""What the small language model reads: a persona, examples, and the conversation.

A model of 135 million parameters answers by imitation, so the examples decide what it can
do. It does not find what the user said some turns ago by itself either; a question about
the user is therefore asked together with the user's own earlier words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_PERSONA = "You are a friendly voice assistant. You answer in one short sentence."

_EXAMPLES = [
    ("Hello.", "Hello! How can I help you today?"),
    ("How are you?", "I am fine, thank you. How are you?"),
    ("Thank you.", "You are welcome!"),
    ("Goodbye.", "Goodbye! Have a nice day."),
    ("Who are you?", "I am a small voice assistant."),
    ("Tell me a joke.", "Why did the chicken cross the road? To get to the other side!"),
    ("I like music.", "Music is wonderful. What do you like to listen to?"),
    ("My brother is called Paul.", "Nice, your brother is called Paul."),
    (
        "My favourite animal is the horse. What is my favourite animal?",
        "Your favourite animal is the horse.",
    ),
    ("I come from Madrid. Where do I come from?", "You come from Madrid."),
    ("What is the capital of Poland?", "The capital of Poland is Warsaw."),
    ("How many wheels does a car have?", "A car has four wheels."),
    ("What colour is snow?", "Snow is white."),
    ("What is one plus one?", "One plus one is two."),
]
_PERSONA_CHARACTERS = 120
"""More would take longer to read, and hide the question from a model this small."""
_YOU_ARE = re.compile(r"\b[Yy]ou are ([^.!?\n]+)")
_YOU = re.compile(r"\byou\b", re.IGNORECASE)
_YOUR = re.compile(r"\byour\b", re.IGNORECASE)
_TURN_BYTES = 600
"""Of one turn; more would leave fewer turns in the history."""
_HISTORY_BYTES = 2400
"""More would take longer to read before every answer, fewer forget what was said."""
_DROPPED_AT_ONCE = 8
"""History is shortened by this many turns at a time: each cut makes the model read it all anew."""

_SPECIAL = re.compile(r"<\|[^|>]*\|>|\.{5,}")
_WORD = re.compile(r"[a-z]+")
_SELF = {"i", "my", "mine", "me"}
_QUESTION = {"what", "where", "who", "when", "which", "how", "whats", "do", "am", "can", "tell"}
_FILLERS = {"a", "an", "and", "are", "did", "does", "for", "in", "is", "it", "m", "of", "on", "s"}
_COMMON = _SELF | _QUESTION | _FILLERS | {"the", "to", "you", "your"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One side's words in the conversation."""

    role: Literal["user", "assistant"]
    text: str


def plain(text: str) -> str:
    """Remove special tokens, which would be obeyed, and line ends, which end a turn."""
    return " ".join(_SPECIAL.sub(" ", text).split())


def render(persona: str, turns: Sequence[Turn]) -> str:
    """Return the prompt whose continuation is the assistant's reply to the last turn."""
    examples = [part for user, reply in _EXAMPLES for part in (_user(user), _assistant(reply))]
    *history, last = [Turn(turn.role, _shortened(plain(turn.text))) for turn in turns]
    reminder = _reminder(history, last.text)
    messages = (
        [_user(reminder)] if reminder else [*map(_message, _recent(history)), _user(last.text)]
    )
    opening = [_block("system", _PERSONA), *examples, *_introduction(persona)]
    return "".join([*opening, *messages, "<|im_start|>assistant\n"])


def _introduction(persona: str) -> list[str]:
    """Make "You are Mia, …" the assistant's own answer to who it is.

    Obeying instructions is beyond the model; and put first, in place of its own, a persona
    would make it read all the examples again whenever another client asks.
    """
    who = self_description(persona)
    return [_user("Who are you?"), _assistant(f"I am {who}.")] if who else []


def self_description(persona: str) -> str:
    """What the agent is by its persona, in its own words; empty if that does not say."""
    found = _YOU_ARE.search(plain(persona))
    words = found.group(1)[:_PERSONA_CHARACTERS] if found else ""
    return _YOUR.sub("my", _YOU.sub("I", words))


def _reminder(history: Sequence[Turn], question: str) -> str | None:
    """Join a question about the user with the statement of the user that it is about."""
    asked = _words(question)
    opening = next(iter(_WORD.findall(question.lower())), "")
    if not asked & {"i", "my", "mine"} or opening not in _QUESTION:
        return None
    statements = [
        turn.text
        for turn in reversed(history)
        if turn.role == "user" and not turn.text.endswith("?") and _words(turn.text) & _SELF
    ]
    related = [text for text in statements if (_words(text) & asked) - _COMMON]
    found = related or statements
    return f"{found[0]} {question}" if found else None


def _recent(history: Sequence[Turn]) -> Sequence[Turn]:
    dropped = 0
    while sum(len(turn.text.encode()) for turn in history[dropped:]) > _HISTORY_BYTES:
        dropped += _DROPPED_AT_ONCE
    return history[dropped:]


def _shortened(text: str) -> str:
    return text.encode()[:_TURN_BYTES].decode(errors="ignore")


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower().replace("color", "colour")))


def _message(turn: Turn) -> str:
    return _user(turn.text) if turn.role == "user" else _assistant(turn.text)


def _user(text: str) -> str:
    return _block("user", text)


def _assistant(text: str) -> str:
    return _block("assistant", text)


def _block(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"
