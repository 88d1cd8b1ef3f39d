"""The tuning of training parameters."""
