"""Conversion from and to checkpoints of the published RNA-FM code."""
