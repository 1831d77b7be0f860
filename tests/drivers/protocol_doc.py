"""The tables of docs/protocol.md, from the types that decode and encode.

`python -m tests.drivers.protocol_doc` writes them anew.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct, structs

from agent.realtime import client_events as protocol, server_events as events
from agent.realtime.config import SessionPatch
from agent.realtime.items import ConversationItem, ResponseOptions
from tests.drivers.virtual_call import opened

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"

IGNORED, ECHOED = "ignored", "accepted and echoed, but ignored"
SUPPORT = {
    "session.type": "`realtime` only; transcription sessions are refused",
    "session.id": IGNORED,
    "session.model": "any name is accepted, and the first is kept; `answered_by` is the real one",
    "session.output_modalities": "one of the two",
    "session.audio.input.format": "PCM16 at 24 kHz, or G.711 at 8 kHz",
    "session.audio.input.transcription": "turns on transcripts, by the server's recogniser",
    "session.audio.input.noise_reduction": ECHOED,
    "session.audio.input.turn_detection": "null, `server_vad` or `semantic_vad`",
    "session.audio.output.format": "PCM16 at 24 kHz, or G.711 at 8 kHz",
    "session.audio.output.voice": "any name or id; fixed after the first audio",
    "session.audio.output.speed": "0.25 to 1.5",
    "session.tools": "functions; other tools are refused",
    "session.tool_choice": "`none` is enforced; others are only requested in the instructions",
    "session.max_output_tokens": "up to the operator's limit",
    "session.tracing": ECHOED,
    "session.truncation": "all three; see below",
    "session.prompt": ECHOED,
    "session.include": ECHOED,
    "session.reasoning": ECHOED,
    "session.parallel_tool_calls": ECHOED,
    "session.x_mimo": "the extensions below",
    "response.conversation": "`none`: out of band, but not during another response",
    "response.input": "items, and references to items of the conversation",
    "response.prompt": IGNORED,
    "response.reasoning": IGNORED,
    "response.parallel_tool_calls": IGNORED,
}
"""What is to be said of a field; the others do what the protocol says."""


def tag(kind: type[Struct]) -> str:
    return str(kind.__struct_config__.tag)


def subclasses(kind: type[Struct]) -> Iterator[type[Struct]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def fields(kind: type[Struct], skip: Sequence[str] = ()) -> str:
    named = [
        f"`{field.name}`" if field.required else f"[`{field.name}`]"
        for field in structs.fields(kind)
        if field.name not in skip
    ]
    return ", ".join(named)


def client_events() -> Iterator[str]:
    yield "| client event | fields |"
    yield "|---|---|"
    for kind in sorted(get_args(protocol.AnyClientEvent), key=tag):
        yield f"| `{tag(kind)}` | {fields(kind, ['event_id'])} |"


def server_events() -> Iterator[str]:
    yield "| server event | fields |"
    yield "|---|---|"
    kinds = {
        tag(kind): kind
        for kind in subclasses(events.ServerEvent)
        if "." in tag(kind) or tag(kind) == "error"
        if not kind.__name__.startswith(("_", "Binary"))
    }
    for name, kind in sorted(kinds.items()):
        named = ", ".join(f"`{field.name}`" for field in structs.fields(kind))
        yield f"| `{name}` | {named} |"


def options(path: str, kind: type[Struct], containers: Sequence[str]) -> Iterator[str]:
    for field in structs.fields(kind):
        where = f"{path}.{field.name}"
        inner = [
            each
            for each in get_args(field.type) or (field.type,)
            if isinstance(each, type) and issubclass(each, Struct)
        ]
        if where in containers and inner:
            yield from options(where, inner[0], containers)
        else:
            yield where


def session_fields() -> Iterator[str]:
    yield "| field | default | support |"
    yield "|---|---|---|"
    containers = ["session.audio", "session.audio.input", "session.audio.output"]
    shown: Any = msgspec.to_builtins(opened())
    for path in options("session", SessionPatch, containers):
        value: Any = shown
        for name in path.split(".")[1:]:
            value = value.get(name)
        default = "" if path in CHOSEN else f"`{msgspec.json.encode(value).decode()}`"
        yield f"| `{path}` | {default} | {SUPPORT.get(path, 'as the protocol says')} |"


CHOSEN = {"session.id", "session.model", "session.type", "session.instructions"}
"""Fields whose value is the operator's or the session's own."""


def response_fields() -> Iterator[str]:
    yield "| field of `response.create` | support |"
    yield "|---|---|"
    for path in options("response", ResponseOptions, []):
        yield f"| `{path}` | {SUPPORT.get(path, 'as the protocol says')} |"


def item_types() -> Iterator[str]:
    yield "| item | fields |"
    yield "|---|---|"
    for kind in get_args(ConversationItem):
        yield f"| `{tag(kind)}` | {fields(kind)} |"


def tables() -> str:
    parts = (client_events(), server_events(), session_fields(), response_fields(), item_types())
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def updated(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
