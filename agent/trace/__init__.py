"""A session's inputs written down, and run again."""
