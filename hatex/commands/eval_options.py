"""The options of `hatex eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OptionalRecipe = Annotated[
    str, typer.Argument(metavar="[RECIPE]", help="Recipe: a bare name that hatex ships, or a YAML file.")
]
StrategyOption = Annotated[
    list[str] | None,
    typer.Option("--strategy", "-s", metavar="S[@SPACE]", help="Evaluate only these strategies; repeatable."),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="NAME", help="Evaluate only on these data sets; repeatable."),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", "-m", metavar="NAME", help="Metrics that get a table; repeatable. Default: macro_f1."
    ),
]
PostsOption = Annotated[
    int | None, typer.Option("--posts", min=1, metavar="N", help="Seeded sample of N posts a data set.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Evaluate on every post of the split.")]
SuiteOption = Annotated[
    list[str] | None,
    typer.Option("--suite", metavar="FILE", help="Run this functional suite (CSV); repeatable."),
]
ExplanationsOption = Annotated[bool, typer.Option("--explanations", help="Also judge explanations (slow).")]
NoBaselineOption = Annotated[bool, typer.Option("--no-baseline", help="Leave out the TF-IDF baseline.")]
AnswersOption = Annotated[
    Path | None,
    typer.Option(
        "--answers",
        metavar="FILE",
        help="Keep the models' answers in this file as they come, and take those that it holds: an interrupted "
        "run goes on.",
    ),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page with figures.")
]
MarkdownOption = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables for a pull request.")
]
GateOption = Annotated[
    bool,
    typer.Option("--gate", help="Evaluate only what the recipe's requirements name, and show how they fare."),
]
CompareOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--compare", metavar="A B", help="Compare two runs saved with --json; evaluates nothing."),
]
AgainstOption = Annotated[
    Path | None,
    typer.Option(
        "--against", metavar="RUN", help="Exit with 3 where a metric is worse than in this saved run."
    ),
]
ToleranceOption = Annotated[
    float, typer.Option("--tolerance", min=0.0, help="How much worse than --against a metric may be.")
]
PredictionsOption = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        metavar="FILE",
        help="Judge the answers in this file, which hatex route or another model gave to the posts of --posts-to.",
    ),
]
PostsToOption = Annotated[
    Path | None,
    typer.Option(
        "--posts-to",
        metavar="FILE",
        help="Write the posts that would be evaluated as JSONL, for --predictions; evaluates nothing.",
    ),
]
