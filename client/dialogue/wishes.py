"""What is asked of each session: of the one that begins, and of those that follow it."""

from collections.abc import Iterator


class Wishes:
    """Our extensions among them, as far as the server knows them."""

    def __init__(self) -> None:
        self.session: dict[str, object] = {}
        self.extensions: list[str] = []
        self.audio: dict[str, dict[str, object]] = {}
        """What was changed of the sound since, by its direction; a lost session may forget it."""

    def updates(self) -> Iterator[dict[str, object]]:
        """What to send as `session.update`."""
        asked = dict.fromkeys(self.extensions, True)
        yield self.session | ({"x_mimo": asked} if asked else {})
        # Each by itself: one that the server refuses takes no other with it.
        for direction, audio in self.audio.items():
            yield {"audio": {direction: audio}}

    def drop(self, parameter: str) -> bool:
        """Take back what the server doesn't know; return whether to ask again for the rest."""
        if not self.extensions or not parameter.startswith("session.x_mimo"):
            return False
        asked, unknown = self.extensions, parameter.rpartition(".")[2]
        self.extensions = [each for each in asked if each != unknown] if unknown in asked else []
        return True
