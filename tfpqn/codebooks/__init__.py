"""Fitting codebooks from outside: k-means at the start, revival, settling."""
