"""Text as it is generated, cut into clauses that can be spoken one by one.

The first clause is short, because the listener waits for it; later ones are longer, because
the synthesiser speaks long clauses more naturally.
"""

import re

_FIRST = 10
"""Characters: fewer would be spoken sooner, and a single "Yes," sounds like a sentence."""
_LATER = 40
"""Shorter clauses sound chopped, longer ones may come too late to follow the one before."""
_LONGEST = 100
"""A text without punctuation is cut here, or the listener would wait for all of it."""
_CLAUSE_END = re.compile(
    r"[.!?][\"')\]]*\s|[,;:]\s|\s[-\u2013\u2014]\s|[\u3002\uff01\uff1f\uff1b\uff0c]"
)
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s|[\u3002\uff01\uff1f]")
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|vs|etc|No)|\b[A-Za-z]|^\s*\d+)\.\s$")
_MARKDOWN = re.compile(r"```|[*_`#>|~]+|^\s*[-\u2022]\s+|!?\[([^\]]*)\]\([^)]*\)")


class Clauses:
    """Collects text and gives back whole clauses, each with its closing punctuation."""

    def __init__(self) -> None:
        self._text = ""
        self._shortest = _FIRST

    def push(self, piece: str) -> list[str]:
        """Take the next piece of text and return the clauses that it completed."""
        self._text += piece
        ready: list[str] = []
        while (cut := self._cut()) is not None:
            ready.append(self._text[:cut].strip())
            self._text = self._text[cut:]
            self._shortest = _LATER
        return ready

    def rest(self) -> str:
        """Return what no punctuation has closed yet, and forget it."""
        rest, self._text = self._text.strip(), ""
        return rest

    def _cut(self) -> int | None:
        for end in _CLAUSE_END.finditer(self._text):
            whole = end.end() >= self._shortest or bool(_SENTENCE_END.match(end.group()))
            if whole and not _ABBREVIATION.search(self._text[: end.end()]):
                return end.end()
        if len(self._text) <= _LONGEST:
            return None
        space = self._text.rfind(" ", self._shortest, _LONGEST)
        return space + 1 if space > 0 else _LONGEST


def is_sentence(clause: str) -> bool:
    """Tell whether a clause closes a sentence."""
    return clause.rstrip("\"')]").endswith((".", "!", "?", "\u3002", "\uff01", "\uff1f"))


def without_markdown(text: str) -> str:
    """Keep the words of a text and drop the signs that only lay it out."""
    return " ".join(_MARKDOWN.sub(lambda found: found.group(1) or " ", text).split())
