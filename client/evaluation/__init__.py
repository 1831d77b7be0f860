"""A simulated caller that measures turn-taking, and traces replayed."""
