"""Slides: download, reading, tissue masks, tiles, and failed slides."""
