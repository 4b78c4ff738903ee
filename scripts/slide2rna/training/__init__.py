"""Training of one network on one fold, from the ridge start to the best epoch."""
