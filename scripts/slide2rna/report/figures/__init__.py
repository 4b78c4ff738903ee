"""Report figures: Vega-Lite charts for page and files, and matplotlib files."""
