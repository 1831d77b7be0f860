"""What waits to be sent, and what was sent and may not have arrived.

The second is kept for clients that asked to resume, until they say that they heard it. Events are
numbered as they go out; what has to go out again gets new numbers, so that the last number a
client received always says what it has.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from agent.commands import Close
from agent.realtime import server_events as events
from agent.realtime.codec import samples_of
from agent.realtime.config import AudioFormat, PcmFormat
from agent.realtime.resumption import Position, Resumed
from agent.realtime.server_events import AudioDelta, ServerEvent

MOST_KEPT_BYTES = 10 * 2**20
"""About two and a half minutes of sound, as it goes out."""
MOST_KEPT_EVENTS = 2_000
"""The same for small ones: more take memory, fewer lose the answer of a client that is late."""

_STALE = events.SessionCreated | events.SessionUpdated
"""Not sent again: a resumed connection begins with the configuration of now."""
_TEXT_DELTAS = (
    events.TextDelta | events.TranscriptDelta | events.TranscriptionDelta | events.ArgumentsDelta
)
"""Not sent again to a client that may have them: the event that ends them holds the whole text."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as it goes over the wire."""

    data: bytes
    is_text: bool


@dataclass(frozen=True, slots=True)
class _Sent:
    number: int
    event: ServerEvent
    size: int
    start_samples: int
    """Where it begins in its item's sound, at 24 kHz; 0 for all but sound, like the next."""
    end_samples: int


class ResendBuffer:
    """The way of one session's events to its client, over any number of connections."""

    def __init__(self) -> None:
        self._waiting: deque[ServerEvent | Close] = deque()
        self._sent: deque[_Sent] = deque()
        self._sent_bytes = 0
        self._keeps = False
        self._number = 0
        self._format: AudioFormat = PcmFormat()
        self._item_id = ""
        """The item whose sound is being sent; empty between two of them."""
        self._item_samples = 0

    def __len__(self) -> int:
        """How many events wait."""
        return len(self._waiting)

    def put(self, event: ServerEvent | Close) -> None:
        """Add what is to be sent last; sound that nobody wants any more after it is dropped."""
        match event:
            case events.ResponseDone(response=response) if response.status == "cancelled":
                self._waiting = deque(e for e in self._waiting if not _sounds(e, response.id))
                self._forget_sound(response.id)
            case events.ItemTruncated(item_id=item_id):
                self._forget_sound(item_id)
            case _:
                pass
        self._waiting.append(event)

    def take(self) -> Frame | Close:
        """Take what waits longest."""
        event = self._waiting.popleft()
        if isinstance(event, Close):
            return event
        self._number += 1
        data = events.encode(event, f"event_{self._number}")
        self._keep(event, len(data))
        return Frame(data, is_text=not isinstance(event, events.BinaryAudioDelta))

    def heard(self, item_id: str, samples: int) -> None:
        """Forget what the client must have received: so much of an item's sound was played.

        Args:
            samples: Counted at 24 kHz from the item's beginning.
        """
        last = 0
        for sent in self._sent:
            if isinstance(sent.event, AudioDelta) and sent.event.item_id == item_id:
                if sent.end_samples > samples:
                    break
                last = sent.number
        self._forget(last)

    def resume(self, greeting: events.SessionCreated, position: Position) -> None:
        """A new connection begins: put in front what the client has not got.

        Where it doesn't say which event was its last, events other than sound may come twice. A
        client that neither says how far it got nor reports what it plays gets nothing again.
        """
        if position.after is not None:
            self._forget(position.after)
        if position.item_id:
            self.heard(position.item_id, position.received_samples)
        asked = greeting.session.x_mimo
        again = [*self._again(position, reports=bool(asked) and asked.playout)]
        sound = next((sent for sent in again if isinstance(sent.event, AudioDelta)), None)
        if sound and isinstance(sound.event, AudioDelta):
            self._item_id, self._item_samples = sound.event.item_id, sound.start_samples
        self._forget(self._number)
        waiting = [*(sent.event for sent in again), *self._waiting]
        self._waiting = deque([greeting])
        if self._item_id:
            start = Resumed(item_id=self._item_id, audio_start_samples=self._item_samples)
            self._waiting.append(start)
        self._waiting += [event for event in waiting if not isinstance(event, _STALE)]

    def _again(self, position: Position, reports: bool) -> Iterator[_Sent]:
        exact, known = position.after is not None, position.item_id or reports
        for sent in self._sent:
            if exact or (known and not isinstance(sent.event, _TEXT_DELTAS)):
                yield sent

    def _keep(self, event: ServerEvent, size: int) -> None:
        start = end = 0
        match event:
            case events.SessionCreated(session=session) | events.SessionUpdated(session=session):
                self._keeps = bool(session.x_mimo) and session.x_mimo.resume
                if not self._keeps:
                    self._forget(self._number)
                return
            case Resumed():
                return
            case events.ResponseCreated(response=response):
                self._format = response.audio.output.format
            case AudioDelta(item_id=item_id):
                start = self._item_samples if item_id == self._item_id else 0
                end = start + samples_of(event.delta, self._format)
                self._item_id, self._item_samples = item_id, end
            case events.AudioDone():
                self._item_id = ""
            case _:
                pass
        if self._keeps:
            self._sent.append(_Sent(self._number, event, size, start, end))
            self._sent_bytes += size
        while len(self._sent) > MOST_KEPT_EVENTS or self._sent_bytes > MOST_KEPT_BYTES:
            self._forget(self._sent[0].number)

    def _forget(self, number: int) -> None:
        while self._sent and self._sent[0].number <= number:
            self._sent_bytes -= self._sent.popleft().size

    def _forget_sound(self, whose: str) -> None:
        self._sent = deque(sent for sent in self._sent if not _sounds(sent.event, whose))
        self._sent_bytes = sum(sent.size for sent in self._sent)


def _sounds(event: ServerEvent | Close, whose: str) -> bool:
    """Whether it is sound of the response or the item of that id."""
    return isinstance(event, AudioDelta) and whose in (event.response_id, event.item_id)
