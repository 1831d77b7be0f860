"""Words that stop the agent though they are as short as a backchannel.

"Stop" and "yeah" can't be told apart by their sound, so a sound that was passed over is read by
the recogniser, where there is one at hand, and may take the floor after all.
"""

import re

LONGEST_S = 1.5
"""What is longer is judged by its sound alone."""

# In the two languages of MiMo-Audio; the small recogniser knows both.
_WORDS = frozenset(
    {"stop", "wait", "no", "halt", "enough", "pause", "quiet", "silence", "cancel"}
    | {"停", "停下", "停止", "等等", "等一下", "不", "不要", "别说了", "闭嘴"}
)
_PHRASES = frozenset(
    {"hold on", "hang on", "shut up", "be quiet", "stop it", "stop talking", "one moment"}
)
_WORD = re.compile(r"[^\W\d_]+")


def halts(transcript: str) -> bool:
    """Whether nothing was said but that the agent is to stop, however often."""
    words = _WORD.findall(transcript.lower())
    return " ".join(words) in _PHRASES or (bool(words) and _WORDS.issuperset(words))
