"""Labels, splits and groups of items from a table."""
