"""The user's side: sound from the microphone becomes utterances, by turn detection or by hand.

It says what happened to the floor, and what the client is told about it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent import endpointing, events, floor
from agent.audio import milliseconds, samples_in
from agent.codec import Decoder
from agent.conversation import Item, Spoken
from agent.endpointing import EndOfTurn, Endpointer, Limits, Onset, Pause, Resumption
from agent.errors import ProtocolError
from agent.events import ServerEvent
from agent.input_audio import InputAudio
from agent.objects import AudioFormat, PcmFormat, SemanticVad, ServerVad, TurnDetection

SHORTEST_COMMIT_MS = 100
PCM = PcmFormat()
_ONSET_MS = 128
_SEMANTIC_SILENCE_MS = {"low": 1_000, "medium": 600, "auto": 600, "high": 400}


@dataclass(frozen=True, slots=True)
class Utterance:
    """What the user said in one turn: mono PCM16 at 24 kHz, prefix padding included."""

    item_id: str
    pcm: bytes

    def item(self) -> Item:
        return Item(self.item_id, "user", [Spoken(bytearray(self.pcm))])


def _limits(detection: TurnDetection, early_start_ms: int, longest_ms: int) -> Limits:
    match detection:
        case ServerVad():
            silence_ms, padding_ms = detection.silence_duration_ms, detection.prefix_padding_ms
            threshold = detection.threshold
        case SemanticVad():
            silence_ms, padding_ms = _SEMANTIC_SILENCE_MS[detection.eagerness], 300
            threshold = 0.5
    early = early_start_ms if early_start_ms and detection.create_response else silence_ms
    return endpointing.limits(threshold, padding_ms, early, silence_ms, longest_ms)


Heard = tuple[floor.Event, ServerEvent | None]
"""What happened to the floor, and what the client is told first."""


class Microphone:
    """One microphone; its time is the count of samples received."""

    def __init__(
        self,
        detection: TurnDetection | None,
        early_start_ms: int,
        longest_ms: int,
        format: AudioFormat = PCM,
    ):
        self._early_start_ms = early_start_ms
        self._longest_ms = longest_ms
        self._format = format
        self._decoder = Decoder(format)
        self._buffer = InputAudio()
        self._endpointer = Endpointer()
        self._item_id = ""
        self._start = 0
        self._pause: int | None = None
        self._silence: int | None = None
        self._set(detection)
        self.utterance: Utterance | None = None
        """The utterance up to the latest pause or end."""

    def _set(self, detection: TurnDetection | None) -> None:
        self._detection = detection
        self._limits = (
            _limits(detection, self._early_start_ms, self._longest_ms) if detection else None
        )

    @property
    def detects_turns(self) -> bool:
        return self._detection is not None

    def configure(self, detection: TurnDetection | None, format: AudioFormat = PCM) -> bool:
        """Change turn detection and format; return whether an open utterance was dropped."""
        if format != self._format:
            self._format, self._decoder = format, Decoder(format)
        switched = (detection is None) != (self._detection is None)
        dropped = switched and self._endpointer.speaking
        if switched:
            self._endpointer = Endpointer(self._buffer.received)
        self._set(detection)
        return dropped

    def append(self, data: bytes) -> bytes:
        """Take bytes of any length; return what turn detection has to judge: samples at 24 kHz."""
        samples = self._buffer.append(self._decoder.push(data))
        return samples if self.detects_turns else b""

    def clear(self) -> None:
        """Forget what no turn has taken."""
        self._decoder.realign()
        self._endpointer.reset()
        self._buffer.drop_before(self._buffer.received)

    def push(self, probability: float, new_id: Callable[[str], str]) -> Iterator[Heard]:
        """Take the probability of speech in the next 32 ms."""
        detection, limits = self._detection, self._limits
        if detection is None or limits is None:
            return
        match self._endpointer.push(probability, limits):
            case Onset(start):
                self._item_id, self._start, self._pause = new_id("item"), start, None
                self._silence = None
                told = events.SpeechStarted(
                    audio_start_ms=milliseconds(start), item_id=self._item_id
                )
                yield floor.SpeechStarted(self._item_id, detection.interrupt_response), told
            case Pause(end):
                self._pause = end
                self.utterance = self._cut(end)
                yield floor.SpeechPaused(new_id("resp")), None
            case Resumption():
                self._pause = None
                yield floor.SpeechResumed(), None
            case EndOfTurn(end):
                # The silence between pause and verdict says nothing: the model need not hear it.
                self.utterance = self._cut(self._pause or end)
                answer = new_id("resp") if detection.create_response else None
                yield floor.TurnEnded(self._item_id, answer), self._stopped(end)
            case None:
                pass
        if not self._endpointer.speaking:
            self._keep_padding(limits)

    def commit(self, new_id: Callable[[str], str]) -> tuple[Utterance, list[ServerEvent]]:
        """End the turn by hand; return it and what the client is told before.

        Raises:
            ProtocolError: If there is too little to commit.
        """
        if not self.detects_turns:
            self._buffer.append(self._decoder.finish())
        end, stopped = self._buffer.received, list[ServerEvent]()
        start, item_id = 0, new_id("item")
        if self.detects_turns:
            start = self._start if self._endpointer.speaking else end
            item_id = self._item_id if self._endpointer.speaking else item_id
            stopped = [self._stopped(end)]
        utterance = Utterance(item_id, self._buffer.cut(start, end))
        if len(utterance.pcm) < samples_in(SHORTEST_COMMIT_MS) * 2:
            message = "Error committing input audio buffer: buffer too small. Expected at least "
            message += f"{SHORTEST_COMMIT_MS} ms of audio."
            raise ProtocolError(message, code="input_audio_buffer_commit_empty")
        self.clear()
        self.utterance = None
        return utterance, stopped

    def begin_silence(self) -> None:
        """The agent has finished: what is heard from now on may become a turn without speech."""
        self._silence = self._buffer.received

    def take_silence(
        self, new_id: Callable[[str], str]
    ) -> tuple[Utterance, events.TimeoutTriggered] | None:
        """Take what was heard since then as a turn; nothing if no sound came at all."""
        end, item_id = self._buffer.received, new_id("item")
        start = end if self._silence is None else self._silence
        self._silence = self.utterance = None
        pcm = self._buffer.cut(start, end)
        if not pcm:
            return None
        told = events.TimeoutTriggered(
            audio_start_ms=milliseconds(start), audio_end_ms=milliseconds(end), item_id=item_id
        )
        return Utterance(item_id, pcm), told

    def give_up(self) -> list[ServerEvent]:
        """The microphone sends nothing any more: what was said is the turn."""
        self.clear()
        return [self._stopped(self._buffer.received)]

    def _cut(self, end: int) -> Utterance:
        return Utterance(self._item_id, self._buffer.cut(self._start, end))

    def _stopped(self, end: int) -> ServerEvent:
        return events.SpeechStopped(audio_end_ms=milliseconds(end), item_id=self._item_id)

    def _keep_padding(self, limits: Limits) -> None:
        kept = limits.prefix_padding + samples_in(_ONSET_MS)
        first = self._endpointer.now - kept
        self._buffer.drop_before(first if self._silence is None else min(first, self._silence))
