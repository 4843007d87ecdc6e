"""Settings of the rows of docs/results.md that one would train with, by name."""

from .names import RECIPES as RECIPES
from .names import find_recipe as find_recipe
from .recipe import Recipe as Recipe

__all__ = ["RECIPES", "Recipe", "find_recipe"]
