"""Studies of a finished run: a room per study, and the ablations as a single module."""
