"""The dbt project: running it, and what came from what."""
