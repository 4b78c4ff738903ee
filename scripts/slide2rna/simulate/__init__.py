"""Simulated cohorts: the law that generates expression, and the slides that show it."""
