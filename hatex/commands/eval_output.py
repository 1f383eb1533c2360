"""Where the document of an evaluation goes: terminal, JSON, Markdown, HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatex.console import Console
    from hatex.evaluation.document import Document
    from hatex.evaluation.figures import Figure
    from hatex.evaluation.run import EvalRun


def emit_run(
    console: Console, run: EvalRun, metrics: Sequence[str], markdown: Path | None, html: Path | None
) -> None:
    from hatex.evaluation.figures import draw_figures
    from hatex.evaluation.report import describe_run

    document = describe_run(run, metrics)
    # Stdout first: whatever becomes of the files, the figures are there.
    if console.as_json:
        console.json(run.to_json())
    else:
        _show(console, document)
    _write(console, document, markdown, html, lambda: draw_figures(run))


def emit_comparison(
    console: Console,
    paths: tuple[Path, Path],
    metrics: Sequence[str],
    markdown: Path | None,
    html: Path | None,
) -> None:
    from hatex.evaluation.compare import compare_runs
    from hatex.evaluation.report_compare import describe_comparison
    from hatex.evaluation.run import load_run

    comparison = compare_runs(load_run(paths[0]), load_run(paths[1]), metrics)
    document = describe_comparison(comparison, metrics)
    if console.as_json:
        console.json(comparison.to_json())
    else:
        _show(console, document)
    _write(console, document, markdown, html, list)


def _write(
    console: Console,
    document: Document,
    markdown: Path | None,
    html: Path | None,
    figures: Callable[[], list[Figure]],
) -> None:
    from hatex.evaluation.report_html import html_report
    from hatex.evaluation.report_markdown import markdown_report
    from hatex.workflows.partial import write_whole

    if markdown is not None:
        write_whole(markdown, markdown_report(document).encode())
        console.note(f"wrote {markdown}")
    if html is not None:
        write_whole(html, html_report(document, figures()).encode())
        console.note(f"wrote {html}")


def _show(console: Console, document: Document) -> None:
    from shutil import get_terminal_size

    from hatex.render.evaluate import render_document

    console.data(render_document(document, get_terminal_size().columns))
