"""The recipes that hatex ships: `starter` on a command line means `recipes/starter.yaml` of this package."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Final

from hatex.errors import RecipeError

SHIPPED: Final = Path(__file__).parent.parent / "recipes"
SUFFIXES: Final = (".yaml", ".yml")


def shipped_names() -> list[str]:
    """Bare names of all shipped recipes, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def shipped_summaries() -> dict[str, str]:
    """What each shipped recipe is for, by name: the sentence that its file begins with."""
    return {
        name: (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        for name in shipped_names()
    }


def is_bare_name(name: str) -> bool:
    """Whether `name` names a shipped recipe rather than a file."""
    return "/" not in name and "\\" not in name and not name.endswith(SUFFIXES)


def find_recipe(name_or_path: str, folder: Path) -> Path:
    """The file of a recipe: a shipped one by bare name, else a path relative to `folder`.

    Raises RecipeError if there is none.
    """
    if not is_bare_name(name_or_path):
        path = folder / Path(name_or_path).expanduser()
        if path.is_file():
            return path
        raise RecipeError([f"there is no recipe file {name_or_path}"])
    path = SHIPPED / f"{name_or_path}.yaml"
    if path.is_file():
        return path
    names = shipped_names()
    close = get_close_matches(name_or_path, names, n=1)
    if any((folder / f"{name_or_path}{suffix}").is_file() for suffix in SUFFIXES):
        hint = f"a bare name means a shipped recipe; for the file write ./{name_or_path}.yaml"
    elif close:
        hint = f"did you mean {close[0]}?"
    else:
        hint = f"shipped recipes: {', '.join(names)}; a file needs its suffix (.yaml)"
    raise RecipeError([f"hatex ships no recipe {name_or_path!r}"], hint=hint)
