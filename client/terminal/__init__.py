"""What a terminal shows of a conversation, and its keys."""
