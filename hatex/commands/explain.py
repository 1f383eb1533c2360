"""`hatex explain`: one post or many, with the reasons behind the answer."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hatex.commands.options import (
    STARTER,
    JsonOption,
    QuietOption,
    RecipeOption,
    RegistryOption,
    SetOption,
    SpaceOption,
    StrategyOption,
    build_console,
    build_recipe,
    build_registry,
)
from hatex.errors import InputLinesError, UsageError

if TYPE_CHECKING:
    from hatex.console import Console
    from hatex.explanation.report import PostReport
    from hatex.recipe import Recipe

Format = Literal["rich", "json", "markdown", "html", "svg", "dsa"]
SECOND_OPINIONS = frozenset({"rich", "markdown", "html", "svg"})


def command(
    source: Annotated[
        str, typer.Argument(metavar="TEXT", help="A post, - for stdin, or a JSONL file (NAME.jsonl).")
    ],
    form: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="What to print. Default: rich.", show_default=False),
    ] = None,
    strategy: StrategyOption = None,
    space: SpaceOption = None,
    evidence: Annotated[
        Literal["leave-out", "gradient", "none"] | None,
        typer.Option("--evidence", help="How evidence is found.", show_default=False),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Show all strategies side by side.")] = False,
    mask: Annotated[
        bool, typer.Option("--mask", help="Hide the words that the model marked, except first letters.")
    ] = False,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest token; more samples.")
    ] = 0.0,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            min=0.01,
            max=1.0,
            help="Sample from the likeliest tokens of this mass; needs --temperature. Default: 1.",
            show_default=False,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Tokens of one answer.", show_default=False)
    ] = None,
    sequences: Annotated[
        int,
        typer.Option(
            "--num-return-sequences", min=1, max=64, help="Explanations a post; needs --temperature."
        ),
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="Seed of sampling; needs --temperature. Default: 0.",
            show_default=False,
        ),
    ] = None,
    decided: Annotated[
        str | None,
        typer.Option(
            "--date",
            metavar="YYYY-MM-DD",
            help="Day of the decision, for --format dsa: its application_date, and the content_date of posts "
            "whose line has no `date`.",
        ),
    ] = None,
    recipe: RecipeOption = STARTER,
    overrides: SetOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Explain one post: verdict, gates, harmful words, reason.

    [bold]Example[/bold]
      hatex explain "Your football club is a bunch of clueless donkeys."
      hatex explain posts.jsonl --format html --mask > page.html
      echo "What a lovely goal!" | hatex explain - --json

    Stdin is JSONL if a line of it is a JSON object with a text, else one post.
    The label is scored, never sampled; every quoted word stands in the post.
    Evidence tells how far the label's probability falls without a word.
    Formats: rich (a panel), json (as --json), markdown, html and svg (one page),
    dsa (a statement of reasons for every post that is flagged, or goes to
    review for its content, which it says was demoted unless the recipe's
    explain.statement says otherwise).
    """
    from hatex.types import Sampling
    from hatex.workflows.explain import ExplainRequest, explain
    from hatex.workflows.explain_source import READABLE, path_exists

    if as_json and form not in {None, "json"}:
        raise UsageError(
            f"stdout can hold JSON or {form}, not both", where="--json", hint="leave one of them out"
        )
    form = form or ("json" if as_json else "rich")
    if temperature == 0:
        for option, value in (("--top-p", top_p), ("--seed", seed)):
            if value is not None:
                raise UsageError("has no effect without sampling", where=option, hint="add --temperature 0.7")
    day = _day(decided, form)
    if form == "dsa" and (compare or sequences > 1):
        option = "--compare" if compare else "--num-return-sequences"
        raise UsageError(
            "a statement of reasons has one answer and one explanation", where=option, hint="leave it out"
        )
    console = build_console(as_json=form in {"json", "dsa"}, quiet=quiet)
    loaded = build_recipe(recipe, overrides)
    request = ExplainRequest(
        strategy=strategy,
        space=space,
        evidence=evidence,
        max_new_tokens=max_new_tokens,
        sampling=Sampling(temperature, 1.0 if top_p is None else top_p, seed or 0),
        sequences=sequences,
        alone=form in SECOND_OPINIONS,
        compare=compare,
        # A statement quotes nothing, and its puid is that of the post as it is.
        mask=mask and form != "dsa",
    )
    if source == "-" and sys.stdin.isatty():
        console.hint("reading a post from the terminal; end with Ctrl-D")
    found = explain(
        loaded, build_registry(registry, console), source, request=request, progress=console.progress()
    )
    if source != "-" and not source.endswith(READABLE) and path_exists(source):
        console.hint("this explains the word itself, not the file or folder of that name")
    failed = _emit(console, found, form, loaded, day)
    if failed:
        message = f"{failed} input line{'' if failed == 1 else 's'} could not be answered"
        hint = 'every line has to be an object like {"id": 1, "text": "..."}'
        if source == "-":
            hint += "; a post of several lines can be given as TEXT"
        if form in {"json", "dsa"}:
            console.note(message)
            console.hint(hint)
            raise typer.Exit(InputLinesError.exit_code)
        raise InputLinesError(message, hint=hint)


