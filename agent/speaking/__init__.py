"""From the model to the client: responses, their events and their sound."""
