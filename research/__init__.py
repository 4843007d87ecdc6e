"""The tables of docs/results.md and what makes them; run from a checkout, not installed."""
