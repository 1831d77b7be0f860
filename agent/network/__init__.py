"""How connections leave this machine: directly, or through a proxy that a variable names."""
