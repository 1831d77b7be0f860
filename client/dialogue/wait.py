"""How long a jitter buffer holds sound back, so that later sound may be late.

Pure: samples that were due tell the time. `server/page/wait.js` has the same rules.
"""

from agent.audio import samples_in

LEAST_WAIT_SAMPLES = samples_in(100)
"""Less has gaps, more delays answers: a GPU's needed up to 83 ms (docs/performance.md)."""
MOST_WAIT_SAMPLES = samples_in(320)
"""Where the network is worse than this, gaps disturb less than later answers do."""
CALMER_SAMPLES = samples_in(3)
"""How much less is waited after each answer that played without a gap."""


class Wait:
    """How long: 100 ms at first, up to 320 ms.

    Sound waits until there is 1.75 times as much of it, as answers come faster than they play, and
    half a chunk more, which is the time until the next one; but not longer than that. The wait
    grows with each underrun by half of it, and shrinks by 3 ms with each item without one.
    """

    def __init__(self) -> None:
        self._samples = LEAST_WAIT_SAMPLES
        self._calm = True
        """No underrun so far in this item."""
        self.waited = 0
        """Samples that were due since there has been sound to play, but not enough."""
        self.dry = 0
        """Samples that were due since there has been none, though the item goes on."""

    def is_enough(self, buffered: int, newest: int, was_heard: bool) -> bool:
        """Whether so many samples may play now.

        Args:
            newest: Samples of the newest chunk among them.
            was_heard: The item has been heard already, and so is the gap: it ends soon.
        """
        wait = self._samples
        if was_heard:
            return buffered >= wait // 2
        return buffered >= (wait if self.waited >= wait else 7 * wait // 4 + newest // 2)

    def underrun(self) -> None:
        """The item that ran dry does go on."""
        self._samples = min(MOST_WAIT_SAMPLES, self._samples + self.dry // 2)
        self._calm = False

    def started(self) -> None:
        """Sound plays."""
        self.waited = self.dry = 0

    def completed(self) -> None:
        """All sound of the item has come."""
        if self._calm:
            self._samples = max(LEAST_WAIT_SAMPLES, self._samples - CALMER_SAMPLES)
        self._calm = True

    def flushed(self) -> None:
        """What was waited for was dropped."""
        self.started()
        self._calm = True
