"""The order of a session's events that clients rely on."""

from collections import Counter
from collections.abc import Sequence

from tests.drivers.scripted import Json


def assert_in_order(events: Sequence[Json]) -> set[str]:
    """Check a session from its beginning; return the responses that are still open."""
    running, over, marked = set[str](), set[str](), set[str]()
    known, added = set[str](), set[str]()
    for event in events:
        kind = event["type"]
        response = event.get("response", {}).get("id", event.get("response_id"))
        match kind:
            case "response.created":
                assert not running, "one response at a time"
                assert response not in over
                running.add(response)
            case "response.done":
                assert response in running, "done once, after it was created"
                assert event["response"]["status"] != "in_progress"
                running.remove(response)
                over.add(response)
            case "x_mimo.marks":
                assert response in running, "marks of a response that isn't open"
                assert response not in marked, "marks once"
                marked.add(response)
            case "response.output_item.added":
                assert response in running
                known.add(event["item"]["id"])
            case "conversation.item.added":
                assert event["item"]["id"] not in added
                assert event["previous_item_id"] in added | {None}
                added.add(event["item"]["id"])
            case _ if kind.startswith("response."):
                assert response in running, f"{kind} of a response that isn't open"
                assert event.get("item_id", event.get("item", {}).get("id")) in known
            case _:
                pass
        for item in _items(event):
            assert None not in item.values(), "a field that does not apply is left out"
    assert max(Counter(event["event_id"] for event in events).values()) == 1
    return running


def _items(event: Json) -> list[Json]:
    own = [event["item"]] if "item" in event else []
    return [*own, *event.get("response", {}).get("output", [])]
