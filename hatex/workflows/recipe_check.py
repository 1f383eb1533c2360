"""`hatex recipe check`: what a recipe's sections say about each other, and names that mean nothing.

The loader has checked every value by itself; here nothing is read but the recipe, so what only a prepared folder or a
registry can tell is left to the command that reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hatex.data.languages import NO_WORDS, UNDETERMINED, check_language
from hatex.data.prompts import load_prompt
from hatex.data.sources import SOURCES
from hatex.data.votes import parse_label_set
from hatex.errors import HatexError, RecipeError
from hatex.evaluation.catalogue import find_metric
from hatex.evaluation.functional import find_suite
from hatex.evaluation.requirements import EXPLANATION_METRICS, SUITE_METRICS
from hatex.evaluation.specs import EVERY_SINGLE, EVERY_TOP, ORACLE, check_reference, parse_strategy
from hatex.routing.strategies import check_strategy

if TYPE_CHECKING:
    from hatex.recipe import Recipe
    from hatex.recipe.document import KeyPath
    from hatex.recipe.evaluate import EvalSection
    from hatex.recipe.prepare import SourceSection
    from hatex.recipe.train import TrainSection

Check = tuple["KeyPath", Callable[[], object]]
"""A place in the recipe, and what raises HatexError or ValueError if the value there means nothing."""


def check_recipe(recipe: Recipe) -> list[str]:
    """Names of the verb sections that the recipe has. Raises RecipeError with every mistake, each at its place."""
    sections = recipe.check()
    problems = []
    for path, check in _checks(recipe):
        try:
            check()
        except (HatexError, ValueError) as error:
            hint = f" ({error.hint})" if isinstance(error, HatexError) and error.hint else ""
            message = error.message if isinstance(error, HatexError) else str(error)
            problems.append(recipe.problem(path, f"{message}{hint}"))
    if problems:
        raise RecipeError(problems)
    return sections


def remarks(recipe: Recipe) -> Iterator[str]:
    """What may be meant, but mostly is a line of a parent recipe that was forgotten."""
    if recipe.prepare is not None:
        output = recipe.prepare.output
        read = {
            "train.data": recipe.train and recipe.train.data,
            "eval.data": recipe.eval and recipe.eval.data,
        }
        for name, folder in read.items():
            if folder is not None and folder != output:
                yield f"{name} is {folder}, but hatex prepare writes to {output}"


def _checks(recipe: Recipe) -> Iterator[Check]:
    train, known = recipe.train, recipe.adapters
    routed = train.router.adapters if train is not None and train.router is not None else known
    yield ("prompt",), partial(load_prompt, recipe.prompt)
    yield ("route", "strategy"), partial(check_strategy, recipe.route.strategy, known, routed)
    if recipe.route.fallback is not None:
        yield ("route", "fallback", "to"), partial(check_strategy, recipe.route.fallback.to, known, routed)
    for number, code in enumerate(recipe.route.policy.languages):
        yield ("route", "policy", "languages", number), partial(check_language, code)
    if recipe.prepare is not None:
        for number, code in enumerate(recipe.prepare.languages.keep):
            if code not in (UNDETERMINED, NO_WORDS):
                yield ("prepare", "languages", "keep", number), partial(check_language, code)
        for number, source in enumerate(recipe.prepare.sources):
            yield from _source(source, ("prepare", "sources", number))
    if train is not None:
        yield from _train(train, known)
    if recipe.merge is not None:
        for name in recipe.merge.weights or ():
            yield ("merge", "weights", name), partial(_named, name, known, "adapter")
    if recipe.eval is not None:
        for number, source in enumerate(recipe.eval.sources):
            yield from _source(source, ("eval", "sources", number))
        yield from _eval(recipe.eval, known, routed)


def _source(source: SourceSection, at: KeyPath) -> Iterator[Check]:
    yield (*at, "source"), partial(_named, source.source, SOURCES, "source")
    for key in source.unread if source.source in SOURCES else ():
        yield (*at, key), partial(_unread, source.source)
    for value, labels in source.labels.items():
        yield (*at, "labels", value), partial(parse_label_set, labels)
    for labels in source.columns.counts if source.columns is not None else ():
        yield (*at, "columns", "counts", labels), partial(parse_label_set, labels)


def _train(train: TrainSection, known: tuple[str, ...]) -> Iterator[Check]:
    adapters = (*known, *(name for name in train.adapters if name not in known))
    for name, section in train.adapters.items():
        if section.init is not None:
            yield ("train", "adapters", name, "init"), partial(_named, section.init, adapters, "adapter")
        for number, other in enumerate(section.partners):
            yield ("train", "adapters", name, "partners", number), partial(_named, other, adapters, "adapter")
    for number, name in enumerate(train.router.adapters if train.router is not None else ()):
        yield ("train", "router", "adapters", number), partial(_named, name, known, "adapter of this recipe")


def _eval(section: EvalSection, known: tuple[str, ...], routed: tuple[str, ...]) -> Iterator[Check]:
    def strategy(text: str) -> None:
        name = parse_strategy(text).strategy
        if name not in (ORACLE, EVERY_SINGLE, EVERY_TOP):
            check_strategy(name, known, routed)

    def reference(text: str) -> None:
        check_reference(text)
        strategy(text)

    for number, text in enumerate(section.strategies):
        yield ("eval", "strategies", number), partial(strategy, text)
    yield ("eval", "reference"), partial(reference, section.reference)
    for number, suite in enumerate(section.suites):
        yield ("eval", "suites", number), partial(find_suite, suite)
    also = (*SUITE_METRICS, *EXPLANATION_METRICS)
    for number, each in enumerate(section.requirements):
        if each.metric not in also:
            yield ("eval", "requirements", number, "metric"), partial(find_metric, each.metric, also)


def _unread(source: str) -> None:
    raise ValueError(f"only a table reads it; {source} knows its own")


def _named(name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        raise ValueError(f"there is no {what} {name!r}; known: {', '.join(known)}")
