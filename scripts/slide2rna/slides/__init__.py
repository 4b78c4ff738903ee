"""Slides: download, reading, tissue masks, tiles, and the slides that failed."""
