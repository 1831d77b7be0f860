"""A booth that runs unattended."""
