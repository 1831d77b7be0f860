"""The conversation server and the embedded speech model: input and output, no decisions."""
