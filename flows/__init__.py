"""The flows, one in each file."""
