"""The agent's side: what the model is asked, and what the client is sent of its replies.

The counterpart of `microphone`. One request runs, and one response is open, as the floor decides.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from agent.audio import seconds
from agent.commands import AskModel
from agent.conversation.calls import FunctionCall
from agent.conversation.conversation import Conversation
from agent.conversation.items import Item, Spoken, Written
from agent.errors import ModelError
from agent.floor.states import Reason
from agent.model import tools
from agent.model.mimo import MIMO, plain
from agent.model.output import (
    Call,
    ChatMessage,
    Ended,
    Failed,
    Output,
    Sound,
    Text,
    TextEnded,
    Usage,
)
from agent.realtime.config import SessionConfig
from agent.realtime.items import ResponseOptions
from agent.realtime.response_object import InputTokens, OutputTokens, ResponseUsage
from agent.realtime.server_events import ServerEvent
from agent.speaking.response import Response
from agent.speaking.stretch import Stretcher


@dataclass(frozen=True, slots=True)
class Size:
    """How much was read or said."""

    characters: int = 0
    sound_s: float = 0.0

    def counted(self, total: int | None) -> tuple[int, int]:
        """Tokens of text and of sound; `total` is the model server's own count, if known."""
        sound = math.ceil(self.sound_s * MIMO.groups_a_second)
        if total is not None:
            sound = min(sound, total)
            return total - sound, sound
        return math.ceil(self.characters / MIMO.characters_a_token), sound


def size_of(messages: Iterable[ChatMessage]) -> Size:
    characters, sound_s = 0, 0.0
    for message in messages:
        characters += len(message.text)
        sound_s += seconds(message.pcm)
    return Size(characters, sound_s)


def usage(read: Size, said: Size, counted: Usage | None) -> ResponseUsage:
    text_in, sound_in = read.counted(counted.prompt_tokens if counted else None)
    text_out, sound_out = said.counted(counted.completion_tokens if counted else None)
    return ResponseUsage(
        total_tokens=text_in + sound_in + text_out + sound_out,
        input_tokens=text_in + sound_in,
        output_tokens=text_out + sound_out,
        input_token_details=InputTokens(text_in, sound_in),
        output_token_details=OutputTokens(text_out, sound_out),
    )


class ReplyStream:
    """Follows one reply; one with a call in it ends with its text.

    Args:
        offered: Names of the functions that may be called; without any, text is only text.
        speed: How much faster than the model the client wants to hear it.
    """

    def __init__(self, offered: frozenset[str], speed: float):
        self._calls = tools.CallReader(offered) if offered else None
        self._stretcher = Stretcher(speed) if speed != 1.0 else None

    def outputs_of(self, output: Output) -> Iterator[Output | Call]:
        match output:
            case Text(text) if self._calls is not None:
                yield from self._read(self._calls.read_text(text))
            case Sound(pcm):
                yield from self._sound(pcm)
            case TextEnded(cut_short):
                # Sound is all that could still come, and that of a call is never said.
                if self._calls is not None and self._calls.calling:
                    yield from self._end(Ended(cut_short=cut_short))
            case Ended():
                yield from self._end(output)
            case _:
                yield output

    def _read(self, parts: Iterator[str | Call]) -> Iterator[Output | Call]:
        for part in parts:
            if isinstance(part, Call):
                yield from self._rest()
                yield part
            else:
                yield Text(part)

    def _sound(self, pcm: bytes) -> Iterator[Output]:
        if self._calls is not None and self._calls.calling:
            return
        if self._stretcher is not None:
            pcm = self._stretcher.stretch(pcm)
        if pcm:
            yield Sound(pcm)

    def _rest(self) -> Iterator[Output]:
        """What was held back of the sound, once."""
        stretcher, self._stretcher = self._stretcher, None
        if stretcher is not None and (pcm := stretcher.finish()):
            yield Sound(pcm)

    def _end(self, ended: Ended) -> Iterator[Output | Call]:
        problem = None
        if self._calls is not None:
            yield from self._read(self._calls.finish())
            problem = self._calls.problem
        yield from self._rest()
        yield Failed(problem) if problem else ended


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """A response that the client asked for."""

    options: ResponseOptions
    read: Conversation | None = None
    """What the model reads instead of the conversation."""


AS_CONFIGURED = ResponseRequest(ResponseOptions())

DEFAULT_VOICE = "default"
NO_VOICES: Mapping[str, bytes] = MappingProxyType({})


@dataclass(slots=True)
class _Request:
    """The request that runs, or ran last."""

    response_id: str
    read: Size
    reading: ReplyStream
    counted: Usage | None = None


