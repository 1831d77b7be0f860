"""HTTP and the way in: what is at which address, and who may enter."""
