"""Router accuracy, calibration and out-of-distribution AUROC by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.router import mean_gates, router_quality

GATES = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.55, 0.45]])


def test_quality_by_hand():
    got = router_quality(GATES, np.array([0, 1, 1, -1]), np.arange(4), Bootstrap(1, 100))
    assert got.accuracy.value == pytest.approx(2 / 3)
    assert got.accuracy.n == 3
    # Known posts weigh .9 (right), .6 (wrong), .8 (right), one a bin: (.1 + .6 + .2) / 3.
    assert got.calibration_error.value == pytest.approx(0.9 / 3, abs=1e-9)
    assert got.ood_auroc.value == 1.0  # .55 is below every known post.


def test_without_strangers_or_homes_it_says_so():
    known = router_quality(GATES, np.array([0, 0, 1, 1]), np.arange(4), Bootstrap(1, 50))
    assert "platform with an adapter" in str(known.ood_auroc)
    strangers = router_quality(GATES, np.full(4, -1), np.arange(4), Bootstrap(1, 50))
    assert strangers.accuracy.value is None
    assert set(strangers.to_json()) == {"accuracy", "calibration_error", "ood_auroc"}


def test_mean_gates():
    assert mean_gates(GATES) == pytest.approx([0.5625, 0.4375])
