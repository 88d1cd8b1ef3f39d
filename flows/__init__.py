"""The flows, one a file."""
