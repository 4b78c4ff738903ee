"""Expression maps over a slide: windows, predictions, pictures, GeoJSON."""
