"""What the whole suite shares: the real base and encoder, fetched once per machine, and the starter's engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hatex.engine import Engine
    from hatex.registry import Registry


@pytest.fixture(scope="session", autouse=True)
def _no_loading_bars() -> None:
    """Transformers reads its environment once, on import: which test came first must not show on stderr."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


@pytest.fixture(scope="session")
def registry() -> Registry:
    """A registry that outlives the session (`HATEX_TEST_HOME`), so that the real base is fetched only once."""
    from hatex.registry import open_registry

    home = os.environ.get("HATEX_TEST_HOME")
    return open_registry(Path(home) if home else Path.home() / ".cache" / "hatex-tests")


@pytest.fixture(scope="session")
def starter_engine(registry: Registry) -> Engine:
    """The engine of the starter; skips where the package ships no starter weights."""
    from hatex.engine import load_engine
    from hatex.errors import IntegrityError, RegistryError
    from hatex.recipe import load_recipe

    recipe = load_recipe("starter")
    try:
        registry.find("router", recipe.router)
        for name in recipe.adapters:
            registry.find("adapter", name, base=recipe.base.name)
    except IntegrityError:
        raise  # damage is no absence
    except RegistryError as error:
        pytest.skip(f"no starter weights in the package: {error}")
    return load_engine(recipe, registry)
