"""Evaluation of a run: its tables, made from scores and uncertainty."""
