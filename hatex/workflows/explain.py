"""`hatex explain`: posts through the engine, with explanations, second opinions and everything a reader compares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hatex.errors import UsageError
from hatex.explanation.masking import mask_report
from hatex.explanation.protocol import ExplainOptions
from hatex.explanation.report import AdapterAnswer, PostReport
from hatex.jsonl import BadLine, Post
from hatex.routing.strategies import chosen_strategy
from hatex.types import LABELS, NO_PROGRESS, BlendSpace, EvidenceMethod, Progress, Sampling, Verdict
from hatex.workflows.explain_source import open_source

if TYPE_CHECKING:
    from hatex.engine import Engine
    from hatex.recipe import Recipe
    from hatex.registry import Registry


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """What a reader asks for; None takes the recipe's word.

    `alone` asks every adapter for its own answer, `compare` every strategy; `mask` hides the marked words.
    """

    strategy: str | None = None
    space: BlendSpace | None = None
    evidence: EvidenceMethod | None = None
    max_new_tokens: int | None = None
    sampling: Sampling = Sampling()  # noqa: RUF009
    sequences: int = 1
    alone: bool = True
    compare: bool = False
    mask: bool = False


def explain(
    recipe: Recipe,
    registry: Registry,
    source: str,
    *,
    request: ExplainRequest = ExplainRequest(),
    progress: Progress = NO_PROGRESS,
) -> Iterator[PostReport | BadLine]:
    """Reports of `source`, in order: a text, `-` for stdin, or the path of a JSONL file.

    Raises UsageError before the model is loaded where the source or the request cannot be used, and whatever the
    engine raises.
    """
    if request.sequences > 1 and request.sampling.temperature == 0:
        raise UsageError(
            "several sequences would all be the same",
            where="--num-return-sequences",
            hint="add --temperature 0.7",
        )
    request = replace(request, strategy=chosen_strategy(recipe, registry, request.strategy))
    return _reports(recipe, registry, open_source(source), request, progress)


def _reports(
    recipe: Recipe,
    registry: Registry,
    batches: Iterable[Sequence[Post | BadLine]],
    request: ExplainRequest,
    progress: Progress,
) -> Iterator[PostReport | BadLine]:
    from hatex.engine import load_engine

    engine = load_engine(recipe, registry, progress=progress)
    for batch in batches:
        posts = [each for each in batch if isinstance(each, Post)]
        reports = iter(explain_batch(engine, recipe, posts, request))
        for each in batch:
            yield each if isinstance(each, BadLine) else next(reports)


def explain_batch(
    engine: Engine, recipe: Recipe, posts: Sequence[Post], request: ExplainRequest
) -> list[PostReport]:
    """Reports of some posts, computed together; a post without fields was plain text, not a line of JSONL."""
    if not posts:
        return []
    texts = [post.text for post in posts]
    space = request.space or recipe.route.space
    options = _options(engine, request, space)
    strategy = request.strategy or recipe.route.strategy
    explained = engine.explained(texts, strategy, space, sequences=request.sequences, options=options)
    verdicts = [verdict for verdict, _ in explained]
    alone = _each_adapter_alone(engine, texts) if request.alone else [()] * len(posts)
    compared = _every_strategy(engine, texts, verdicts, options) if request.compare else [()] * len(posts)
    reports = [
        PostReport(
            line=post.line if post.fields else None,
            id=post.fields.get("id"),
            text=post.text,
            verdict=verdicts[i],
            alone=alone[i],
            compared=compared[i],
            samples=explained[i][1][1:],
            date=None if (day := post.fields.get("date")) is None else str(day),
        )
        for i, post in enumerate(posts)
    ]
    return [mask_report(report) for report in reports] if request.mask else reports


def _options(engine: Engine, request: ExplainRequest, space: BlendSpace) -> ExplainOptions:
    options = engine.explain_options
    return replace(
        options,
        max_new_tokens=request.max_new_tokens or options.max_new_tokens,
        sampling=request.sampling,
        evidence=request.evidence or options.evidence,
        space=space,
    )


def _each_adapter_alone(engine: Engine, texts: Sequence[str]) -> list[tuple[AdapterAnswer, ...]]:
    """What every adapter would say by itself, all posts and adapters in one call."""
    import numpy as np

    count = len(engine.adapters)
    scores = engine.score(
        [text for text in texts for _ in range(count)], np.tile(np.eye(count), (len(texts), 1))
    )
    answers = [
        AdapterAnswer(engine.adapters[row % count], LABELS[int(score.argmax())], float(score.max()))
        for row, score in enumerate(scores)
    ]
    return [tuple(answers[i * count : (i + 1) * count]) for i in range(len(texts))]


def _every_strategy(
    engine: Engine, texts: Sequence[str], verdicts: Sequence[Verdict], options: ExplainOptions
) -> list[tuple[Verdict, ...]]:
    """Verdicts of all strategies side by side in the asked blend space, the asked strategy first."""
    asked = verdicts[0].strategy
    others = [name for name in strategies_of(engine) if name != asked]
    columns = [
        list(verdicts),
        *(engine.verdicts(texts, strategy=name, space=options.space, options=options) for name in others),
    ]
    return [tuple(column[i] for column in columns) for i in range(len(texts))]


def strategies_of(engine: Engine) -> list[str]:
    """Every strategy that gives this engine different gate weights."""
    names = engine.router.adapters
    tops = [f"top-{k}" for k in range(1, len(names))]
    full = ["full"] if "full" in engine.adapters else []
    return ["blend", *tops, "uniform", *(f"single:{name}" for name in names), *full]
