"""Functional suites: small cases, each of which a detector should get right, grouped by what they test.

Any CSV with the columns functionality, case_id, test_case, label_gold and target_ident works; `label_gold` is
`hateful` or `non-hateful`. Cases that share a `templ_id` and differ in target are counterfactuals of one
another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hatex.data.files import csv_rows
from hatex.data.raw import Problem
from hatex.errors import DataError
from hatex.evaluation.bias import flip_rate
from hatex.evaluation.estimate import Array, Bootstrap, Estimate, proportion
from hatex.evaluation.metric import weighted_mean

COLUMNS: Final = ("functionality", "case_id", "test_case", "label_gold", "target_ident")
SIDES: Final = {"hateful": True, "non-hateful": False}
SHIPPED: Final = Path(__file__).parent / "suites"


@dataclass(frozen=True, slots=True)
class Case:
    functionality: str
    id: str
    text: str
    is_hateful: bool
    target: str | None
    template: str | None


@dataclass(frozen=True)
class Suite:
    name: str
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class FunctionResult:
    """Accuracy on the cases of one functionality and side; the interval is Wilson's."""

    functionality: str
    is_hateful: bool
    accuracy: Estimate


@dataclass(frozen=True)
class SuiteResult:
    """One suite under one strategy; `flip_rate` is the mean over templates of the share of pairs that
    differ.
    """

    suite: str
    strategy: str
    functions: tuple[FunctionResult, ...]
    hateful: Estimate
    non_hateful: Estimate
    flip_rate: Estimate


def find_suite(name_or_path: str) -> Path:
    """A suite that hatex ships, by bare name, or a CSV file. Raises DataError where there is neither."""
    shipped = SHIPPED / f"{name_or_path}.csv"
    path = shipped if shipped.is_file() else Path(name_or_path)
    if not path.is_file():
        names = ", ".join(sorted(each.stem for each in SHIPPED.glob("*.csv")))
        hint = f"a CSV file, or one that hatex ships: {names}"
        raise DataError("no such suite", where=name_or_path, hint=hint)
    return path


def read_suite(name_or_path: str) -> Suite:
    """Read a suite. Raises DataError, with the row where there is one (the header is row 1), for missing columns,
    rows that cannot be read, unknown gold labels, repeated ids and empty texts.
    """
    path = find_suite(name_or_path)
    cases: list[Case] = []
    try:
        for number, item in enumerate(csv_rows(path, COLUMNS), start=2):
            where = f"{path}:{number}"
            if isinstance(item, Problem):
                raise DataError(item.message, where=where)
            cases.append(_parse_case(item[1], where))
    except DataError as error:
        hint = error.hint or f"a suite is a UTF-8 CSV file with the columns {', '.join(COLUMNS)}"
        raise DataError(error.message, where=error.where, hint=hint) from error
    if not cases:
        raise DataError("no cases", where=str(path))
    if len({case.id for case in cases}) < len(cases):
        raise DataError("case_id repeats", where=str(path))
    return Suite(path.stem, tuple(cases))


def _parse_case(row: dict[str, str], where: str) -> Case:
    gold = row["label_gold"].strip()
    if gold not in SIDES:
        raise DataError("label_gold must be hateful or non-hateful", where=where)
    if not row["test_case"].strip():
        raise DataError("test_case is empty", where=where)
    return Case(
        functionality=row["functionality"].strip(),
        id=row["case_id"].strip(),
        text=row["test_case"],
        is_hateful=SIDES[gold],
        target=row["target_ident"].strip() or None,
        template=row.get("templ_id", "").strip() or None,
    )


def judge_suite(suite: Suite, strategy: str, hate: Array, bootstrap: Bootstrap) -> SuiteResult:
    """Results from P(hate) of every case, shape (cases,): hateful from .5 on."""
    if hate.shape != (len(suite.cases),):
        raise ValueError(f"one probability per case is needed, got shape {hate.shape}")
    flagged = hate >= 0.5
    is_hateful = np.array([case.is_hateful for case in suite.cases])
    correct = is_hateful == flagged
    rows: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for index, case in enumerate(suite.cases):
        rows[case.functionality, case.is_hateful].append(index)

    def share(chosen: npt.NDArray[np.int64]) -> Estimate:
        # Variants of one template mostly come out alike.
        templates = {suite.cases[i].template or i for i in chosen.tolist()}
        return proportion(correct[chosen], bootstrap.confidence, independent=len(templates))

    functions = tuple(
        FunctionResult(name, side, share(np.array(chosen)))
        for (name, side), chosen in sorted(rows.items(), key=lambda item: (not item[0][1], item[1][0]))
    )
    return SuiteResult(
        suite.name,
        strategy,
        functions,
        share(np.flatnonzero(is_hateful)),
        share(np.flatnonzero(~is_hateful)),
        _flips(suite.cases, flagged.tolist(), bootstrap),
    )


def _flips(cases: Sequence[Case], flagged: Sequence[bool], bootstrap: Bootstrap) -> Estimate:
    variants: dict[str, list[bool]] = defaultdict(list)
    for case, decision in zip(cases, flagged, strict=True):
        if case.template and case.target:
            variants[case.template].append(decision)
    rates = np.array(flip_rate(list(variants.values())))
    if not len(rates):
        return Estimate.missing("no template has two targets")
    if np.isin(rates, (0, 1)).all():
        # Resampling templates that all come out alike would claim certainty.
        return proportion(rates == 1, bootstrap.confidence)

    def mean(weights: Array) -> Array:
        return weighted_mean(rates, weights)

    return bootstrap.estimate(mean, np.arange(len(rates)), "flips")
