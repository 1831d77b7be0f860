"""Answers on their way to the ear, and which of their words got there."""

from dataclasses import dataclass, field

from agent.words import Mark, heard_text


@dataclass
class Answer:
    """What the agent says in one item, as far as it has come."""

    text: str = ""
    marks: list[Mark] = field(default_factory=list[Mark])
    received: int = 0
    """Samples of its sound."""
    complete: bool = False
    """Nothing more will come."""

    def add_text(self, text: str) -> None:
        self.marks.append((self.received, len(self.text)))
        self.text += text

    def words(self, heard: int) -> str:
        """The words in so many samples, as the server tells them too."""
        return heard_text(self.text, self.marks, self.received, heard).strip()
