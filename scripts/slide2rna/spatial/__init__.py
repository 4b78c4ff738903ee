"""Expression per spot: targets, panel, neighbour graph, structure of maps, spatial draws."""
