"""MiMo-Audio's own: everything that another speech model would have otherwise.

Another one is another file like this, with its `Profile` in the place of `MIMO`.

Source:
    The model's tokenizer and chat template, its `generation_config`, and what vLLM-Omni 0.24 on a
    GPU was seen to send; docs/model-server.md has the measurements.
"""

import re
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Profile:
    """A speech model, as the rest of the code has to know it."""

    special_tokens: re.Pattern[str]
    """What the server would read as one token, wherever it stands in a text."""
    marks: re.Pattern[str]
    """The first character of other tokens: what stands around calls, their results and thoughts."""
    deepest: int
    """Times that taking a token out of a text may make another; nested deeper is an attack."""
    noise: re.Pattern[str]
    """What replies hold that nobody said: special tokens, and the dots that fill steps of sound."""
    opening: re.Pattern[str]
    """The end of a text that may be the beginning of a special token."""
    filler: str
    """What fills steps of sound, as a row of `most_filler` or more; fewer may be text."""
    most_filler: int
    stop_tokens: tuple[int, ...]
    sampling: MappingProxyType[str, float | bool]
    """Of both stages, text and sound; a request names all, as its entry replaces the defaults."""
    most_sound_tokens: int
    """Of the second stage: so many that the first decides how long a reply is."""
    lull: int
    """Empty steps in a row that end a text."""
    groups_a_second: float
    """Steps of sound; each is one position of the context."""
    bytes_a_token: int
    """Of UTF-8: no tokenizer is at hand, so text is counted generously."""
    characters_a_token: int
    """Of text, about: for what a response cost, where the server does not count."""
    around_message: int
    around_clip: int
    """Positions of the template around a message, and around its sound."""
    tokens_a_slice: int
    """Text goes into the history in slices, each followed by as many groups of sound."""
    call_opening: str
    call_closing: str
    """A function call in the text, a JSON object between the two."""


MIMO = Profile(
    special_tokens=re.compile(r"<\|[^|]*\|>"),
    marks=re.compile(r"<(?=/?(?:tool_call|tool_response|think)>)"),
    deepest=8,
    noise=re.compile(r"<\|[^|<]{0,60}\|>|\.{5,}"),
    opening=re.compile(r"<(\|[^|<]{0,60}\|?)?$"),
    filler=".",
    most_filler=5,
    # <|eostm|> and <|im_end|>
    stop_tokens=(151671, 151645),
    # Greedy in both stages, as its decision between speech and text needs it.
    sampling=MappingProxyType(
        {
            "temperature": 0.0,
            "top_p": 1.0,
            "top_k": -1,
            "seed": 42,
            "detokenize": True,
            "repetition_penalty": 1.1,
        }
    ),
    most_sound_tokens=65_536,
    # It writes 5 tokens, then speaks 5 groups, and so on; when the text is over it only speaks.
    # Each step comes as a chunk of text, empty where it spoke: 5 that are spoken, and 3 of a
    # character in pieces, are still no end.
    lull=9,
    groups_a_second=6.25,
    # Above what English takes and what Chinese takes.
    bytes_a_token=3,
    characters_a_token=4,
    around_message=8,
    around_clip=2,
    tokens_a_slice=5,
    call_opening="<tool_call>",
    call_closing="</tool_call>",
)


def plain(text: str, *, keeps_marks: bool = False) -> str:
    """Take out what the model server would read as special tokens.

    Taking one out may join the halves of another. Text nested deeper than a few levels is an
    attack; what could still open a token is broken up there.

    Args:
        keeps_marks: For what was put together here, of plain parts and marks of our own.
    """
    for _ in range(MIMO.deepest):
        text, found = MIMO.special_tokens.subn("", text)
        if not found:
            break
    else:
        text = text.replace("<|", "< |")
    return text if keeps_marks else MIMO.marks.sub("< ", text)


def plain_json(text: str) -> str:
    """The same of JSON, which stays JSON: what could open a token is broken up."""
    return MIMO.marks.sub("< ", text.replace("<|", "< |"))
