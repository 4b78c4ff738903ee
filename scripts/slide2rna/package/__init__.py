"""Packaged models: a run's fold models with the tables for new slides."""
