"""How much there may be: items, and sound in a turn, a clip, the buffer and what is remembered.

Those of sound depend on each other. A turn becomes one clip; the buffer holds the longest turn
while more sound arrives; and the newest turn is remembered whole, however long it is.
"""

CLIP_S = 600
"""What the model server takes in one clip."""

AROUND_TURN_S = 10
"""What a turn may hold beside its speech: padding, a word before the onset, a sound before that."""

TURN_S = CLIP_S - AROUND_TURN_S
"""Speech without a break ends a turn after this at the latest."""

APPEND_S = 330
"""Sound in one append at most: 15 MiB of PCM16 at 24 kHz."""

HANDS_FREE_BUFFER_S = CLIP_S + APPEND_S
"""Where turn detection ends turns: with room for this it can never be too full to hear."""

REMEMBERED_S = 300
"""Speech older than this, counted over the conversation, is remembered as text only."""

ITEMS = 1_000
"""In a conversation, where the oldest go when there are more, and in what one response reads; each
of them is looked at for every prompt."""
