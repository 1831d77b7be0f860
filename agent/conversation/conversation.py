"""The conversation: items with their text AND their sound, cut to what was heard.

What the model gets to read is rendered from here, so it never believes it said what nobody heard.
"""

from collections.abc import Iterable, Iterator

from agent import limits
from agent.audio import RATE, SAMPLE_BYTES, samples_in
from agent.conversation.calls import FunctionCall, FunctionResult
from agent.conversation.items import Entry, Item, Spoken, Written, clip_key, held_bytes
from agent.errors import ProtocolError
from agent.model.mimo import plain
from agent.model.output import ChatMessage
from agent.model.tools import call_text

VOICE = "Your voice should be:"
"""What the model was trained to read before the sample of its own voice."""


class Conversation:
    """The items in their order.

    Args:
        secret: Known to this session alone, 64 bytes at most; it goes into the keys of clips.
            Without one clips have no keys, and are always sent whole.
    """

    def __init__(self, secret: str = "") -> None:
        self.secret = secret
        self._items: list[Entry] = []
        self._by_id: dict[str, Entry] = {}

    @property
    def held_bytes(self) -> int:
        return sum(map(held_bytes, self._items))

    def find(self, item_id: str, code: str, param: str = "item_id") -> Entry:
        """Return an item, or raise `ProtocolError` with the given code."""
        if (item := self._by_id.get(item_id)) is None:
            raise ProtocolError(f"Item '{item_id[:64]}' does not exist.", code=code, param=param)
        return item

    def knows_call(self, call_id: str) -> bool:
        return any(
            isinstance(item, FunctionCall) and item.call_id == call_id for item in self._items
        )

    def add(self, item: Entry, after: str | None = None) -> str | None:
        """Put an item at the end, at the front (`"root"`) or after another one.

        Returns:
            The id of the item that now precedes it.

        Raises:
            ProtocolError: If its id is taken, or the item to follow doesn't exist.
        """
        place = self._place(item, after)
        self._spare_sound()
        return self._items[place - 1].id if place else None

    def fill(self, items: Iterable[Entry]) -> None:
        """Put items at the end; raise `ProtocolError` if the id of one is taken."""
        for item in items:
            self._place(item, None)
        self._spare_sound()

    def _place(self, item: Entry, after: str | None) -> int:
        if item.id in self._by_id:
            message = f"An item with id '{item.id[:64]}' already exists."
            raise ProtocolError(message, code="item_create_duplicate_item_id", param="item.id")
        place = len(self._items)
        if after == "root":
            place = 0
        elif after is not None:
            code = "item_create_invalid_previous_item_id"
            place = self._items.index(self.find(after, code, "previous_item_id")) + 1
        if len(self._items) >= limits.ITEMS:
            del self._by_id[self._items.pop(0).id]
            place = max(0, place - 1)
        self._items.insert(place, item)
        self._by_id[item.id] = item
        return place

    def previous(self, item: Entry) -> str | None:
        """The id of the item before this one."""
        is_here = self._by_id.get(item.id) is item
        place = self._items.index(item) if is_here else len(self._items)
        return self._items[place - 1].id if place else None

    def set_transcript(self, item_id: str, transcript: str) -> None:
        """Remember the words of the user's speech; the item may be gone by now."""
        item = self._by_id.get(item_id)
        if isinstance(item, Item) and item.spoken is not None:
            item.spoken.transcript = transcript

    def interrupt(self, item_id: str, heard_s: float) -> None:
        """Cut an item to what was probably heard, if it is there and said anything.

        A client that has cut it already knows better what was heard.
        """
        item = self._by_id.get(item_id)
        spoken = item.spoken if isinstance(item, Item) else None
        if spoken is not None and spoken.heard is None:
            self.truncate(item_id, round(heard_s * 1000))

    def delete(self, item_id: str) -> None:
        item = self.find(item_id, "item_delete_invalid_item_id")
        self._items.remove(item)
        del self._by_id[item_id]

    def truncate(self, item_id: str, audio_end_ms: int) -> int:
        """Cut speech of the agent to what was heard and return the length kept, in ms.

        A length beyond the end is the end: clients round up.
        """
        item = self.find(item_id, "item_truncate_invalid_item_id")
        spoken = item.spoken if isinstance(item, Item) and item.role == "assistant" else None
        if spoken is None:
            message = f"Item '{item_id}' contains no speech by the agent."
            raise ProtocolError(message, code="item_truncate_invalid_item_id", param="item_id")
        whole = len(spoken.pcm) // SAMPLE_BYTES
        spoken.heard = min(samples_in(audio_end_ms), whole)
        return min(audio_end_ms, -(-whole * 1000 // RATE))

    def render(
        self, instructions: str, pending: bytes = b"", voice: bytes = b""
    ) -> list[ChatMessage]:
        """The prompt: instructions and voice, what was said and heard, speech not yet an item."""
        messages: list[ChatMessage] = []
        if instructions or voice:
            text = "\n".join([*filter(None, [instructions]), *([VOICE] if voice else [])])
            messages.append(ChatMessage("system", text, voice, clip_key(voice, self.secret)))
        messages += rendered(self._items, self.secret)
        if pending:
            messages.append(ChatMessage("user", "", pending, clip_key(pending, self.secret)))
        return messages

    def _spare_sound(self) -> None:
        items = [each for each in reversed(self._items) if isinstance(each, Item)]
        spoken = [(item, part) for item in items for part in item.parts if isinstance(part, Spoken)]
        # The turn that is to be answered goes to the model whole, however long it is.
        turn = next((item for item, _ in spoken if item.role == "user"), None)
        left = limits.REMEMBERED_S * RATE * SAMPLE_BYTES
        for item, part in spoken:
            left -= len(part.pcm)
            # What a client calls unfinished does not grow.
            grows = item.status == "in_progress" and isinstance(part.pcm, bytearray)
            if left < 0 and part.pcm and not grows and item is not turn:
                part.transcript = part.heard_text()
                part.pcm, part.heard, part.marks = b"", None, []


def rendered(items: Iterable[Entry], secret: str = "") -> Iterator[ChatMessage]:
    """Items as the model reads them; calls made together are one message."""
    calls: list[str] = []
    for item in items:
        if isinstance(item, FunctionCall):
            calls.append(call_text(item.call))
            continue
        if calls:
            yield ChatMessage("assistant", "\n".join(calls))
            calls = []
        match item:
            case FunctionResult(output=output):
                yield ChatMessage("tool", output)
            case Item():
                yield from _messages(item, secret)
    if calls:
        yield ChatMessage("assistant", "\n".join(calls))


def _messages(item: Item, secret: str) -> Iterator[ChatMessage]:
    """An item as messages with at most one clip each, as the model server wants them."""
    text: list[str] = []
    for part in item.parts:
        match part:
            case Written():
                text.append(plain(part.text))
            case Spoken():
                pcm, key = part.clip(secret)
                words = plain(part.heard_text())
                if not pcm:
                    text.append(words)
                    continue
                # The words of the user are in the sound; the agent's history has both.
                if item.role == "assistant":
                    text.append(words)
                    words = ""
                yield ChatMessage(item.role, "\n".join(text), pcm, key, words)
                text = []
    if any(text):
        yield ChatMessage(item.role, "\n".join(text))
