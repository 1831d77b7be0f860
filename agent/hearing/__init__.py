"""Sound from the user, and what it means: turns, interruptions, echo."""
