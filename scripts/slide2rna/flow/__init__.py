"""Flow matching: probability path, solvers, and the RNA-FM velocity network."""
