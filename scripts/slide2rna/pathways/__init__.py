"""Gene sets: sources, filtering, the overlap graph, and pathway activity scores."""
