"""What the voice agent decides, without any input or output."""
