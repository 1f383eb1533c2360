"""Recipes: versioned YAML files that say what a command does."""

from hatex.recipe.loader import load_recipe
from hatex.recipe.schema import Recipe, recipe_json_schema
from hatex.recipe.shipped import shipped_names, shipped_summaries

__all__ = ["Recipe", "load_recipe", "recipe_json_schema", "shipped_names", "shipped_summaries"]
