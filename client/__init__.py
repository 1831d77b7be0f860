"""Programs that talk with a conversation server."""
