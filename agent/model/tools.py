"""Functions that the client offers: how the model learns of them, and how its calls are read.

The model writes a call into its text, `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.
It is taken out there: never shown, and what the model says or sounds after it is dropped, as
that would be the call read aloud.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from agent.errors import ModelError, ProtocolError
from agent.model.mimo import MIMO, plain, plain_json
from agent.model.output import Call
from agent.realtime.config import Json, ToolChoice

LONGEST_CALL = 65_536
"""Characters; a call that goes on longer is broken off."""

Style = Literal["request", "prompt"]
"""Who tells the model of the functions: its chat template, or our own words in the instructions."""


def call_text(call: Call) -> str:
    """A call as the model writes and reads it."""
    name = msgspec.json.encode(call.name).decode()
    body = plain_json(f'{{"name": {name}, "arguments": {call.arguments}}}')
    return f"{MIMO.call_opening}\n{body}\n{MIMO.call_closing}"


class _Call(msgspec.Struct):
    name: str
    arguments: Json | str = msgspec.field(default_factory=dict[str, object])


class CallReader:
    """Takes the calls out of one reply's text, wherever its chunks are cut."""

    def __init__(self, offered: frozenset[str]):
        self._offered = offered
        self._held = ""
        self._inside = False
        self._spoke = False
        self.calling = False
        """Whether a call has begun: all that follows is calls."""
        self.problem: ModelError | None = None
        """Set once a call could not be read; it is dropped."""

    def read_text(self, text: str) -> Iterator[str | Call]:
        """Take text; return what of it is said, and the calls that are complete."""
        self._held += text
        while True:
            mark = MIMO.call_closing if self._inside else MIMO.call_opening
            before, found, rest = self._held.partition(mark)
            if not found:
                break
            yield from self._read(before) if self._inside else self._say(before)
            self._held = rest
            self._inside, self.calling = not self._inside, True
        if not self._inside:
            cut = len(self._held) - _beginning_of(MIMO.call_opening, self._held)
            said, self._held = self._held[:cut], self._held[cut:]
            yield from self._say(said)
        elif len(self._held) > LONGEST_CALL:
            self._held = ""
            self._refuse("it is too long")

    def finish(self) -> Iterator[str | Call]:
        """Return what was still undecided when the reply ended."""
        if self._inside:
            self._refuse("the reply ended inside it")
        else:
            yield from self._say(self._held)
        self._held = ""

    def _say(self, text: str) -> Iterator[str]:
        if self.calling:
            return
        # Blank lines before a call are layout, not speech.
        said = text if self._spoke else text.lstrip()
        if said:
            self._spoke = True
            yield said

    def _read(self, body: str) -> Iterator[Call]:
        try:
            call = msgspec.json.decode(body, type=_Call)
            arguments = call.arguments
            if isinstance(arguments, str):
                arguments = msgspec.json.decode(arguments or "{}", type=Json)
        except msgspec.DecodeError as error:
            self._refuse(str(error))
            return
        if call.name not in self._offered:
            self._refuse(f"no function of that name is offered: {call.name[:64]!r}")
            return
        yield Call(call.name, msgspec.json.encode(arguments).decode())

    def _refuse(self, why: str) -> None:
        message = f"the model's function call can't be read: {why}"
        self.problem = ModelError(message, code="invalid_tool_call")


def _beginning_of(mark: str, text: str) -> int:
    """How many of the last characters may be the beginning of a mark."""
    return next((n for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n])), 0)


def checked(tools: Sequence[Json], choice: ToolChoice, path: str) -> None:
    """Check what a client offers.

    Raises:
        ProtocolError: If a tool is no function with a name, or the choice is none of the known.
    """
    for index, tool in enumerate(tools):
        where = f"{path}.tools[{index}]"
        if tool.get("type") != "function":
            message = f"Only tools of type 'function' are supported, found {tool.get('type')!r}."
            raise ProtocolError(message[:300], code="invalid_value", param=f"{where}.type")
        if not isinstance(tool.get("name"), str) or not tool["name"]:
            message = "A function needs a name."
            code = "invalid_type" if tool.get("name") else "missing_required_parameter"
            raise ProtocolError(message, code=code, param=f"{where}.name")
        if plain_json(str(tool["name"])) != tool["name"]:
            message = "A function's name must not hold a special token of the model."
            raise ProtocolError(message, code="invalid_value", param=f"{where}.name")
    match choice:
        case "auto" | "none" | "required" | {"type": "function", "name": str()}:
            return
        case _:
            message = "Expected 'auto', 'none', 'required' or {'type': 'function', 'name': NAME}."
            raise ProtocolError(message, code="invalid_value", param=f"{path}.tool_choice")


def names(tools: Sequence[Json]) -> frozenset[str]:
    return frozenset(str(tool["name"]) for tool in tools)


def for_chat(tools: Sequence[Json]) -> list[Json]:
    """The functions as a chat request carries them."""
    known = ("name", "description", "parameters")
    offered = [
        {"type": "function", "function": {key: tool[key] for key in known if tool.get(key)}}
        for tool in tools
    ]
    text = msgspec.json.encode(offered).decode()
    return msgspec.json.decode(plain_json(text), type=list[Json])


def instructed(instructions: str, tools: Sequence[Json], choice: ToolChoice, style: Style) -> str:
    """Add to the instructions what the model has to know about the functions.

    Whether a function must be called is a wish in words: nothing forces the model.
    """
    parts = [instructions]
    if style == "prompt":
        listed = "\n".join(msgspec.json.encode(tool).decode() for tool in for_chat(tools))
        example = f'{MIMO.call_opening}{{"name": NAME, "arguments": OBJECT}}{MIMO.call_closing}'
        parts.append(
            f"You can call these functions:\n<tools>\n{listed}\n</tools>\n"
            f"To call one, answer with nothing but {example}."
        )
    match choice:
        case "required":
            parts.append("Answer with a function call.")
        case {"name": str(name)}:
            parts.append(f"Answer with a call of the function {plain(name)}.")
        case _:
            pass
    return "\n\n".join(part for part in parts if part)
