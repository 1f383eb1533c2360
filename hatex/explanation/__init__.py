"""Explanations: fields decoded under a grammar, evidence by deletion, sentences composed from both.

This package stands below the engine and asks of it no more than `ExplainEngine`.
"""

from hatex.explanation.explain import Explainer, explain_posts
from hatex.explanation.protocol import ExplainEngine, ExplainOptions, GradientEngine, TokenConstraint
from hatex.explanation.report import AdapterAnswer, PostReport, report_record

__all__ = [
    "AdapterAnswer",
    "ExplainEngine",
    "ExplainOptions",
    "Explainer",
    "GradientEngine",
    "PostReport",
    "TokenConstraint",
    "explain_posts",
    "report_record",
]
