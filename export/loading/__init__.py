"""Ways to load a SavedModel, and the ops that it may hold."""
