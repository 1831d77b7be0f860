"""Who has the floor: states, events, actions, and the step from one to the next."""
