"""Studies of a finished run, a room for each; ablations, a single module, stand here."""
