"""Search in the graph: knows tables and codes, and nothing else of the package."""
