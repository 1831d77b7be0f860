"""A session's connection, and what outlives it."""
