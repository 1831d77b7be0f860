"""What the user said in one turn."""

from dataclasses import dataclass

from agent.conversation.conversation import Item, Spoken


@dataclass(frozen=True, slots=True)
class Utterance:
    """Mono PCM16 at 24 kHz, prefix padding included."""

    item_id: str
    pcm: bytes

    def item(self) -> Item:
        return Item(self.item_id, "user", [Spoken(bytearray(self.pcm))])
