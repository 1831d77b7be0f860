"""One reply on its way from the model to the floor: calls taken out, its speed changed."""

from collections.abc import Iterator

from agent.model.mimo import Ended, Failed, Output, Sound, Text, TextEnded
from agent.model.tools import Call, CallReader
from agent.speaking.stretch import Stretcher


class Reading:
    """Follows one reply; one with a call in it ends with its text.

    Args:
        offered: Names of the functions that may be called; without any, text is only text.
        speed: How much faster than the model the client wants to hear it.
    """

    def __init__(self, offered: frozenset[str], speed: float):
        self._calls = CallReader(offered) if offered else None
        self._stretcher = Stretcher(speed) if speed != 1.0 else None

    def push(self, output: Output) -> Iterator[Output | Call]:
        match output:
            case Text(text) if self._calls is not None:
                yield from self._read(self._calls.push(text))
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
            pcm = self._stretcher.push(pcm)
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
