"""The model's context: what of a conversation fits into it, and how long a reply may be.

Counted in positions of the model; what takes how many, its profile says.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent.audio import seconds
from agent.errors import ModelError
from agent.model.mimo import MIMO
from agent.model.output import ChatMessage
from agent.realtime.config import RetentionRatio, TokenLimits, Truncation
from agent.words import last_word_end

REPLY_RESERVE = 1_024
"""Positions kept free for a reply: about 90 s of speech with its text."""

SHORTEST_REPLY = 16
"""Positions; with fewer an answer would stop in its first sentence, more refuses turns that fit."""


def fit(
    messages: Sequence[ChatMessage],
    max_tokens: int,
    context: int,
    truncation: Truncation = "auto",
) -> tuple[list[ChatMessage], int]:
    """Return the prompt that fits and the most tokens its reply may take.

    The system's messages with the voice, and the turn to be answered, always stay.

    Args:
        max_tokens: What the reply may take if there is room.
        context: Positions of the model, for prompt and reply together.

    Raises:
        ModelError: If it doesn't fit and nothing may be left out.
    """
    prompt = [_consistent(message) for message in messages]
    room = context - min(max_tokens, REPLY_RESERVE)
    match truncation:
        case "auto":
            prompt = _shortened(prompt, room)
        case "disabled":
            _check(prompt, room)
        case RetentionRatio():
            prompt = _retained(prompt, room, truncation)
    left = context - _size(prompt)
    if left < SHORTEST_REPLY:
        message = (
            f"The turn and its instructions take {context - left} tokens. The model's context "
        )
        message += f"is {context}, and {SHORTEST_REPLY} of it are reserved for the reply."
        raise ModelError(message, code="context_length_exceeded")
    return prompt, min(max_tokens, left)


def _shortened(prompt: Sequence[ChatMessage], room: int) -> list[ChatMessage]:
    """The oldest speech becomes text first, then the oldest messages go."""
    kept = list(prompt)
    costs = [positions(message) for message in kept]
    used = sum(costs)
    spare = [index for index in range(_current_turn(kept)) if kept[index].role != "system"]
    for index in (each for each in spare if kept[each].pcm):
        if used <= room:
            break
        used -= costs[index]
        kept[index] = _written(kept[index])
        costs[index] = positions(kept[index]) if kept[index].text else 0
        used += costs[index]
    gone = {index for index in spare if not (kept[index].text or kept[index].pcm)}
    for index in spare:
        if used <= room:
            break
        used -= costs[index] if index not in gone else 0
        gone.add(index)
    return [message for index, message in enumerate(kept) if index not in gone]


def _check(prompt: Sequence[ChatMessage], room: int) -> None:
    if (used := _size(prompt)) > room:
        message = (
            f"The conversation takes {used} tokens, but only {room} fit beside the reply, and "
        )
        message += "nothing may be dropped because session.truncation is disabled."
        raise ModelError(message, code="context_length_exceeded")


def _retained(
    prompt: Sequence[ChatMessage], room: int, truncation: RetentionRatio
) -> list[ChatMessage]:
    """Drop the oldest messages, each time that there were too many, down to the ratio.

    The talk is followed from its beginning, so a longer one is cut where the shorter one was:
    from one cut to the next, every prompt begins like the one before it.
    """
    costs = [positions(message) for message in prompt]
    room -= _size(message for message in prompt if message.role == "system")
    limits = truncation.token_limits
    if isinstance(limits, TokenLimits) and isinstance(limits.post_instructions, int):
        room = min(room, limits.post_instructions)
    kept, used, current = deque[int](), 0, _current_turn(prompt)
    for index in (each for each, message in enumerate(prompt) if message.role != "system"):
        kept.append(index)
        used += costs[index]
        if used > room:
            while used > room * truncation.retention_ratio and kept[0] < min(index, current):
                used -= costs[kept.popleft()]
    return [each for n, each in enumerate(prompt) if each.role == "system" or n >= kept[0]]


def _size(messages: Iterable[ChatMessage]) -> int:
    return sum(map(positions, messages))


def positions(message: ChatMessage) -> int:
    """What a message takes of the context, at most."""
    groups = math.ceil(MIMO.groups_a_second * seconds(message.pcm)) + MIMO.around_clip
    return _tokens(message.text) + MIMO.around_message + (groups if message.pcm else 0)


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode()) / MIMO.bytes_a_token)


def _current_turn(messages: Sequence[ChatMessage]) -> int:
    """Index of the message that is to be answered."""
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    return users[-1] if users else len(messages)


def _written(message: ChatMessage) -> ChatMessage:
    """The message with words in the place of its sound."""
    words = [each for each in (message.text, message.words) if each]
    return ChatMessage(message.role, "\n".join(words))


def _consistent(message: ChatMessage) -> ChatMessage:
    """Shorten the agent's words where its sound was cut shorter than they are.

    With more text than `groups >= 5 * (ceil(tokens / 5) - 1)` allows, the model server takes the
    missing sound from the user's next clip, without a word.
    """
    if message.role != "assistant" or not message.pcm:
        return message
    groups = math.floor(MIMO.groups_a_second * seconds(message.pcm))
    most = MIMO.tokens_a_slice * (groups // MIMO.tokens_a_slice + 1)
    if _tokens(message.text) <= most:
        return message
    kept = message.text.encode()[: most * MIMO.bytes_a_token].decode(errors="ignore")
    whole_words = kept[: last_word_end(message.text, len(kept))].rstrip()
    return replace(message, text=whole_words or kept)
