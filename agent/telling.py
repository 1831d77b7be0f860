"""What a client is told of the user's side in several events at once."""

from agent.commands import Command, Send
from agent.conversation.conversation import Item
from agent.realtime import server_events as events
from agent.realtime.server_events import ServerEvent


def tell_turn(item: Item, previous: str | None) -> list[Command]:
    """Tell the client that the user's turn is an item of the conversation."""
    told: list[ServerEvent] = [
        events.Committed(previous_item_id=previous, item_id=item.id),
        events.ItemAdded(previous_item_id=previous, item=item.wire()),
        events.ItemDone(previous_item_id=previous, item=item.wire()),
    ]
    return [*map(Send, told)]


def tell_transcript(item_id: str, transcript: str, duration_s: float) -> list[Command]:
    """Tell the client what the user said in an item, and how long that was."""
    usage: dict[str, object] = {"type": "duration", "seconds": round(duration_s, 3)}
    delta = events.TranscriptionDelta(item_id=item_id, content_index=0, delta=transcript)
    completed = events.TranscriptionCompleted(
        item_id=item_id, content_index=0, transcript=transcript, usage=usage
    )
    return [*([Send(delta)] if transcript else []), Send(completed)]
