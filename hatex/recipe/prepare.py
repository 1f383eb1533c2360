"""Recipe section `prepare`: raw rows to examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from hatex.recipe.section import Section


class ColumnsSection(Section):
    """Which columns of a `table` source hold what."""

    text: str
    """The post."""
    id: str | None = None
    """A name for the row; the row number if absent."""
    label: str | None = None
    """One label a row, translated by `labels`."""
    annotator: str | None = None
    """Who gave the row's `label`, where every row is one person's annotation: rows of one `id` become one post."""
    annotator_group: str | None = None
    """The group that the row's annotator belongs to."""
    annotators: tuple[str, ...] = ()
    """Columns that hold one annotator's label each; the column is the annotator's name."""
    votes: str | None = None
    """A list of labels, one an annotator; in CSV a JSON list or labels parted by `;`."""
    counts: dict[str, str] = Field(default_factory=dict)
    """Label set (such as `hate` or `offensive|hate`) to the column that counts its votes."""
    targets: str | None = None
    """Groups the post is about: a list, or names parted by `;`. An empty list, or cell of a CSV file: people were asked
    and named none; null: nobody was asked."""
    spans: str | None = None
    """Harmful characters: a list of `[start, end]` or of `{start, end, annotator, kind}`. An empty list, or cell of a
    CSV file: people were asked and marked none; null: nobody was asked."""
    context: str | None = None
    """What the post answers."""
    split: str | None = None
    """Official part: train, dev or test (`validation` and `valid` are dev)."""
    group: str | None = None
    """Author, thread or the like: rows that share it never straddle splits."""

    @model_validator(mode="after")
    def _one_kind_of_votes(self) -> Self:
        given = [self.label is not None, bool(self.annotators), self.votes is not None, bool(self.counts)]
        if sum(given) != 1:
            raise ValueError("name exactly one of label, annotators, votes and counts")
        if self.annotator is not None and (self.label is None or self.id is None):
            raise ValueError("annotator needs label and id: rows of one id become one post")
        if self.annotator_group is not None and self.annotator is None:
            raise ValueError("annotator_group needs annotator")
        return self


class SourceSection(Section):
    """One data set."""

    source: str
    """Name of a reader in `hatex.data.sources`, such as `davidson`, or `table`."""
    path: str | None = None
    """File or folder. Quotation marks in a TSV file are text, unless the header or most of the fields that begin with
    one use them as CSV does."""
    hub: str | None = None
    """Hub id of the data set, for readers that take one, such as `civil_comments`."""
    revision: str | None = None
    """Commit of the hub repository."""
    platform: str
    """Platform family the posts belong to."""
    name: str | None = None
    """Name of the data set in outputs; the reader's own name if absent."""
    limit: int | None = Field(default=None, gt=0)
    """Keep a seeded sample of this many rows."""
    official_splits: bool = True
    """Respect the source's own train, dev and test parts; `false`: cut all of its rows anew. A table's parts are those
    of its `split` column, else of its file names (`posts_train.csv`) or hub splits where these name two parts or more;
    a file that is named alone is no part.
    """
    sha256: dict[str, str] = Field(default_factory=dict)
    """File name to the hash that it must have."""
    columns: ColumnsSection | None = None
    """Columns of a `table`."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Values of a `table`'s labels to label sets: `toxic: offensive|hate`."""
    groups: dict[str, str | None] = Field(default_factory=dict)
    """Target names of a `table` to names of the closed list (the recipe's `groups`), null for none; others stay as they
    are, and the card counts those that the list does not have."""

    @property
    def unread(self) -> list[str]:
        """Keys that only a `table` reads, and this source has."""
        mapped = {"columns": self.columns, "labels": self.labels, "groups": self.groups}
        return [] if self.source == "table" else [name for name, value in mapped.items() if value]

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.revision is not None and self.hub is None:
            raise ValueError("revision: only for a hub id")
        if self.source == "contrast" and self.path is None and self.hub is None:
            return self  # the sentences that hatex ships
        if (self.path is None) == (self.hub is None):
            raise ValueError("name exactly one of path and hub")
        return self


def check_names(sources: Sequence[SourceSection]) -> None:
    """Raise ValueError for two sources of one name."""
    names = [source.name or source.source for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two sources are named {', '.join(twice)}: give one of them a `name`")


class LanguageSection(Section):
    keep: tuple[str, ...] = ()
    """ISO 639-1 codes to keep, `und` (cannot be told) and `zxx` (no words) among them; empty: keep all."""
    min_probability: float = Field(default=0.8, gt=0, le=1)
    """A language is named from this probability on; below it is `und`."""


class DuplicateSection(Section):
    threshold: float = Field(default=0.65, gt=0, le=1)
    """Posts whose word sets overlap this much (Jaccard, estimated) rarely straddle splits: nearly all are found,
    down to .27."""
    exact: Literal["keep", "drop"] = "keep"
    """`drop`: of posts of one data set with the same text and the same votes, only the first stays."""


class HoldoutSection(Section):
    files: tuple[str, ...] = ()
    """Texts (.txt, .jsonl, .csv, .parquet) whose copies and near-copies leave train and tune."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """Overlap of word sets (Jaccard, exact) from which a post counts as a near-copy."""


class AnnotateSection(Section):
    """Explanations written by a model behind an OpenAI-compatible endpoint, from the human labels."""

    url: str
    """Base address of the API, up to and with `/v1`."""
    model: str
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; an empty one sends no key."""
    max_requests: int = Field(gt=0)
    """Cap on requests of one run, retries included."""
    requests_per_minute: float = Field(default=60, gt=0)
    max_attempts: int = Field(default=4, gt=0)
    """Tries for one post: transport failures, refusals by rate and invalid answers."""
    timeout_s: float = Field(default=60, gt=0)
    max_tokens: int = Field(default=400, gt=0)
    """Length of an answer."""
    temperature: float = Field(default=0, ge=0)
    splits: tuple[Literal["train", "tune", "report"], ...] = ("train",)
    """Splits whose posts are annotated."""
    limit: int | None = Field(default=None, gt=0)
    """Annotate a seeded sample of this many posts."""


CleaningStep = Literal[
    "entities",
    "controls",
    "ignorables",
    "compatibility",
    "confusables",
    "nfc",
    "links",
    "emails",
    "phones",
    "users",
]


class PrepareSection(Section):
    output: str
    """Folder for examples.parquet, card.json and card.md."""
    sources: tuple[SourceSection, ...] = Field(min_length=1)
    seed: int = 4761
    tune_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of each set without official dev data that people may choose on."""
    report_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of each set without official dev data that printed figures come from."""
    on_error: Literal["skip", "fail"] = "skip"
    """`skip` leaves bad rows out and counts them, up to `max_error_share`; `fail` accepts none."""
    max_error_share: float = Field(default=0.01, ge=0, le=1)
    """Problems per row of a source from which the run fails."""
    cleaning: tuple[CleaningStep, ...] = get_args(CleaningStep)
    """Cleaning steps; they always run in this order."""
    languages: LanguageSection = LanguageSection()
    duplicates: DuplicateSection = DuplicateSection()
    holdout: HoldoutSection = HoldoutSection()
    annotate: AnnotateSection | None = None
    num_proc: int = Field(default=1, gt=0)
    """Processes that clean and hash; the bytes of the result do not depend on it."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        check_names(self.sources)
        if self.tune_share + self.report_share >= 1:
            raise ValueError("tune_share and report_share leave nothing to train on")
        return self
