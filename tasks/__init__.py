"""Small reusable Prefect tasks: connect to a back end, call `boat`, publish an artifact, return a small result."""
