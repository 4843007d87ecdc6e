"""Runs: training in a folder, from settings to figures."""
