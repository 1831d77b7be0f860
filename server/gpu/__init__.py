"""The model server on a GPU: checked and started."""
