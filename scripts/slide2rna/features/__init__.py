"""Features: tile encoders, h5 files, and a slide's tiles as a bag of clusters."""
