"""Registered models, where trainings are recorded, and models that wait for a registry."""