def _emit(console: Console, found: Iterable[Any], form: Format, recipe: Recipe, day: date | None) -> int:
    """Print reports as they come (pages at the end); the number of bad lines."""
    from hatex.explanation.report import PostReport, report_record
    from hatex.jsonl import BadLine, bad_line_record
    from hatex.render.explain import render_explanation
    from hatex.render.explain_dsa import build_statement, date_trouble
    from hatex.render.terminal import shown

    failed = undated = 0
    page: list[PostReport] = []
    for each in found:
        console.content_note()
        if form == "dsa" and isinstance(each, PostReport) and (trouble := date_trouble(each)):
            each = BadLine(each.line or 1, each.id, "date", trouble)
        if not isinstance(each, PostReport):
            failed += 1
            if form in {"json", "dsa"}:
                console.json(bad_line_record(each))
            else:
                console.note(f"line {each.line}: {each.message}")
        elif form == "json":
            console.json(report_record(each))
        elif form == "dsa":
            # Posts that nobody should trust an answer to go to people, who have not decided yet.
            if each.verdict.decision == "allow":
                console.note(f"{shown(each.name)}: allowed, so there is nothing to state")
            elif each.verdict.reasons:
                reasons = ", ".join(each.verdict.reasons)
                console.note(f"{shown(each.name)}: for review ({reasons}), so there is nothing to state yet")
            elif day is not None:
                undated += each.date is None
                console.json(build_statement(each, recipe.explain.statement, day))
        elif form == "rich":
            console.data(render_explanation(each))
        else:
            page.append(each)
    if page:
        console.data(_render_page(page, form))
    if undated:
        console.note(f"posts without a `date`, whose content_date is the day of the decision: {undated}")
    return failed


def _render_page(reports: list[PostReport], form: Format) -> str:
    if form == "html":
        from hatex.render.explain_html import render_html

        return render_html(reports)
    if form == "svg":
        from hatex.render.explain_svg import render_svg

        return render_svg(reports)
    from hatex.render.explain_markdown import render_markdown

    return render_markdown(reports)


def _day(decided: str | None, form: Format) -> date | None:
    if decided is None:
        if form == "dsa":
            raise UsageError(
                "a statement of reasons needs the day of the decision", hint="add --date YYYY-MM-DD"
            )
        return None
    try:
        day = date.fromisoformat(decided)
    except ValueError:
        raise UsageError(f"{decided} is not YYYY-MM-DD", where="--date") from None
    from hatex.render.explain_dsa import YEARS

    if day.year not in YEARS:
        raise UsageError(f"{decided} is not from {YEARS.start} to {YEARS.stop - 1}", where="--date")
    if form != "dsa":
        raise UsageError("only statements of reasons are dated", where="--date", hint="add --format dsa")
    return day
