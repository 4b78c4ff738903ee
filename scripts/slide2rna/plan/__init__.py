"""The runs of a cohort, decided while the Snakefile is parsed: no torch, no network."""
