"""Pathways: gene-set sources, filtering, the overlap graph, and activity scores."""
