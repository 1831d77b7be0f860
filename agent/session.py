"""A session: client events, speech and model output in; server events and requests out.

It reads no clock and draws no chance: both are arguments, so that a replay decides the same.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from agent.audio import RATE
from agent.commands import CUT_OFF, AbortModel, Command, Send, Transcribe, goodbye, refuse
from agent.conversation.conversation import Conversation
from agent.conversation.edits import aside, check_size, edit
from agent.errors import ProtocolError
from agent.floor import states as floor, step as turn
from agent.hearing.buffer import DetectedFrame
from agent.hearing.echo_guard import EchoGuard
from agent.hearing.idle import Idle
from agent.hearing.microphone import Heard, Microphone, Surroundings
from agent.hearing.stop_words import halts
from agent.metrics import EarlyStarts, Stopwatch
from agent.model import tools
from agent.model.output import Ended, Failed, Output
from agent.policy import Policy
from agent.realtime import client_events as protocol, server_events as events
from agent.realtime.config import Extensions, SessionConfig
from agent.realtime.items import ResponseOptions
from agent.realtime.merge import check_voice, merged
from agent.realtime.resumption import Resumption
from agent.speaking.speaker import DEFAULT_VOICE, NO_VOICES, ResponseRequest, Speaker


class Session:
    """One client's session; its methods return what is to be done, in order.

    Args:
        expires_at: Time, on the clock of `now`, at which the session is ended.
        voices: Samples of those that clients may name, mono PCM16 at 24 kHz; others are "default".
    """

    def __init__(
        self,
        config: SessionConfig,
        policy: Policy,
        new_id: Callable[[str], str],
        expires_at: float = math.inf,
        voices: Mapping[str, bytes] = NO_VOICES,
    ):
        self._config = config
        self._policy = policy
        self._new_id = new_id
        self._expires_at = expires_at
        self.is_over = False
        """Whether it has expired and said so: nothing that comes now matters."""
        self.resumption = Resumption(new_id, policy.answered_by, sorted({DEFAULT_VOICE, *voices}))
        self.state: floor.State = floor.Listening()
        """Who has the floor."""
        self.microphone = Microphone(config.audio.input, policy, new_id)
        self._conversation = Conversation(new_id("secret"))
        self._speaker = Speaker(self._conversation, policy.tool_style, voices, new_id)
        self._heard_at = 0.0
        """When the microphone last sent a frame."""
        self._guard = EchoGuard()
        self._stopwatch = Stopwatch()
        self.early_starts = EarlyStarts()
        self.model_busy = False
        """Whether others wait for the model server: no reply is prepared in a pause then."""
        self._idle = Idle(config)

    def __str__(self) -> str:
        return f"{self._config.id} in {type(self.state).__name__}"

    @property
    def deadline(self) -> float | None:
        """When `pass_deadline` must be called; a session that is over has no deadline."""
        frames_due = self._heard_at + self._policy.patience.verdict
        floor_due = turn.deadline(self.state, frames_due) or math.inf
        due = math.inf if self.is_over else min(floor_due, self._idle.at, self._expires_at)
        return due if due < math.inf else None

    def held_bytes(self) -> int:
        return self.microphone.held_bytes + self._conversation.held_bytes

    def open(self) -> list[Command]:
        """The first words to a client."""
        return [Send(events.SessionCreated(session=self.resumption.shown(self._config)))]

    def resumed(self) -> events.SessionCreated:
        """Another connection goes on: its greeting, with a new token."""
        self.resumption.renew()
        return events.SessionCreated(session=self.resumption.shown(self._config))

    def append(self, event: protocol.InputAudioAppend) -> bytes:
        """Take sound from the microphone and return what has to be judged: whole samples.

        Raises:
            ProtocolError: If the buffer is full, or the frame is binary and wasn't asked for.
        """
        self.check_append(event)
        return self.microphone.append(event.audio)

    def check_append(self, event: protocol.InputAudioAppend) -> None:
        """Raise what `append` would; long sound is appended in parts, after this."""
        if isinstance(event, protocol.BinaryAppend) and not self._asked.binary_audio:
            message = "Send JSON text, or ask for binary frames with session.x_mimo.binary_audio."
            raise ProtocolError(message, code="invalid_event")
        self.microphone.check_room(event.audio)

    def judge_next_frame(self, probability: float, now: float) -> list[Command]:
        """Take the probability of speech in the next frame of the microphone."""
        self._heard_at = now
        frame = self.microphone.next_frame(probability)
        guards = self._policy.guards(self._asked)
        return self._judge_frames(self._guard.explain(frame, now) if guards else [frame], now)

    def _judge_frames(self, frames: Sequence[DetectedFrame], now: float) -> list[Command]:
        """The same, once it is known how much of each is the agent's own voice."""
        commands: list[Command] = []
        for frame in frames:
            agent_speaks = isinstance(self.state, floor.AgentSpeaking | floor.Overlap)
            around = Surroundings(agent_speaks, self._asked.duck)
            commands += self._apply_heard(self.microphone.judge_frame(frame, around), now)
        return commands

    def _apply_heard(self, heard: Sequence[Heard], now: float) -> list[Command]:
        """Take what the microphone noticed, in order."""
        commands: list[Command] = []
        for event, sent in heard:
            commands += [Send(sent)] if sent else []
            commands += self._step(event, now)
        return commands

    @property
    def _asked(self) -> Extensions:
        return self._config.x_mimo or Extensions()

    def from_model(self, response_id: str, output: Output, now: float) -> list[Command]:
        read = self._speaker.read_output(response_id, output)
        is_over = any(isinstance(each, Ended | Failed) for each in read)
        # A reply that is over before the model is: what it still makes is for nobody.
        is_early = is_over and not isinstance(output, Ended | Failed)
        commands: list[Command] = [AbortModel(response_id)] if is_early else []
        for each in read:
            commands += self._step(floor.FromModel(response_id, each), now)
        return commands

    def pass_deadline(self, now: float) -> list[Command]:
        due = self.deadline
        if due == self._expires_at:
            return self._expire(now)
        if due == self._idle.at:
            # Nobody has said anything for long: the silence is a turn, and is answered.
            self._idle.end_silence()
            return self._apply_heard(self.microphone.end_silence(), now)
        if isinstance(self.state, floor.UserSpeaking | floor.Hesitating):
            return self._apply_heard(self.microphone.give_up(now - self._heard_at), now)
        return self._step(floor.DeadlinePassed(), now)

    def _judge_all_put_off(self, now: float) -> list[Command]:
        """Have every frame judged that has come so far; what is in doubt was the agent."""
        return self._judge_frames(self._guard.release_put_off(), now)

    def _expire(self, now: float) -> list[Command]:
        self.is_over = True
        commands: list[Command] = []
        if isinstance(state := self.state, floor.Hesitating) and state.response_id:
            commands.append(AbortModel(state.response_id))
        while (running := turn.open_response(self.state)) is not None:
            commands.append(AbortModel(running))
            commands += self._step(floor.FromModel(running, CUT_OFF), now)
        return [*commands, *goodbye()]

    def transcribed(self, item_id: str, transcript: str, duration_s: float) -> list[Command]:
        """The user's words are known; the item may be gone by now."""
        self._conversation.set_transcript(item_id, transcript)
        return [*map(Send, events.transcribed(item_id, transcript, duration_s))]

    def overheard(self, item_id: str, words: str, now: float) -> list[Command]:
        """A sound that was passed over is read: a word that stops the agent is a turn after all."""
        passed = self.microphone.passed
        matters = isinstance(self.state, floor.AgentSpeaking) and halts(words)
        if passed is None or passed.item_id != item_id or not matters:
            return []
        return self._apply_heard(self.microphone.bring_back(passed), now)

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
                committed = self._apply_heard(self.microphone.commit(), now)
                return [*committed, *self._judge_all_put_off(now)]
            case protocol.InputAudioClear():
                self.microphone.clear()
                commands = [*self._step(floor.SpeechDropped(), now), *self._judge_all_put_off(now)]
                return [*commands, Send(events.Cleared())]
            case protocol.ResponseCreate(response=options):
                return self._create_response(options or ResponseOptions(), now)
            case protocol.ResponseCancel(response_id=response_id):
                return self._cancel(response_id, now)
            case protocol.OutputAudioClear():
                return []
            case protocol.Playout(item_id=item_id, audio_end_samples=samples):
                played = self._speaker.speaks(item_id)
                report = floor.PlayoutReported(played or "", samples / RATE)
                return self._step(report, now)
            case _:
                edited = edit(self._conversation, event, self._config.audio, self._new_id)
                return [*map(Send, edited)]

    def _update(self, config: SessionConfig, now: float) -> list[Command]:
        if self._speaker.has_spoken:
            check_voice(self._config, config)
        tools.checked(config.tools, config.tool_choice, "session")
        check_size(config, "session")
        commands = self._judge_all_put_off(now)
        dropped = self.microphone.configure(config.audio.input, self._policy)
        self._config = config
        self._idle.configure(config)
        commands += self._step(floor.SpeechDropped(), now) if dropped else []
        return [*commands, Send(events.SessionUpdated(session=self.resumption.shown(config)))]

    def _create_response(self, options: ResponseOptions, now: float) -> list[Command]:
        if running := turn.open_response(self.state):
            message = f"Conversation already has an active response in progress: {running}. Wait "
            message += "until the response is finished before creating a new one."
            raise ProtocolError(message, code="conversation_already_has_active_response")
        tools.checked(options.tools or [], options.tool_choice or "auto", "response")
        edits = (self._conversation, self._config.audio, self._new_id)
        read = None if options.input is None else aside(options.input, *edits)
        response_id = self._new_id("resp")
        self._speaker.expect(response_id, ResponseRequest(options, read))
        return self._step(floor.ReplyWanted(response_id), now)

    def _cancel(self, response_id: str | None, now: float) -> list[Command]:
        running = turn.open_response(self.state)
        if running is None or response_id not in (None, running):
            message = "Cancellation failed: no active response found"
            raise ProtocolError(message, code="response_cancel_not_active")
        return self._step(floor.CancelWanted(), now)

    def _step(self, event: floor.Event, now: float) -> list[Command]:
        before = self.state
        if isinstance(event, floor.SpeechPaused) and self.model_busy:
            event = floor.SpeechPaused(None, event.silence)
        self._stopwatch.note_event(event, now)
        self.state, actions = turn.step(before, event, now, self._policy.patience)
        self.early_starts.count(before, actions)
        for action in actions if self._policy.guards(self._asked) else ():
            if self._asked.duck or not isinstance(action, floor.Duck):
                self._guard.loudspeaker.apply_action(action, now)
        if self._idle.timeout_s is not None and self._idle.begins(before, self.state, now):
            self.microphone.begin_silence()
        commands: list[Command] = []
        for action in actions:
            marks = self._stopwatch.note_action(action, now)
            commands += [Send(marks)] if marks and self._asked.marks else []
            commands += self._perform(action)
        return commands

    def _perform(self, action: floor.Action) -> list[Command]:
        speaker = self._speaker
        match action:
            case floor.RequestReply(response_id, item_id):
                # Speech that is to be answered though it is no item yet.
                pending = self.microphone.utterance.pcm if item_id else b""
                until = turn.playing_until(self.state)
                return [speaker.request_reply(response_id, self._config, pending, until)]
            case floor.AbortReply(response_id):
                return [AbortModel(response_id)]
            case floor.CommitItem():
                return self._add_utterance()
            case floor.OpenResponse(response_id):
                return [*map(Send, speaker.open_response(response_id, self._config))]
            case floor.Deliver(output=output):
                return [*map(Send, speaker.deliver(output))]
            case floor.CloseResponse(cause=cause):
                return [*map(Send, speaker.close_response(cause))]
            case floor.CutItem(heard_s=heard_s):
                speaker.cut(heard_s)
                return []
            case _:
                return self.microphone.apply_outcome(action, self._asked.duck)

    def _add_utterance(self) -> list[Command]:
        """The user's turn becomes an item, and is transcribed if that was asked for."""
        said = self.microphone.utterance
        item = said.item()
        announced = events.turn_became_item(item.wire(), self._conversation.add(item))
        is_transcribed = self._config.audio.input.transcription is not None
        return [*map(Send, announced), *([Transcribe(item.id, said.pcm)] if is_transcribed else [])]
