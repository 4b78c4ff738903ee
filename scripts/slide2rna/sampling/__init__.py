"""Draws of expression profiles, their file, and their running summary."""
