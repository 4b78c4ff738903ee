"""The subcommands of `slide2rna`: what people call by hand. Their first line is their help."""
