"""Cohorts: sample sheet, expression, GDC, her2st, splits, leak guard, and freeze."""
