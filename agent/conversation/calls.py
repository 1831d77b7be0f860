"""Function calls as items of the conversation: what the model asked for, and what came of it."""

from dataclasses import dataclass

from agent.model.output import Call
from agent.realtime.items import FunctionCallItem, FunctionCallOutputItem, Status


@dataclass(slots=True, eq=False)
class FunctionCall:
    """The model wants a function called by the client."""

    id: str
    call_id: str
    call: Call
    status: Status = "completed"

    def wire(self) -> FunctionCallItem:
        arguments = "" if self.status == "in_progress" else self.call.arguments
        return FunctionCallItem(
            id=self.id,
            status=self.status,
            name=self.call.name,
            call_id=self.call_id,
            arguments=arguments,
        )


@dataclass(slots=True, eq=False)
class FunctionResult:
    """What the function returned, as text."""

    id: str
    call_id: str
    output: str
    status: Status = "completed"

    def wire(self) -> FunctionCallOutputItem:
        return FunctionCallOutputItem(
            id=self.id, status=self.status, call_id=self.call_id, output=self.output
        )
