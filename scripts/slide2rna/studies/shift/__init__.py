"""Shift: distances of slides from the training slides, out-of-distribution tests, abstention."""
