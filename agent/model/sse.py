"""Server-sent events, from bytes cut anywhere.

Source:
    https://html.spec.whatwg.org/multipage/server-sent-events.html, but that a last event which
    no blank line ends counts, too.
"""

from typing import NamedTuple

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    """One event; ids and times to reconnect mean nothing to a single request."""

    kind: str
    """Empty if the stream gave none."""
    data: bytes
    """All of its lines, joined by line feeds."""


class EventReader:
    """Reads one stream; `push` takes its bytes as they come, `finish` the end of them."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._ends_in_cr = False
        self._is_first = True
        self._kind = ""
        self._data: list[bytes] = []

    def events_in(self, data: bytes) -> list[ServerEvent]:
        if self._ends_in_cr and data.startswith(b"\n"):
            # The second half of an end of line, whose first was taken for a whole one.
            data = data[1:]
            self._ends_in_cr = False
        if data:
            self._ends_in_cr = data.endswith(b"\r")
        found: list[ServerEvent] = []
        for part in data.splitlines(keepends=True):
            self._line += (text := part.rstrip(b"\r\n"))
            if len(text) < len(part):
                line, self._line = bytes(self._line), bytearray()
                found += self._take(line)
        return found

    def finish(self) -> list[ServerEvent]:
        line, self._line = bytes(self._line), bytearray()
        return [*(self._take(line) if line else []), *self._take(b"")]

    def _take(self, line: bytes) -> list[ServerEvent]:
        if self._is_first:
            line, self._is_first = line.removeprefix(_BYTE_ORDER_MARK), False
        if not line:
            event = ServerEvent(self._kind, b"\n".join(self._data))
            is_whole, self._kind, self._data = bool(self._data), "", []
            return [event] if is_whole else []
        # A comment is a field without a name.
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._kind = value.decode(errors="replace")
        return []
