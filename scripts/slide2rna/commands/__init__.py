"""Subcommands of `slide2rna`, for use by hand; the first line of each is its help."""
