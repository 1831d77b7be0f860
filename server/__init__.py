"""The conversation server and the embedded speech model: input and output, no decisions."""

import os

# The runtime of the voice activity detector and of the embedded voice reports its use to its
# maker, unless it is turned off before it is loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
