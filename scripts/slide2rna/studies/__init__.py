"""Studies of a finished run: shift, stain, ablations, samplers, leak audit, external cohorts."""
