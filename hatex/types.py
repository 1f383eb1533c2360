"""The words that every part of hatex shares: labels, votes, examples, verdicts, explanations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal, Protocol

Label = Literal["neutral", "offensive", "hate"]
LabelSet = tuple[Label, ...]
Platform = str
Split = Literal["train", "tune", "report", "test"]
Decision = Literal["allow", "review", "flag"]
BlendSpace = Literal["delta", "probability", "reference"]
ExplanationStyle = Literal["composed", "generated"]
EvidenceMethod = Literal["leave-out", "gradient", "none"]

LABELS: Final[tuple[Label, ...]] = ("neutral", "offensive", "hate")
LABEL_SETS: Final[tuple[LabelSet, ...]] = tuple(
    labels for size in (1, 2, 3) for labels in combinations(LABELS, size)
)
"""All seven non-empty label sets, in the order every vote-share vector uses."""

OUTPUT_SCHEMA: Final = 1
"""The `schema` number of every JSON object that hatex writes for other programs."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What `count` annotators said of a post: the *set* of labels their answer is compatible with.

    A Stormfront `noHate` is `("neutral", "offensive")`: the annotator was never asked to tell the two apart.
    """

    labels: LabelSet
    count: int = 1
    annotator: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Rationale:
    """Characters `start:end` of the post (code points) that people pointed at as harmful."""

    start: int
    end: int
    annotator: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One annotated post after cleaning.

    `has_rationales` is False where nobody was asked or the answer is not known: a rationale loss masks such rows.
    With `has_rationales` and no `rationales`, people were asked (or the post is neutral) and marked nothing.
    `group` names what must not straddle splits (thread, comment, near-duplicate cluster).
    """

    id: str
    dataset: str
    platform: Platform
    text: str
    votes: tuple[Vote, ...]
    split: Split
    group: str
    targets: tuple[str, ...] = ()
    has_targets: bool = False
    rationales: tuple[Rationale, ...] = ()
    has_rationales: bool = False
    context: str | None = None
    language: str | None = None
    explanation: Mapping[str, Any] | None = None

    @property
    def is_fully_labelled(self) -> bool:
        """Whether every vote names exactly one label."""
        return all(len(vote.labels) == 1 for vote in self.votes)


@dataclass(frozen=True, slots=True)
class AffectedGroup:
    """`probability` that the post harms the group: 1 - P(neutral), times that of the group if the post harms at all."""

    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class HarmfulWord:
    """Characters `start:end` of the post as given; `text == post[start:end]`; `weight` in [0, 1]."""

    text: str
    start: int
    end: int
    group: str | None
    weight: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """How much P(label) falls when characters `start:end` are taken out (or what its gradients attribute to them);
    negative: they speak against the label.
    """

    text: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class Change:
    """What the verdict would be without characters `spans` of the post, taken out together."""

    spans: tuple[tuple[int, int], ...]
    label: Label
    probability: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a post has its label.

    `affected_groups` are ordered by probability, likeliest first. `word_weights` holds, for every word of the post as
    the prompt shows it, how much it carries the label, 0 to 1, and `word_spans` the characters that it stands for;
    `change` is the smallest change of the post that was tried and found to turn the label, or the largest that did not;
    `is_complete` is False where the answer was cut by its token budget, or could not go on, which JSON says too. The
    others of these, and `evidence_method`, are not part of its contract.
    """

    style: ExplanationStyle
    summary: str
    affected_groups: tuple[AffectedGroup, ...]
    harmful_words: tuple[HarmfulWord, ...]
    reason: str
    evidence: tuple[Evidence, ...] = ()
    word_weights: tuple[float, ...] = ()
    word_spans: tuple[tuple[int, int], ...] = ()
    change: Change | None = None
    evidence_method: EvidenceMethod = "leave-out"
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen: temperature 0 takes the likeliest; `top_p` keeps the likeliest tokens of that mass."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The engine's answer to one post; `route`, `explain` and `eval` all read this."""

    label: Label
    probabilities: Mapping[Label, float]
    gates: Mapping[str, float]
    strategy: str
    disagreement: float
    disagreement_basis: Literal["votes", "model"]
    decision: Decision
    model: str
    reasons: tuple[str, ...] = ()
    """Why a post that reads harmless goes to review: `language: de`, `not readable`."""
    truncated: bool = False
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """When a post is flagged, reviewed or allowed (see `Verdict.decision`)."""

    flag_hate: float = 0.5
    review_neutral: float = 0.5
    review_disagreement: float = 0.8
    languages: tuple[str, ...] = ("en",)
    """ISO 639-1 codes of the languages that the adapters read; empty: posts are not sent to review for theirs."""


class Progress(Protocol):
    """Where workflows report how far they are; the console draws it on stderr, tests pass `NO_PROGRESS`."""

    def task(
        self, description: str, total: float | None = None, unit: str = ""
    ) -> AbstractContextManager[Callable[[float], None]]:
        """A context whose value advances the bar by the given number of units."""
        ...

    def say(self, message: str) -> None:
        """One line of narration."""
        ...


@dataclass(frozen=True)
class _NoProgress:
    @contextmanager
    def task(
        self, description: str, total: float | None = None, unit: str = ""
    ) -> Iterator[Callable[[float], None]]:
        del description, total, unit
        yield lambda _: None

    def say(self, message: str) -> None:
        del message


NO_PROGRESS: Final[Progress] = _NoProgress()
