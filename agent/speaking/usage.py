"""What a response costs, in positions of the model's context.

The model server counts the whole; how much of it was sound is reckoned from its length, and
everything is where the server said nothing.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from agent.audio import seconds
from agent.model.lenient_json import Usage
from agent.model.mimo import ChatMessage
from agent.realtime.response_object import InputTokens, OutputTokens, ResponseUsage

_POSITIONS_A_SECOND = 6.25
_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Size:
    """How much was read or said."""

    characters: int = 0
    sound_s: float = 0.0

    def counted(self, total: int | None) -> tuple[int, int]:
        """Tokens of text and of sound; `total` is the model server's own count, if known."""
        sound = math.ceil(self.sound_s * _POSITIONS_A_SECOND)
        if total is not None:
            sound = min(sound, total)
            return total - sound, sound
        return math.ceil(self.characters / _CHARACTERS_A_TOKEN), sound


def size_of(messages: Iterable[ChatMessage]) -> Size:
    characters, sound_s = 0, 0.0
    for message in messages:
        characters += len(message.text)
        sound_s += seconds(message.pcm)
    return Size(characters, sound_s)


def usage(read: Size, said: Size, counted: Usage | None) -> ResponseUsage:
    text_in, sound_in = read.counted(counted.prompt_tokens if counted else None)
    text_out, sound_out = said.counted(counted.completion_tokens if counted else None)
    return ResponseUsage(
        total_tokens=text_in + sound_in + text_out + sound_out,
        input_tokens=text_in + sound_in,
        output_tokens=text_out + sound_out,
        input_token_details=InputTokens(text_in, sound_in),
        output_token_details=OutputTokens(text_out, sound_out),
    )
