"""`${NAME}` and `${NAME:-default}` in the strings of a recipe, filled from the environment.

An unset variable is a mistake only where it is used: a recipe whose `prepare` section needs `HATEX_DATA`
still loads for `explain`. So expansion returns what is missing; the recipe raises it on the way there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from hatex.recipe.document import KeyPath, Node, Problem, dotted

_VARIABLE: Final = re.compile(r"\$(?:(\$)(?=\{)|\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?)")


@dataclass(frozen=True, slots=True)
class Unset:
    """A string that needs an environment variable which is not set."""

    path: KeyPath
    variable: str
    problem: Problem


@dataclass
class Expansion:
    """A tree with its variables filled in.

    `written` holds, by path, the text of every string that changed: what a manifest or `recipe show` repeats,
    so that no file names the folders of the machine that made it.
    """

    tree: Node
    written: dict[KeyPath, str] = field(default_factory=dict)
    unset: list[Unset] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def expand(tree: Node, environ: Mapping[str, str]) -> Expansion:
    """Fill `${NAME}` in every string of `tree`; an empty variable counts as unset; `$${` stands for `${`."""
    result = Expansion(tree)
    result.tree = _expand_node(tree, (), environ, result)
    return result


def _expand_node(node: Node, path: KeyPath, environ: Mapping[str, str], result: Expansion) -> Node:
    if isinstance(node.value, dict):
        items = {key: _expand_node(below, (*path, key), environ, result) for key, below in node.value.items()}
        return replace(node, value=items)
    if isinstance(node.value, list):
        below = [_expand_node(item, (*path, i), environ, result) for i, item in enumerate(node.value)]
        return replace(node, value=below)
    if not isinstance(node.value, str) or "${" not in node.value:
        return node

    def fill(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return "$"
        if match[0] == "$":
            return match[0]
        if name is None:
            message = "holds `${` without a name: write ${NAME}, or $${ for those two characters"
            result.problems.append(Problem(node.place, f"{dotted(path)} {message}"))
        elif environ.get(name):
            return environ[name]
        elif default is not None:
            return default
        else:
            problem = Problem(
                node.place, f"{dotted(path)} needs the environment variable {name}, which is not set"
            )
            result.unset.append(Unset(path, name, problem))
        return match[0]

    result.written[path] = node.value
    return replace(node, value=_VARIABLE.sub(fill, node.value))
