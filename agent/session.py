"""A session: client events, speech and model output in; server events and requests out.

It composes endpointing, the floor, the conversation and the open response. It reads no clock and
draws no chance: both come in as arguments, so a recorded session replays to the same decisions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from msgspec import UNSET

from agent import events, floor, protocol, turn
from agent.commands import AbortModel, AskModel, Command, Send, Transcribe
from agent.conversation import Conversation, item_from
from agent.errors import ProtocolError
from agent.events import ErrorDetail, ServerEvent
from agent.input_audio import decode_base64
from agent.merge import merged
from agent.microphone import Microphone, Utterance
from agent.mimo import Output
from agent.objects import InputAudio, OutputAudio, ResponseOptions, SessionConfig
from agent.response import Response

LONGEST_QUOTE = 1_000
"""Characters of an error's message: some clients take no frame over 1 MiB."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What the operator decides about turn-taking."""

    patience: turn.Patience
    early_start_ms: int
    """Silence after which a reply is prepared, unheard; 0 never."""
    longest_turn_ms: int


DEFAULT_VOICE = "default"
NO_VOICES: Mapping[str, bytes] = MappingProxyType({})


class Session:
    """One client's session; its methods return what is to be done, in order.

    Args:
        voices: Samples of the voices that clients may name, mono PCM16 at 24 kHz; a name that
            isn't there means the one called "default", or the model's own.
    """

    def __init__(
        self,
        config: SessionConfig,
        timing: Timing,
        new_id: Callable[[str], str],
        voices: Mapping[str, bytes] = NO_VOICES,
    ):
        self._config = config
        self._voices = voices
        self._timing = timing
        self._new_id = new_id
        self._floor: floor.State = floor.Listening()
        self._microphone = Microphone(
            config.audio.input.turn_detection, timing.early_start_ms, timing.longest_turn_ms
        )
        self._conversation = Conversation(new_id("secret"))
        self._utterance = Utterance("", b"")
        self._options: dict[str, ResponseOptions] = {}
        self._response: Response | None = None

    @property
    def deadline(self) -> float | None:
        """When `pass_deadline` must be called."""
        return turn.deadline(self._floor)

    def open(self) -> list[Command]:
        """The first words to a client."""
        return [Send(events.SessionCreated(session=self._config))]

    def append(self, event: protocol.InputAudioAppend) -> bytes:
        """Take sound from the microphone and return what has to be judged by `hear`.

        Raises:
            ProtocolError: If it isn't base64 or the buffer is full.
        """
        return self._microphone.append(decode_base64(event.audio, "audio"))

    def hear(self, probability: float, now: float) -> list[Command]:
        """Take the probability of speech in the next frame of the microphone."""
        commands: list[Command] = []
        for heard, event in self._microphone.push(probability, self._new_id):
            commands += [Send(event)] if event else []
            commands += self._step(heard, now)
        return commands

    def from_model(self, response_id: str, output: Output, now: float) -> list[Command]:
        return self._step(floor.FromModel(response_id, output), now)

    def pass_deadline(self, now: float) -> list[Command]:
        stopped = self._microphone.give_up() if isinstance(self._floor, floor.Hesitating) else []
        return [*map(Send, stopped), *self._step(floor.DeadlinePassed(), now)]

    def transcribed(self, item_id: str, transcript: str, duration_s: float) -> list[Command]:
        """The user's words are known; the item may be gone by now."""
        self._conversation.set_transcript(item_id, transcript)
        return [
            Send(
                events.TranscriptionCompleted(
                    item_id=item_id,
                    content_index=0,
                    transcript=transcript,
                    usage={"type": "duration", "seconds": round(duration_s, 3)},
                )
            )
        ]

    def receive(self, event: protocol.AnyClientEvent, now: float) -> list[Command]:
        """Take any event of the client but sound; what is wrong with it is answered."""
        try:
            return self._receive(event, now)
        except ProtocolError as error:
            return [refuse(error, event.event_id)]

    def _receive(self, event: protocol.AnyClientEvent, now: float) -> list[Command]:
        match event:
            case protocol.SessionUpdate(session=patch):
                return self._update(merged(self._config, patch), now)
            case protocol.InputAudioAppend():
                self.append(event)
                return []
            case protocol.InputAudioCommit():
                return self._commit(now)
            case protocol.InputAudioClear():
                self._microphone.clear()
                return [*self._step(floor.SpeechDropped(), now), Send(events.Cleared())]
            case protocol.ResponseCreate(response=options):
                return self._create_response(options, now)
            case protocol.ResponseCancel(response_id=response_id):
                return self._cancel(response_id, now)
            case protocol.OutputAudioClear():
                return []
            case _:
                return [Send(answer) for answer in self._edit(event)]

    def _update(self, config: SessionConfig, now: float) -> list[Command]:
        dropped = self._microphone.configure(config.audio.input.turn_detection)
        self._config = config
        commands = self._step(floor.SpeechDropped(), now) if dropped else []
        return [*commands, Send(events.SessionUpdated(session=config))]

    def _commit(self, now: float) -> list[Command]:
        utterance, stopped = self._microphone.commit(self._new_id)
        self._utterance = utterance
        ended = floor.TurnEnded(utterance.item_id, None)
        return [*map(Send, stopped), *self._step(ended, now)]

    def _create_response(self, options: ResponseOptions, now: float) -> list[Command]:
        running = turn.open_response(self._floor)
        if running is not None:
            raise ProtocolError(
                f"Conversation already has an active response in progress: {running}. "
                "Wait until the response is finished before creating a new one.",
                code="conversation_already_has_active_response",
            )
        response_id = self._new_id("resp")
        self._options = {response_id: options}
        return self._step(floor.ReplyWanted(response_id), now)

    def _cancel(self, response_id: str | None, now: float) -> list[Command]:
        running = turn.open_response(self._floor)
        if running is None or response_id not in (None, running):
            message = "Cancellation failed: no active response found"
            raise ProtocolError(message, code="response_cancel_not_active")
        return self._step(floor.CancelWanted(), now)

    def _edit(
        self,
        event: protocol.ItemCreate
        | protocol.ItemRetrieve
        | protocol.ItemTruncate
        | protocol.ItemDelete,
    ) -> list[ServerEvent]:
        """Change or read the conversation, as the client asks."""
        conversation = self._conversation
        match event:
            case protocol.ItemCreate(item=wire, previous_item_id=after):
                sounds = {
                    index: decode_base64(part.audio, f"item.content[{index}].audio")
                    for index, part in enumerate(wire.content)
                    if isinstance(part, InputAudio | OutputAudio) and part.audio is not UNSET
                }
                item = item_from(wire, self._new_id("item"), sounds)
                previous = conversation.add(item, after)
                added = events.ItemAdded(previous_item_id=previous, item=item.wire())
                return [added, events.ItemDone(previous_item_id=previous, item=item.wire())]
            case protocol.ItemRetrieve(item_id=item_id):
                item = conversation.find(item_id, "item_retrieve_invalid_item_id")
                return [events.ItemRetrieved(item=item.wire())]
            case protocol.ItemTruncate(item_id=item_id, audio_end_ms=end_ms):
                kept = conversation.truncate(item_id, end_ms)
                return [events.ItemTruncated(item_id=item_id, content_index=0, audio_end_ms=kept)]
            case protocol.ItemDelete(item_id=item_id):
                conversation.delete(item_id)
                return [events.ItemDeleted(item_id=item_id)]

    def _step(self, event: floor.Event, now: float) -> list[Command]:
        if isinstance(event, floor.SpeechPaused | floor.TurnEnded) and self._microphone.utterance:
            self._utterance = self._microphone.utterance
        if isinstance(event, floor.SpeechPaused) and not isinstance(
            self._floor, floor.UserSpeaking
        ):
            return []
        self._floor, actions = turn.step(self._floor, event, now, self._timing.patience)
        return [command for action in actions for command in self._perform(action)]

    def _perform(self, action: floor.Action) -> list[Command]:
        match action:
            case floor.RequestReply(response_id, item_id):
                return [self._ask(response_id, self._utterance.pcm if item_id else b"")]
            case floor.AbortReply(response_id):
                return [AbortModel(response_id)]
            case floor.CommitItem():
                return self._add_utterance()
            case floor.OpenResponse(response_id):
                options = self._options.pop(response_id, ResponseOptions())
                self._response = Response(response_id, self._new_id("item"), self._config, options)
                return [*map(Send, self._response.created())]
            case floor.Deliver() | floor.CloseResponse() | floor.CutItem():
                return [*map(Send, self._follow(action))]

    def _follow(
        self, action: floor.Deliver | floor.CloseResponse | floor.CutItem
    ) -> list[ServerEvent]:
        response = self._response
        assert response is not None, "the floor opens a response before it speaks of it"
        match action:
            case floor.Deliver(output=output):
                return response.deliver(output, self._conversation)
            case floor.CloseResponse(cause=cause):
                return response.close(cause, self._conversation)
            case floor.CutItem(heard_s=heard_s):
                self._conversation.interrupt(response.item_id, heard_s)
                return []

    def _ask(self, response_id: str, pending: bytes) -> AskModel:
        options = self._options.get(response_id) or ResponseOptions()
        if self._response is not None and self._response.id == response_id:
            options = self._response.options
        most = options.max_output_tokens or self._config.max_output_tokens
        instructions = options.instructions or self._config.instructions
        return AskModel(
            response_id,
            self._conversation.render(instructions, pending, self._voice()),
            (options.output_modalities or self._config.output_modalities)[0],
            None if most == "inf" else most,
            turn.playing_until(self._floor),
        )

    def _voice(self) -> bytes:
        wanted = self._config.audio.output.voice
        name = wanted if isinstance(wanted, str) else DEFAULT_VOICE
        return self._voices.get(name, self._voices.get(DEFAULT_VOICE, b""))

    def _add_utterance(self) -> list[Command]:
        """The user's turn becomes an item: it is told, and written down if that was asked for."""
        utterance = self._utterance
        item = utterance.item()
        previous = self._conversation.add(item)
        commands: list[Command] = [
            Send(events.Committed(previous_item_id=previous, item_id=item.id)),
            Send(events.ItemAdded(previous_item_id=previous, item=item.wire())),
            Send(events.ItemDone(previous_item_id=previous, item=item.wire())),
        ]
        if self._config.audio.input.transcription is not None:
            commands.append(Transcribe(item.id, utterance.pcm))
        return commands


def refuse(error: ProtocolError, event_id: str | None = None) -> Send:
    """Answer an event that broke the protocol, however much of it the error quotes."""
    message, param = str(error)[:LONGEST_QUOTE], (error.param or "")[:LONGEST_QUOTE] or None
    detail = ErrorDetail(message, code=error.code, param=param, event_id=error.event_id or event_id)
    return Send(events.Error(error=detail))
