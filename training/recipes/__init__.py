"""The rows of the tables in docs/results.md, as settings that anyone can run again."""

from .recipe import Recipe as Recipe
from .recipe import Table as Table
from .tables import find_recipe as find_recipe
from .tables import find_table as find_table
from .tables import table_names as table_names

__all__ = ["Recipe", "Table", "find_recipe", "find_table", "table_names"]