class Speaker:
    """Speaks for one session."""

    def __init__(
        self,
        conversation: Conversation,
        style: tools.Style,
        voices: Mapping[str, bytes],
        new_id: Callable[[str], str],
    ):
        self._conversation = conversation
        self._style: tools.Style = style
        self._voices = voices
        self._new_id = new_id
        self._expected: tuple[str, ResponseRequest] = ("", AS_CONFIGURED)
        self._request = _Request("", Size(), ReplyStream(frozenset(), 1.0))
        self._response: Response | None = None
        self.has_spoken = False
        """Whether the client has had sound: the voice is settled then."""

    def expect(self, response_id: str, request: ResponseRequest) -> None:
        """Remember what the client asked for, until that response is opened."""
        self._expected = response_id, request

    def _request_of(self, response_id: str) -> ResponseRequest:
        return self._expected[1] if self._expected[0] == response_id else AS_CONFIGURED

    def request_reply(
        self, response_id: str, config: SessionConfig, pending: bytes, playing_until: float
    ) -> AskModel:
        """Make the request for a response.

        Args:
            pending: Speech that is no item yet.
            playing_until: Until then the listener still has something to hear.
        """
        request = self._request_of(response_id)
        options = request.options
        offered, choice = _offered(config, options)
        wish = config.instructions if options.instructions is None else options.instructions
        given = plain(wish)
        instructions = tools.instructed(given, offered, choice, self._style) if offered else given
        messages = (request.read or self._conversation).render(
            instructions, pending, self._voice(config, options)
        )
        most = options.max_output_tokens or config.max_output_tokens
        reading = ReplyStream(tools.names(offered), config.audio.output.speed)
        self._request = _Request(response_id, size_of(messages), reading)
        return AskModel(
            response_id,
            messages,
            (options.output_modalities or config.output_modalities)[0],
            None if most == "inf" else most,
            tuple(tools.for_chat(offered)) if offered and self._style == "request" else (),
            playing_until,
            config.truncation,
        )

    def _voice(self, config: SessionConfig, options: ResponseOptions) -> bytes:
        output = options.audio.output if options.audio else None
        wanted = (output.voice if output else None) or config.audio.output.voice
        name = wanted if isinstance(wanted, str) else DEFAULT_VOICE
        return self._voices.get(name, self._voices.get(DEFAULT_VOICE, b""))

    def read_output(self, response_id: str, output: Output) -> list[Output | Call]:
        """Make of what the model said what the floor is to know of it; late words are nothing."""
        request = self._request
        if request.response_id != response_id:
            return []
        if isinstance(output, Ended):
            request.counted = output.usage
        return [*request.reading.outputs_of(output)]

    def open_response(self, response_id: str, config: SessionConfig) -> list[ServerEvent]:
        request = self._request_of(response_id)
        aside = request.options.conversation == "none"
        conversation = Conversation(self._conversation.secret) if aside else self._conversation
        self._response = Response(response_id, config, request.options, conversation, self._new_id)
        return self._response.created()

    def deliver(self, output: Text | Sound | Call) -> list[ServerEvent]:
        self.has_spoken = self.has_spoken or isinstance(output, Sound)
        return self._open_response.deliver(output)

    def close_response(self, cause: Reason | ModelError | None) -> list[ServerEvent]:
        response = self._open_response
        cost = usage(self._request.read, _size_said(response), self._request.counted)
        closing = response.close(cause, cost)
        for entry in response.entries if cause else []:
            # Words that never sounded were not heard either.
            if isinstance(entry, Item) and entry.spoken and not entry.spoken.pcm:
                self._conversation.interrupt(entry.id, 0.0)
        return closing

    def speaks(self, item_id: str) -> str | None:
        """The response that an item belongs to, if it is the latest one."""
        response = self._response
        if response is None or all(entry.id != item_id for entry in response.entries):
            return None
        return response.id

    def cut(self, heard_s: float) -> None:
        """Remember of the response only what was heard."""
        for entry in self._open_response.entries:
            if isinstance(entry, Item):
                self._conversation.interrupt(entry.id, heard_s)

    @property
    def _open_response(self) -> Response:
        assert self._response is not None, "the floor opens a response before it speaks of it"
        return self._response


def _offered(
    config: SessionConfig, options: ResponseOptions
) -> tuple[list[tools.Json], tools.ToolChoice]:
    """The functions that this response may call, and how free it is in that."""
    offered = config.tools if options.tools is None else options.tools
    choice = options.tool_choice or config.tool_choice
    match choice:
        case "none":
            return [], choice
        case {"name": str(name)}:
            return [tool for tool in offered if tool["name"] == name] or offered, choice
        case _:
            return offered, choice


def _size_said(response: Response) -> Size:
    characters, sound_s = 0, 0.0
    for entry in response.made:
        match entry:
            case FunctionCall(call=call):
                characters += len(tools.call_text(call))
            case Item(parts=[Spoken(pcm=pcm, transcript=words)]):
                characters += len(words or "")
                sound_s += seconds(pcm)
            case Item(parts=[Written(text)]):
                characters += len(text)
            case _:
                pass
    return Size(characters, sound_s)
