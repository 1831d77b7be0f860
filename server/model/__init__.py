"""The way to the model server and the recogniser."""
