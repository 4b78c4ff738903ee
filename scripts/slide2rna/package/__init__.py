"""Packaged models: a run's fold models with all that a new slide needs."""
