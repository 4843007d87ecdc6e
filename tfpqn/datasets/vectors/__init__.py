"""Vectors of another model: arrays and files of them."""
