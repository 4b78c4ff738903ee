"""Shared foundations of all rooms: errors, files, seeds, logging, configuration, types."""
