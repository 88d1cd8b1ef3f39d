"""Small reusable Prefect tasks: resolve a back end, call the work, publish an artifact, return a small result."""
