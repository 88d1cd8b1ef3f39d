"""Registered models, trackers of trainings, and registrations that are pending."""
