"""A cohort: sample sheet, expression, GDC, her2st, splits, the leak guard, and the freeze."""
