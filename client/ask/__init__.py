"""One question to a model server, without a conversation."""
