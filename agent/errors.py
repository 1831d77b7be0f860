"""The exceptions this project raises on purpose, in one tree."""


class AgentError(Exception):
    """Anything that went wrong in a way that this project foresaw."""


class AudioError(AgentError):
    """Sound that can't be read: not a WAV file, cut short, or in a form that is not supported."""


class SettingsError(AgentError):
    """A configuration that can't be used: names the key, what was found and what is allowed."""


class ModelError(AgentError):
    """The model server refused, failed, or fell silent.

    Attributes:
        code: Machine-readable reason, for example `"model_unreachable"` or `"model_timeout"`.
    """

    def __init__(self, message: str, *, code: str = "model_error"):
        super().__init__(message)
        self.code = code


class ProtocolError(AgentError):
    """The peer broke the wire protocol; reported to it as an `error` event.

    Attributes:
        code: Machine-readable reason, for example `"unknown_parameter"`.
        param: Path of the field that was wrong, for example `"session.audio.input"`.
        event_id: The peer's own id of its event, if it gave one.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        param: str | None = None,
        event_id: str | None = None,
    ):
        super().__init__(message)
        self.code = code
        self.param = param
        self.event_id = event_id


class InvalidTransitionError(AgentError):
    """The turn machine met an event that its state can't have: a bug of ours."""
