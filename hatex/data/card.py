"""The data card of a prepared folder: JSON for programs, markdown for people; counts only, never a post."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hatex.data.raw import SourceInfo
from hatex.data.splits import CAP
from hatex.data.tally import Tally

CARD_SCHEMA: Final = 1
CARD_JSON: Final = "card.json"
"""Its name, beside the examples."""
LISTED_PROBLEMS: Final = 20
LISTED_TARGETS: Final = 10


def source_record(
    name: str, platform: str, info: SourceInfo, hashes: dict[str, str], tally: Tally
) -> dict[str, Any]:
    """What the card says of one source."""
    kinds = Counter(problem.kind for problem in tally.problems)
    shown = [{"file": Path(p.file).name, "row": p.row, "message": p.message} for p in tally.problems]
    record = tally.to_json()
    return {
        "name": name,
        "platform": platform,
        "licence": info.licence,
        "source": info.source,
        "cite": info.cite,
        "votes": info.votes,
        "rationales": info.rationales,
        "sha256": hashes,
        **{key: record[key] for key in ("rows", "by_file", "kept", "edited", "left_out", "notes")},
        "problems": {"count": len(tally.problems), "kinds": dict(sorted(kinds.items()))},
        "first_problems": shown[:LISTED_PROBLEMS],
    }


def card_json(card: dict[str, Any]) -> str:
    return json.dumps(card, indent=2, ensure_ascii=False) + "\n"


def card_markdown(card: dict[str, Any]) -> str:
    """The same card for a reader."""
    examples = card["examples"]
    lines = [
        "# Data card",
        "",
        "> Content warning: the examples are annotated posts, some hateful. This card holds counts only.",
        "",
        f"{examples['rows']:,} examples in `{examples['file']}` (sha256 `{examples['sha256']}`), "
        f"prepared by hatex {card['hatex']} with seed {card['seed']}.",
        "",
        "## Splits",
        "",
        *_table(
            ("data set", "platform", *card["splits"], "rows", "tied", "alpha", "votes a post"),
            [_split_row(name, data, card["splits"]) for name, data in card["datasets"].items()],
        ),
        "",
        "`alpha` is Krippendorff's, nominal over the label sets that votes name. `tied` posts have two or",
        "more label sets with equally many votes; they are kept.",
        "",
        "## Votes",
        "",
        *_table(
            ("data set", "label set", "votes"),
            [
                (name, f"{{{labels.replace('|', ', ')}}}", f"{count:,}")
                for name, data in card["datasets"].items()
                for labels, count in data["votes"].items()
            ],
        ),
        "",
        "## Lengths, targets, rationales",
        "",
        *_table(
            ("data set", "words: median", "p95", "max", "with targets", "with rationales", "annotators"),
            [_length_row(name, data) for name, data in card["datasets"].items()],
        ),
        "",
        *_fate_lines(card),
        *_source_lines(card["sources"]),
    ]
    return "\n".join(lines) + "\n"


def _split_row(name: str, data: dict[str, Any], splits: Sequence[str]) -> tuple[str, ...]:
    alpha = "" if data["agreement"] is None else f"{data['agreement']:.3f}"
    counts = [f"{data['splits'].get(split, 0):,}" for split in splits]
    votes = f"{data['votes_per_post']['mean']:.2f}"
    return (name, data["platform"], *counts, f"{data['rows']:,}", f"{data['tied']:,}", alpha, votes)


def _length_row(name: str, data: dict[str, Any]) -> tuple[str, ...]:
    words = data["words"]
    numbers = (words["median"], words["p95"], words["max"], data["with_targets"], data["with_rationales"])
    return (name, *(f"{number:,}" for number in numbers), f"{data['annotators']:,}")


def _fate_lines(card: dict[str, Any]) -> list[str]:
    dropped = [
        (reason, name, f"{count:,}")
        for reason, by_set in card["dropped"].items()
        for name, count in by_set.items()
    ]
    repeats = [(kind, f"{count:,}") for kind, count in card["repeats"].items()]
    languages = [(code, f"{count:,}") for code, count in card["languages"].items()]
    lines = ["## Dropped, and why", ""]
    lines += _table(("reason", "data set", "posts"), dropped) if dropped else ["Nothing."]
    lines += ["", "## Repeated texts (they share a split)", "", *_table(("posts with the", "count"), repeats)]
    if card["capped"]:
        lines += ["", *(f"- {name}: {count:,} {CAP}" for name, count in card["capped"].items())]
    lines += ["", "## Languages (py3langid)", "", *_table(("code", "posts"), languages), ""]
    if warnings := [*card["warnings"], *unknown_target_warnings(card["unknown_targets"])]:
        lines += ["## Warnings", "", *(f"- {warning}" for warning in warnings), ""]
    return lines


def unknown_target_warnings(targets: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A sentence for each data set with targets that the list of groups does not have; it holds their counts."""
    warnings = []
    for name, counts in targets.items():
        shown = [f"{target} ({count:,})" for target, count in list(counts.items())[:LISTED_TARGETS]]
        if len(counts) > len(shown):
            shown.append(f"{len(counts) - len(shown):,} more")
        warnings.append(
            f"{name}: targets outside the list of groups, which no explanation will name: {', '.join(shown)}; "
            "map them by `groups` of the source, or put them on the recipe's own list, `groups`"
        )
    return warnings


def _source_lines(sources: list[dict[str, Any]]) -> list[str]:
    lines = ["## Sources", ""]
    for source in sources:
        lines += [
            f"### {source['name']}",
            "",
            f"- licence: {source['licence']}",
            f"- from: {source['source']}",
            f"- cite: {source['cite']}",
            f"- votes: {source['votes']}",
            f"- rationales: {source['rationales']}",
            f"- rows: {source['rows']:,}; kept {source['kept']:,}; cleaned {source['edited']:,}",
        ]
        lines += [f"- `{file}`: {count:,} rows" for file, count in source["by_file"].items()]
        lines += [f"- left out: {reason}: {count:,}" for reason, count in source["left_out"].items()]
        lines += [f"- kept, but noted: {what}: {count:,}" for what, count in source["notes"].items()]
        lines += [f"- problem: {kind}: {count:,}" for kind, count in source["problems"]["kinds"].items()]
        lines += [f"- sha256 `{file}`: `{digest}`" for file, digest in source["sha256"].items()]
        lines.append("")
    return lines


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(header), line(["---"] * len(header)), *(line(row) for row in rows)]
