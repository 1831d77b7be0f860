"""The embedded speech model: a demonstration of the model server's wire on two processor cores."""
