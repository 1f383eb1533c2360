"""Explanations written by a model from the human labels, as the research system did."""

from __future__ import annotations

from hatex.data.annotation.run import AnnotationReport, annotate
from hatex.data.annotation.settings import AnnotateSettings

__all__ = ["AnnotateSettings", "AnnotationReport", "annotate"]
