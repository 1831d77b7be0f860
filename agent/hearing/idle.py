"""The user's silence: how long it may last before the agent speaks again of its own accord."""

import math

from agent.floor import states as floor
from agent.realtime.config import ServerVad, SessionConfig


class Idle:
    """Watches the floor; one silence is broken once only, until the user has spoken."""

    timeout_s: float | None

    def __init__(self, config: SessionConfig):
        self.at = math.inf
        """When the silence has lasted long enough."""
        self._spent = False
        self.configure(config)

    def configure(self, config: SessionConfig) -> None:
        detection = config.audio.input.turn_detection
        timeout_ms = detection.idle_timeout_ms if isinstance(detection, ServerVad) else None
        self.timeout_s = None if timeout_ms is None else timeout_ms / 1000
        if timeout_ms is None:
            self.at = math.inf

    def begins(self, before: floor.State, after: floor.State, now: float) -> bool:
        """Follow the floor; return whether a silence begins that may have to be broken."""
        if isinstance(after, floor.UserSpeaking):
            self._spent = False
        if not isinstance(after, floor.Listening):
            self.at = math.inf
            return False
        replied = isinstance(before, floor.Thinking | floor.AgentSpeaking)
        if not replied or self.timeout_s is None or self._spent:
            return False
        self.at = now + self.timeout_s
        return True

    def end_silence(self) -> None:
        """The silence has been broken."""
        self.at, self._spent = math.inf, True
