"""Evaluation of a run: its tables, computed from the rooms above."""
