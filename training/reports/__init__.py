"""A report on a run: figures, neighbours and confusions on one page."""
