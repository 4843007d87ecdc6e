"""Rows of tables that compare, rather than train what a user would use."""
