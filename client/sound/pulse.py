"""Whether a device still calls."""

SILENT_DEVICE_S = 2.5
"""A device that has not called for so long went away; after an underrun, PulseAudio's may need
1.9 s to go on by itself."""

STARTING_S = 5.0
"""Devices may take as long until they call for the first time."""

STALL_S = 0.5
"""A pause of this program that says nothing about devices."""


class CallbackWatch:
    """Of one device; times are those of any clock, in seconds."""

    def __init__(self, began: float):
        self._began = self._looked = began
        self._calls = 0
        self.seen = began
        """When it called last."""

    def has_ended(self, now: float, calls: int) -> bool:
        """Look at how often a device has called, at short intervals."""
        stalled, self._looked = now - self._looked > STALL_S, now
        if calls != self._calls or stalled:
            self._calls, self.seen = calls, now
        return now - self.seen > (SILENT_DEVICE_S if now - self._began > STARTING_S else STARTING_S)
