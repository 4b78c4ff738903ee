"""Data of one fold: rows of each part, expression, statistics of the train part."""
