"""A run's model in service: answers over HTTP."""
