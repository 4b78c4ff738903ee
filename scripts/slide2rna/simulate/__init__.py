"""Simulated cohorts: the law that generates expression, and slides that match it."""
