"""`hatex eval`: measure strategies on data sets, hold requirements, compare runs."""

from __future__ import annotations

import typer

from hatex.commands.eval_options import (
    AgainstOption,
    AllOption,
    AnswersOption,
    CompareOption,
    DataOption,
    ExplanationsOption,
    GateOption,
    HtmlOption,
    MarkdownOption,
    MetricOption,
    NoBaselineOption,
    OptionalRecipe,
    PostsOption,
    PostsToOption,
    PredictionsOption,
    StrategyOption,
    SuiteOption,
    ToleranceOption,
)
from hatex.commands.options import (
    STARTER,
    JsonOption,
    QuietOption,
    RegistryOption,
    SetOption,
    build_console,
    build_recipe,
    build_registry,
)
from hatex.errors import RequirementError, UsageError


def command(
    recipe: OptionalRecipe = STARTER,
    strategies: StrategyOption = None,
    data: DataOption = None,
    metrics: MetricOption = None,
    posts: PostsOption = None,
    every: AllOption = False,
    suites: SuiteOption = None,
    explanations: ExplanationsOption = False,
    no_baseline: NoBaselineOption = False,
    answers: AnswersOption = None,
    posts_to: PostsToOption = None,
    predictions: PredictionsOption = None,
    html: HtmlOption = None,
    markdown: MarkdownOption = None,
    gate: GateOption = False,
    compare: CompareOption = None,
    against: AgainstOption = None,
    tolerance: ToleranceOption = 0.0,
    overrides: SetOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure strategies on data sets; fail on broken requirements.

    [bold]Example[/bold]
      hatex eval starter
      hatex eval starter --json > run.json
      hatex eval starter --against run.json --tolerance 0.01
      hatex eval starter --all --answers build/answers.jsonl
      hatex eval starter --posts-to posts.jsonl

    Every figure has its interval. At most 500 seeded posts a data set, from the split `report`; --all takes
    every post. Exit code 3: a requirement of the recipe, or --against, is broken.
    """
    from hatex.commands.eval_output import emit_comparison, emit_run
    from hatex.evaluation.catalogue import find_metric
    from hatex.evaluation.run import load_run
    from hatex.workflows.evaluate import Regression, evaluate
    from hatex.workflows.evaluation_options import Narrowing, narrow
    from hatex.workflows.evaluation_predictions import evaluate_predictions, write_posts
    from hatex.workflows.partial import check_output

    shown = [find_metric(name).name for name in metrics or ["macro_f1"]]
    console = build_console(as_json=as_json, quiet=quiet)
    for path in filter(None, (html, markdown, answers, posts_to)):
        check_output(path)
    files = (html, markdown, answers, predictions, compare, against)
    if posts_to is not None and any((*files, strategies, metrics, suites, explanations, no_baseline)):
        raise UsageError(
            "--posts-to evaluates nothing: it goes with --data, --posts, --all and --gate alone",
            hint="leave the other options out",
        )
    if compare is not None:
        if predictions is not None or against is not None or answers is not None:
            raise UsageError(
                "--compare is about two saved runs: it goes without --predictions, --against and --answers",
                hint="leave them out",
            )
        return emit_comparison(console, compare, shown, markdown, html)
    if predictions is not None and (explanations or against is not None or answers is not None):
        raise UsageError(
            "--predictions goes without --explanations, --against and --answers",
            hint="compare with --compare",
        )
    if tolerance and against is None:
        raise UsageError(
            "is how much worse than --against a metric may be", where="--tolerance", hint="add --against RUN"
        )
    if every and posts is not None:
        raise UsageError("--all and --posts exclude one another", hint="give one of them")
    wanted = Narrowing(
        tuple(strategies or ()),
        tuple(data or ()),
        posts,
        every,
        tuple(suites or ()),
        no_baseline,
        gate,
    )
    models = build_registry(registry, console)
    asks_models = predictions is None and posts_to is None
    loaded, left_out = narrow(build_recipe(recipe, overrides), wanted, models if asks_models else None)
    if posts_to is not None:
        counts = write_posts(loaded, posts_to, progress=console.progress())
        console.note(f"wrote {sum(counts.values()):,} posts of {', '.join(counts)} to {posts_to}")
        return console.json({"file": str(posts_to), "posts": counts}) if as_json else None
    if left_out:
        console.note(f"{left_out} requirements are about what this call leaves out; they are not judged")
    if predictions is not None:
        run = evaluate_predictions(loaded, predictions, progress=console.progress())
    else:
        regression = None if against is None else Regression(load_run(against), tolerance)
        run = evaluate(
            loaded,
            models,
            explanations=explanations,
            against=regression,
            answers=answers,
            progress=console.progress(),
        )
    emit_run(console, run, shown, markdown, html)
    if run.failed:
        raise typer.Exit(RequirementError.exit_code)
    return None
