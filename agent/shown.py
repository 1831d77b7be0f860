"""Text of others as it may be shown: without what a terminal obeys, or what turns it around.

Controls of both sets, the ends of lines of Unicode, and the marks that change the direction of
what stands around them. Joiners stay: emoji and several scripts are written with them.
"""

_OBEYED = {
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0x061C, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
}
"""C0, DEL and C1; the marks of bidirectional text, the separators, the mark of byte order."""
_BLANKS = dict.fromkeys(_OBEYED - {ord("\n")}, " ")
_ESCAPES = {code: f"\\u{code:04x}" for code in _OBEYED - {ord("\n")}}


def printable(text: str) -> str:
    """Put a blank in the place of each; lines stay lines."""
    return text.translate(_BLANKS)


def escaped(text: str) -> str:
    """Write each as its number, which in a string of JSON means the same."""
    return text.translate(_ESCAPES)
