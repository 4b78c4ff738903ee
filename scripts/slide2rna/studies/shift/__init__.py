"""Shift: how far a slide lies from the training slides, and abstention."""
