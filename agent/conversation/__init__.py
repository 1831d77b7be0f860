"""What was said: items, their text and sound, cut to what was heard."""
