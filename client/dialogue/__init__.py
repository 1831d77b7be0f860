"""A conversation with a server: socket, events, playback."""
