"""Figures of a run as SVG, drawn with matplotlib; same run, same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hatex.evaluation.functional import SuiteResult
from hatex.evaluation.run import EvalRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS: Final = 3
_COLOURS: Final = ("#0b5394", "#b45f06", "#38761d", "#741b47", "#555555")
"""Dark enough for white paper and told apart by the colour-blind (blue, orange first)."""
_CURVES: Final = 4
"""Strategies drawn into one plot, the reference first."""
_SETTINGS: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hatex",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.h_pad": 0.1,
}


@dataclass(frozen=True)
class Figure:
    """One drawing; `caption` says what to see in it."""

    title: str
    caption: str
    svg: str


def draw_figures(run: EvalRun) -> list[Figure]:
    """All figures that the run has numbers for."""
    figures = []
    if run.pictures:
        names = ", ".join(_shown(run))
        figures.append(
            _per_set(
                run,
                "Reliability",
                _reliability,
                "Mean P(harmful) of equal-mass bins against the share of harmful votes; on the diagonal "
                f"probabilities mean what they say. Lines: {names}.",
            )
        )
        figures.append(
            _per_set(
                run,
                "Risk and coverage",
                _risk,
                "Share of wrong answers among the most confident posts; what people review is what lies "
                f"right of a coverage. Lines: {names}.",
            )
        )
        figures.append(
            _per_set(run, f"Confusion of {run.reference}", _confusion, "Rows: gold; columns: decided; posts.")
        )
    if run.gates:
        figures.append(_gates(run))
    figures += [_suite(suite) for suite in run.suites]
    return figures


def _shown(run: EvalRun) -> list[str]:
    wanted = [run.reference, "full", "uniform", run.baseline or ""]
    drawn = next(iter(run.pictures.values()))
    return [name for name in wanted if name in drawn][:_CURVES]


def _per_set(run: EvalRun, title: str, draw: Callable[[EvalRun, str, Axes], None], caption: str) -> Figure:
    sets = list(run.pictures)
    rows = -(-len(sets) // _COLUMNS)
    with _canvas(rows, min(_COLUMNS, len(sets)), size=(3.3, 2.9)) as (figure, axes):
        for axis, name in zip(axes, sets, strict=False):
            draw(run, name, axis)
            axis.set_title(name)
        for axis in axes[len(sets) :]:
            axis.set_visible(False)
        return Figure(title, caption, _to_svg(figure))


def _reliability(run: EvalRun, dataset: str, axis: Axes) -> None:
    axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
    for name, colour in zip(_shown(run), _COLOURS, strict=False):
        points = run.pictures[dataset][name].reliability
        axis.plot(
            [p.prediction for p in points],
            [p.share for p in points],
            "o-",
            color=colour,
            markersize=3,
            linewidth=1,
            label=name,
        )
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted", ylabel="share of votes")
    axis.legend(frameon=False, fontsize=7)


def _risk(run: EvalRun, dataset: str, axis: Axes) -> None:
    for name, colour in zip(_shown(run), _COLOURS, strict=False):
        points = run.pictures[dataset][name].risk
        axis.plot(
            [p.coverage for p in points], [p.risk for p in points], color=colour, linewidth=1.2, label=name
        )
    axis.set(xlim=(0, 1), xlabel="coverage", ylabel="wrong answers")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=7)


def _confusion(run: EvalRun, dataset: str, axis: Axes) -> None:
    counts = run.pictures[dataset][run.reference].confusion
    names = [cell.replace("|", "\nor ") for cell in run.data[dataset].question]
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    _heat(axis, shares, names, names, [[f"{count:,}" for count in row] for row in counts])


def _gates(run: EvalRun) -> Figure:
    sets = list(run.gates)
    adapters = list(run.gates[sets[0]][run.reference])
    weights = [[run.gates[name][run.reference][adapter] for adapter in adapters] for name in sets]
    size = (1.6 + 1.1 * len(adapters), 1.0 + 0.42 * len(sets))
    with _canvas(1, 1, size=size) as (figure, axes):
        _heat(axes[0], weights, adapters, sets, [[f"{weight:.2f}" for weight in row] for row in weights])
        caption = f"Mean weight that {run.reference} gives each adapter, by data set."
        return Figure("Gate weights", caption, _to_svg(figure))


def _suite(suite: SuiteResult) -> Figure:
    functions = suite.functions[::-1]
    with _canvas(1, 1, size=(7.5, 0.9 + 0.34 * len(functions))) as (figure, axes):
        axis = axes[0]
        for row, one in enumerate(functions):
            value = one.accuracy.value or 0.0
            low, high = one.accuracy.low, one.accuracy.high
            error = None if low is None or high is None else [[value - low], [high - value]]
            axis.barh(
                row,
                value,
                color=_COLOURS[1 if one.is_hateful else 0],
                xerr=error,
                error_kw={"elinewidth": 0.9, "capsize": 2},
            )
        axis.set_yticks(
            range(len(functions)), [f"{one.functionality} ({one.accuracy.n})" for one in functions]
        )
        axis.set(xlim=(0, 1.02), xlabel="share of right answers")
        caption = "Orange: hateful cases; blue: non-hateful. Whiskers: Wilson intervals; in brackets: cases."
        return Figure(f"Functional suite {suite.suite}", caption, _to_svg(figure))


def _heat(
    axis: Axes,
    values: Sequence[Sequence[float]],
    columns: Sequence[str],
    rows: Sequence[str],
    texts: Sequence[Sequence[str]],
) -> None:
    axis.pcolormesh(values, cmap="Blues", vmin=0, vmax=1)
    axis.invert_yaxis()
    axis.set_xticks([index + 0.5 for index in range(len(columns))], columns)
    axis.set_yticks([index + 0.5 for index in range(len(rows))], rows)
    axis.tick_params(length=0)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            colour = "white" if values[row][column] > 0.6 else "black"
            axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour)


@contextmanager
def _canvas(rows: int, columns: int, size: tuple[float, float]) -> Iterator[tuple[Any, list[Any]]]:
    """A figure without a display and its axes in reading order; `size` is that of one of them, in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as MplFigure

    with mpl.rc_context(_SETTINGS):
        figure = MplFigure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        yield figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def _to_svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    drawing = out.getvalue()
    return re.sub(r"\s*<metadata>.*?</metadata>", "", drawing[drawing.index("<svg") :], flags=re.DOTALL)
