"""Conversion to and from checkpoints of the published RNA-FM code."""
