"""pydantic's complaints in hatex's words: `train.lr must be > 0 (got -1)`, with a did-you-mean for keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from hatex.recipe.document import KeyPath, Node, Problem, dotted

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_TYPES: Final = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "finite_number": "must be a finite number",
    "too_short": "must not be empty",
}
_BOUNDS: Final = {
    "greater_than": ("must be >", "gt"),
    "greater_than_equal": ("must be >=", "ge"),
    "less_than": ("must be <", "lt"),
    "less_than_equal": ("must be <=", "le"),
    "string_pattern_mismatch": ("must match", "pattern"),
}


def describe_errors(model: type[BaseModel], tree: Node, errors: Sequence[ErrorDetails]) -> list[Problem]:
    """One problem for each of pydantic's `errors`, at the place in `tree` it is about."""
    problems = []
    for error in errors:
        # pydantic counts the items that are valid: a list with one mistaken item is not empty to a person.
        if error["type"] == "too_short" and error["input"]:
            continue
        path = tuple(key for key in error["loc"] if key != "[key]")
        problems.append(Problem(tree.nearest(path).place, _describe(model, path, error)))
    return problems


def _describe(model: type[BaseModel], path: KeyPath, error: ErrorDetails) -> str:
    kind, name = error["type"], dotted(path) or "the recipe"
    if kind == "extra_forbidden":
        return f"{name} is not a known key{_did_you_mean(model, path)}"
    if kind == "missing":
        return f"{name} is missing"
    if kind == "value_error":
        return f"{name}: {error['ctx']['error']}"
    got = f" (got {_shown(error['input'])})"
    if kind == "literal_error":
        return f"{name} must be {error['ctx']['expected']}{got}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        bound = error["ctx"][key]
        return (
            f"{name} {words} {bound:g}{got}" if isinstance(bound, float) else f"{name} {words} {bound}{got}"
        )
    return f"{name} {_TYPES.get(kind) or error['msg'][0].lower() + error['msg'][1:]}{got}"


def _shown(value: Any, longest: int = 60) -> str:
    text = "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _did_you_mean(model: type[BaseModel], path: KeyPath) -> str:
    """The sibling key that is spelled nearly so, else the few places where the schema has this very key."""
    *parent, key = path
    siblings = get_close_matches(str(key), keys_at(model, parent), n=1)
    if siblings:
        return f"; did you mean {dotted((*parent, siblings[0]))}?"
    elsewhere = [dotted(known) for known in schema_paths(model) if known[-1] == key]
    return f"; did you mean {' or '.join(elsewhere)}?" if 0 < len(elsewhere) <= 3 else ""


def keys_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Keys that the section at `path` may have; none where it is no section."""
    annotation: Any = model
    for key in path:
        annotation = _below(_without_none(annotation), key)
    section = _without_none(annotation)
    return list(section.model_fields) if _is_section(section) else []


def schema_paths(model: type[BaseModel], path: KeyPath = ()) -> Iterator[KeyPath]:
    """Paths of all keys that need no name of a list item or of a mapping's own key to reach."""
    for key, info in model.model_fields.items():
        yield (*path, key)
        section = _without_none(info.annotation)
        if _is_section(section):
            yield from schema_paths(section, (*path, key))


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        kept = [option for option in get_args(annotation) if option is not NoneType]
        return kept[0] if len(kept) == 1 else annotation
    return annotation


def _below(annotation: Any, key: str | int) -> Any:
    if _is_section(annotation):
        info = annotation.model_fields.get(key)
        return info.annotation if info else None
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    if get_origin(annotation) in (tuple, list):
        return get_args(annotation)[0]
    return None
