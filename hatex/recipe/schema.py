"""A recipe: one file, several sections that share base, adapters and router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Self, overload

from pydantic import Field, PrivateAttr, model_validator

from hatex.errors import RecipeError
from hatex.recipe.document import KeyPath, Node, dotted
from hatex.recipe.evaluate import EvalSection
from hatex.recipe.explain import ExplainSection
from hatex.recipe.imports import ImportsSection
from hatex.recipe.merge import MergeSection
from hatex.recipe.models import BaseSection, EncoderSection
from hatex.recipe.prepare import PrepareSection
from hatex.recipe.route import RouteSection
from hatex.recipe.section import Section
from hatex.recipe.train import TrainSection
from hatex.recipe.variables import Unset

VERB_SECTIONS: Final = ("prepare", "train", "merge", "eval", "imports")
"""Sections that one verb alone reads; every other key is read by all verbs."""


class Recipe(Section):
    """What a command does: `version: 1` first, then what the engine consists of, then one section a verb."""

    version: Literal[1]
    """Version of the recipe format."""
    kind: Literal["prepare", "train", "merge", "route", "eval"] | None = None
    """The one verb this recipe is for, whose section it then must have; absent: any section may be there."""
    name: str
    """Name of the engine that this recipe describes, as in `hatex.load(NAME)`."""
    base: BaseSection
    """The frozen 4-bit causal LM that all adapters share."""
    encoder: EncoderSection
    """The sentence encoder in front of the router."""
    adapters: tuple[str, ...] = Field(min_length=1)
    """Names of all adapters that the engine holds, in the order every gate vector uses."""
    router: str
    """Name of the router in the registry."""
    prompt: str = "compact"
    """Prompt template: a bare name of one that hatex ships, or a path beside the recipe."""
    groups: tuple[str, ...] = ()
    """Closed list of groups that `affected_groups` may name; empty: the list that hatex ships."""
    imports: ImportsSection | None = None
    prepare: PrepareSection | None = None
    train: TrainSection | None = None
    merge: MergeSection | None = None
    route: RouteSection = RouteSection()
    explain: ExplainSection = ExplainSection()
    eval: EvalSection | None = None

    _origin: str = PrivateAttr(default="the recipe")
    _tree: Node | None = PrivateAttr(default=None)
    _written: dict[KeyPath, str] = PrivateAttr(default_factory=dict)
    _unset: dict[str, list[Unset]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _adapters_are_unique(self) -> Self:
        if len(set(self.adapters)) != len(self.adapters):
            raise ValueError("adapters must be unique")
        return self

    @model_validator(mode="after")
    def _kind_has_its_section(self) -> Self:
        if self.kind is not None and getattr(self, self.kind) is None:
            raise ValueError(f"kind is {self.kind}, but there is no `{self.kind}` section")
        return self

    def remember(
        self, origin: str, tree: Node, written: Mapping[KeyPath, str], unset: Sequence[Unset]
    ) -> None:
        """Keep what the loader knows: the file, where each value was written, strings as they were written, and
        variables that are not set.

        Raises RecipeError where a variable is missing that every verb needs.
        """
        self._origin = origin
        self._tree = tree
        self._written = dict(written)
        for each in unset:
            self._unset.setdefault(str(each.path[0]), []).append(each)
        for section in self._unset.keys() - set(VERB_SECTIONS):
            raise _unset_error(self._unset[section])

    if not TYPE_CHECKING:

        def __getattribute__(self, name: str) -> Any:
            # A section whose variables are not set must not leak `${NAME}` as if it were a path.
            if name in VERB_SECTIONS and (missing := self._unset.get(name)):
                raise _unset_error(missing)
            return super().__getattribute__(name)

    @overload
    def require(self, section: Literal["prepare"]) -> PrepareSection: ...
    @overload
    def require(self, section: Literal["train"]) -> TrainSection: ...
    @overload
    def require(self, section: Literal["merge"]) -> MergeSection: ...
    @overload
    def require(self, section: Literal["eval"]) -> EvalSection: ...
    def require(self, section: str) -> Section:
        """The section of one verb; RecipeError if there is none or it needs a variable that is not set."""
        found: Section | None = getattr(self, section)
        if found is None:
            message = f"{self._origin}: the recipe has no `{section}` section"
            raise RecipeError([message], hint=f"add one; `hatex recipe schema` lists its keys ({section})")
        return found

    def problem(self, path: KeyPath, message: str) -> str:
        """`file:line:column: KEY: MESSAGE` for a mistake in the value at `path`."""
        place = self._origin if self._tree is None else self._tree.nearest(path).place
        return f"{place}: {dotted(path)}: {message}"

    def check(self) -> list[str]:
        """Names of the verb sections this recipe has; RecipeError names every variable that is not set."""
        missing = [each for section in self._unset.values() for each in section]
        if missing:
            raise _unset_error(missing)
        return [section for section in VERB_SECTIONS if getattr(self, section) is not None]

    def resolved(self) -> dict[str, Any]:
        """Plain values for a manifest: `extends`, `--set` and defaults laid in, `${NAME}` still by name."""
        plain = self.model_dump(mode="json")
        for path, text in self._written.items():
            holder: Any = plain
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = text
        return plain


def _unset_error(missing: Sequence[Unset]) -> RecipeError:
    names = sorted({each.variable for each in missing})
    hint = "; ".join(f"export {name}=..." if name != "HATEX_DATA" else _DATA_HINT for name in names)
    return RecipeError([str(each.problem) for each in missing], hint=hint)


_DATA_HINT: Final = "set HATEX_DATA to the folder that holds the data sets (export HATEX_DATA=/path/to/data)"


def recipe_json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe file, for editors and validators.

    A file with `extends` may leave out what the other one says, so required keys bind only files without it.
    """
    schema = Recipe.model_json_schema()
    required = schema.pop("required")
    extends = {
        "type": "string",
        "description": "Recipe that this one is laid over: a shipped one by bare name, or a file beside it.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "properties": {"extends": extends, **schema["properties"]},
        "anyOf": [{"required": ["extends"]}, {"required": required}],
    }
