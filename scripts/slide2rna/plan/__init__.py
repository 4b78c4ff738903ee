"""Planned runs of a cohort, listed while the Snakefile is parsed: no torch, no internet."""
