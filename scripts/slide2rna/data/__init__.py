"""Fold data: rows of each part, expression, and statistics of the train part."""
