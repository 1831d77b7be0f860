"""How a kiosk behaves, as its server is told and tells the page or the program at the booth."""

from typing import Annotated

from msgspec import Meta, Struct


class KioskSettings(Struct, frozen=True):
    """Sent as JSON at `/page/kiosk.json`: nothing here is secret."""

    greeting: str = "Talk to me"
    starts_on_speech: bool = True
    idle_s: Annotated[float, Meta(ge=1, le=3_600)] = 30.0
    countdown_s: Annotated[float, Meta(ge=1, le=60)] = 10.0
    dead_s: Annotated[float, Meta(ge=1, le=600)] = 10.0
    self_test: bool = True
