"""The Realtime protocol: its nouns, its events, its sound formats."""
