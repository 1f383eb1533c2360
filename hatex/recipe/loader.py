"""Loads a recipe: find the file, follow `extends`, lay `--set` over it, fill variables, validate.

Every mistake is reported at once, each at the file, line and column (or option) that it came from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import to_json

from hatex.errors import RecipeError
from hatex.recipe.document import Node, Place, Problem, dotted, merge, parse_document, takes_away
from hatex.recipe.problems import describe_errors
from hatex.recipe.schema import VERB_SECTIONS, Recipe
from hatex.recipe.shipped import find_recipe, is_bare_name
from hatex.recipe.variables import Expansion, expand

EXTENDS: Final = "extends"


def load_recipe(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    environ: Mapping[str, str] | None = None,
) -> Recipe:
    """The recipe of a bare name (one that hatex ships) or a file, with `overrides` such as `train.lr=1e-4`.

    Variables come from `environ`, by default this process's. Raises RecipeError with every problem found; a
    variable that is unset raises only when the section that needs it is asked for (see `Recipe.require`).
    """
    reading = _Reading()
    path = find_recipe(name_or_path, Path())
    tree = reading.read(path, ())
    for override in overrides:
        tree = reading.override(tree, override)
    if reading.is_hopeless:
        raise _recipe_error(reading.problems)
    expansion = expand(tree, os.environ if environ is None else environ)
    _anchor_prompt(expansion)
    return _validate(expansion, _shown_path(path), [*reading.problems, *expansion.problems])


def _validate(expansion: Expansion, origin: str, problems: list[Problem]) -> Recipe:
    try:
        # JSON's rules in strict mode: lists become tuples and 1 a float, but "5" is no number, 0 no boolean.
        recipe = Recipe.model_validate_json(
            to_json(expansion.tree.plain(), inf_nan_mode="constants"), strict=True
        )
    except ValidationError as error:
        unset = {each.path for each in expansion.unset}
        complaints = [each for each in error.errors(include_url=False) if each["loc"] not in unset]
        problems = [*problems, *describe_errors(Recipe, expansion.tree, complaints)]
        needed = [each.problem for each in expansion.unset if each.path[0] not in VERB_SECTIONS]
        raise _recipe_error([*problems, *needed]) from None
    if problems:
        raise _recipe_error(problems)
    recipe.remember(origin, expansion.tree, expansion.written, expansion.unset)
    return recipe


def _anchor_prompt(expansion: Expansion) -> None:
    """A prompt template given as a path lies beside the recipe that names it, wherever hatex is started."""
    node = expansion.tree.child("prompt")
    if (
        node is None
        or not isinstance(node.value, str)
        or is_bare_name(node.value)
        or not isinstance(expansion.tree.value, dict)
    ):
        return
    expansion.written.setdefault(("prompt",), node.value)
    path = node.place.folder / Path(node.value).expanduser()
    items = {**expansion.tree.value, "prompt": replace(node, value=str(path))}
    expansion.tree = replace(expansion.tree, value=items)


@dataclass
class _Reading:
    """Problems in the files so far; `is_hopeless` once a file told nothing and the rest would mislead."""

    problems: list[Problem] = field(default_factory=list)
    is_hopeless: bool = False

    def read(self, path: Path, children: tuple[Path, ...]) -> Node:
        """The tree of a file over the recipe that it extends."""
        start = Place(_shown_path(path), 1, 1, path.resolve().parent)
        try:
            tree, problems = parse_document(path.read_bytes().decode("utf-8-sig"), start)
        except UnicodeDecodeError as error:
            tree, problems = Node(None, start), [Problem(start, f"is not UTF-8 text (byte {error.start})")]
        except OSError as error:
            tree, problems = Node(None, start), [Problem(start, f"cannot be read: {error.strerror}")]
        self.problems += problems
        if not isinstance(tree.value, dict):
            self.is_hopeless = True
            if not problems:
                self.problems.append(Problem(start, "a recipe is a mapping with `version: 1` first"))
            return Node({}, start)
        return self._extend(tree, (*children, path.resolve()))

    def _extend(self, tree: Node, chain: tuple[Path, ...]) -> Node:
        assert isinstance(tree.value, dict)
        link = tree.value.pop(EXTENDS, None)
        if link is None:
            return tree
        if not isinstance(link.value, str):
            self.problems.append(Problem(link.place, f"{EXTENDS} must name a recipe: a bare name or a file"))
            return tree
        try:
            parent = find_recipe(link.value, link.place.folder)
        except RecipeError as error:
            self.is_hopeless = True
            hint = f" ({error.hint})" if error.hint else ""
            self.problems.append(Problem(link.place, f"{EXTENDS}: {error.message}{hint}"))
            return tree
        if parent.resolve() in chain:
            self.is_hopeless = True
            names = " -> ".join(each.name for each in (*chain, parent))
            self.problems.append(Problem(link.place, f"{EXTENDS} goes round in a circle: {names}"))
            return tree
        return merge(self.read(parent, chain), tree)

    def override(self, tree: Node, text: str) -> Node:
        """`tree` with one `KEY=VALUE` laid over it; the value is YAML without comments."""
        key, equals, value = text.partition("=")
        place = Place(f"--set {key.strip()}", folder=Path.cwd())
        path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path):
            self.problems.append(Problem(place, f"must look like train.lr=1e-4 (got {text!r})"))
            return tree
        node, problems = parse_document(value, place)
        self.problems += problems
        return self._put(tree, path, node, ())

    def _put(self, tree: Node, path: tuple[str, ...], node: Node, above: tuple[str, ...]) -> Node:
        if not path:
            return node
        key, rest = path[0], path[1:]
        if isinstance(tree.value, list):
            if not key.isdecimal() or int(key) >= len(tree.value):
                message = f"{dotted(above)} is a list: name an item from 0 to {len(tree.value) - 1}"
                self.problems.append(Problem(node.place, message))
                return tree
            items = list(tree.value)
            items[int(key)] = self._put(items[int(key)], rest, node, (*above, key))
            return replace(tree, value=items)
        known = tree.value if isinstance(tree.value, dict) else {}
        below = known.get(key, Node({}, node.place))
        if rest and not isinstance(below.value, dict | list) and below.value is not None:
            message = f"{dotted((*above, key))} is a single value, so {dotted((*above, *path))} cannot be set"
            self.problems.append(Problem(node.place, message))
            return tree
        if not rest and takes_away(known.get(key), node):
            return replace(tree, value={name: each for name, each in known.items() if name != key})
        return replace(tree, value={**known, key: self._put(below, rest, node, (*above, key))})


def _recipe_error(problems: Sequence[Problem]) -> RecipeError:
    ordered = sorted(problems, key=lambda each: (each.place.source, each.place.line, each.place.column))
    return RecipeError([str(problem) for problem in dict.fromkeys(ordered)])


def _shown_path(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
