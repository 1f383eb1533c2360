"""YAML text to a tree of plain values that remembers where each value was written.

The parser is ruamel.yaml's (YAML 1.2: `2e-4` is a number, `no` is a string); values are built here, from its
node graph: only nodes carry lines and columns of keys, of list items, and of both halves of a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

Scalar = str | int | float | bool | None
KeyPath = tuple[str | int, ...]

MAX_NODES: Final = 100_000
"""Aliases may repeat a node; past this many values a document is refused (the `billion laughs` pattern)."""

_TAG: Final = "tag:yaml.org,2002:"
_TEXT_TAGS: Final = {"str", "timestamp"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written: a file with line and column (from 1), or an option (`--set train.lr`)."""

    source: str
    line: int = 0
    column: int = 0
    folder: Path = Path()

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place: the key's in a mapping, the item's own in a list."""

    value: dict[str, Node] | list[Node] | Scalar
    place: Place

    def plain(self) -> Any:
        """The value without places, as `json.loads` would return it."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def child(self, key: str | int) -> Node | None:
        """The node under `key`, or None."""
        if isinstance(self.value, dict) and isinstance(key, str):
            return self.value.get(key)
        if isinstance(self.value, list) and isinstance(key, int) and 0 <= key < len(self.value):
            return self.value[key]
        return None

    def nearest(self, path: Sequence[str | int]) -> Node:
        """The deepest node on the way to `path`."""
        node = self
        for key in path:
            below = node.child(key)
            if below is None:
                break
            node = below
        return node

    def leaves(self, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
        """Every scalar below, with its path."""
        if isinstance(self.value, dict):
            for key, node in self.value.items():
                yield from node.leaves((*path, key))
        elif isinstance(self.value, list):
            for index, node in enumerate(self.value):
                yield from node.leaves((*path, index))
        else:
            yield path, self


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a recipe."""

    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def dotted(path: Sequence[str | int]) -> str:
    """`prepare.sources.0.path`, as `--set` takes it."""
    return ".".join(str(key) for key in path)


def merge(below: Node, above: Node) -> Node:
    """`above` over `below`: mappings merge key by key, every other value is replaced; null takes a mapping away."""
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    merged = dict(below.value)
    for key, node in above.value.items():
        if takes_away(merged.get(key), node):
            del merged[key]
        else:
            merged[key] = merge(merged[key], node) if key in merged else node
    return Node(merged, above.place)


def takes_away(below: Node | None, above: Node) -> bool:
    """Whether `above` is null over a mapping, which then goes; null over a single value is a value."""
    return above.value is None and below is not None and isinstance(below.value, dict)


def parse_document(text: str, source: Place) -> tuple[Node, list[Problem]]:
    """The tree of a YAML text and all mistakes in it.

    `source` is where the text starts: line 1 of a file (places then tell lines), or an option (line 0), which holds no
    comments.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    builder = _Builder(source, "#" if source.line else _character_not_in(text))
    try:
        root = YAML(typ="safe", pure=True).compose(text.replace("#", builder.hash_sign))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(str(part) for part in (error.context, error.problem) if part)
        return Node(None, source), [Problem(builder.at(mark), f"is not valid YAML: {reason}")]
    except YAMLError as error:
        reason = str(error).splitlines()[0]
        return Node(None, source), [Problem(builder.at(None), f"is not valid YAML: {reason}")]
    if root is None:
        return Node(None, builder.at(None)), []
    return builder.build(root, (), builder.at(root.start_mark)), builder.problems


@dataclass
class _Builder:
    """Turns ruamel nodes into ours, noting every mistake instead of stopping at the first; `hash_sign` is what stands
    for `#` in them.
    """

    source: Place
    hash_sign: str
    problems: list[Problem] = field(default_factory=list)
    _built: int = 0
    _open: list[int] = field(default_factory=list)

    def at(self, mark: Any) -> Place:
        if not self.source.line:
            return self.source
        line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        return Place(self.source.source, line, column, self.source.folder)

    def restore(self, text: str) -> str:
        return text.replace(self.hash_sign, "#")

    def build(self, node: Any, path: KeyPath, place: Place) -> Node:
        self._built += 1
        if id(node) in self._open:
            return self._refuse(place, path, "refers to itself")
        if self._built > MAX_NODES:
            return (
                Node(None, place)
                if self._built > MAX_NODES + 1
                else self._refuse(place, path, "is too large")
            )
        self._open.append(id(node))
        try:
            if node.id == "mapping":
                return Node(self._mapping(node, path), place)
            if node.id == "sequence":
                items = (
                    self.build(item, (*path, i), self.at(item.start_mark))
                    for i, item in enumerate(node.value)
                )
                return Node(list(items), place)
            return self._scalar(node, path, place)
        finally:
            self._open.pop()

    def _mapping(self, node: Any, path: KeyPath) -> dict[str, Node]:
        built: dict[str, Node] = {}
        for key_node, value_node in node.value:
            place = self.at(key_node.start_mark)
            key = self.restore(key_node.value) if key_node.id == "scalar" else ""
            if key_node.id != "scalar" or str(key_node.tag).removeprefix(_TAG) not in _TEXT_TAGS:
                shown = (
                    f"key {key} must be text: write it in quotes"
                    if key_node.id == "scalar"
                    else "a key must be text"
                )
                remedy = "YAML 1.2 has no merge key `<<`: use `extends`" if key == "<<" else shown
                self.problems.append(Problem(place, remedy))
            elif key in built:
                first = built[key].place
                self.problems.append(
                    Problem(place, f"{dotted((*path, key))} is given twice (first at {first})")
                )
            else:
                built[key] = self.build(value_node, (*path, key), place)
        return built

    def _scalar(self, node: Any, path: KeyPath, place: Place) -> Node:
        tag = str(node.tag).removeprefix(_TAG)
        try:
            # "\ud83d\ude00", as JSON writes it, is one character; ruamel leaves its two halves.
            text = self.restore(str(node.value)).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            return self._refuse(place, path, "holds half of a surrogate pair")
        try:
            return Node(_SCALARS[tag](text), place)
        except KeyError:
            return self._refuse(place, path, f"has an unknown tag or value: {node.tag}")
        except ValueError:
            return Node(text, place)

    def _refuse(self, place: Place, path: KeyPath, why: str) -> Node:
        self.problems.append(Problem(place, f"{dotted(path) or 'the recipe'} {why}"))
        return Node(None, place)


def _character_not_in(text: str) -> str:
    """For private use, so that YAML reads it as a letter."""
    return next(char for char in map(chr, range(0xE000, 0xF900)) if char not in text)


def _whole_number(text: str) -> int:
    digits = text.lstrip("+-")
    return int(text, 0) if digits[:2].lower() in {"0x", "0o", "0b"} else int(text)


def _number(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _boolean(text: str) -> bool:
    # A `%YAML 1.1` header would make `no` a boolean; here it stays the text that it is in YAML 1.2.
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


_SCALARS: Final[dict[str, Any]] = {
    "str": str,
    "timestamp": str,
    "int": _whole_number,
    "float": _number,
    "bool": _boolean,
    "null": lambda _text: None,
}
