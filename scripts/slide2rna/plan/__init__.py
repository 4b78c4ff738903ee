"""Plan of a configuration, made while the Snakefile is parsed: runs, paths, inputs, parameters."""
