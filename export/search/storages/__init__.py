"""Ways in which a collection's codes lie in the graph."""
