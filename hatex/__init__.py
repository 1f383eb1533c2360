"""hatex detects hate speech with a per-post blend of LoRA adapters, and explains its answer.

>>> import hatex
>>> engine = hatex.load("starter")
>>> engine.score(["What a goal!"])  # probabilities of neutral, offensive, hate
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatex.engine import Engine

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(
    recipe: str = "starter", *, registry: Path | str | None = None, overrides: Sequence[str] = ()
) -> Engine:
    """The engine of a recipe: a bare name that hatex ships, or a YAML file; see `hatex.engine.Engine`.

    `registry` is the folder of bases, adapters and routers (default: $HATEX_HOME, else your user data folder), and
    `overrides` are as the command line's `--set`. The first call fetches the base and the encoder.

    Raises:
        hatex.errors.RecipeError: the recipe has mistakes.
        hatex.errors.FetchError: a model could not be fetched.
        hatex.errors.RegistryError: an adapter or router is missing, or does not fit the base.
    """
    from hatex.engine import load_engine
    from hatex.recipe import load_recipe
    from hatex.registry import open_registry

    folder = Path(registry) if registry is not None else None
    return load_engine(load_recipe(recipe, overrides), open_registry(folder))
