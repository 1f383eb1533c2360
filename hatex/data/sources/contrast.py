"""Invented sentences in contrast: hostility and its denial, report or opposite, with the same groups and words.

In the manner of contrast sets (Gardner et al., Findings of EMNLP 2020), written for hatex as training rows only. The
sentences stand in `hatex/data/contrast/sentences.yaml`; a recipe's `path` names another book of that folder (`insults`)
or a file of the same form instead.
Each sentence is filled `per_sentence` times, every time with the next entries of its slots in a fixed order.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hatex.data.raw import Item, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.votes import parse_label_set
from hatex.errors import DataError
from hatex.types import Vote

SHIPPED: Final = Path(__file__).parent.parent / "contrast"
SENTENCES: Final = SHIPPED / "sentences.yaml"

INFO = SourceInfo(
    name="contrast",
    licence="Apache-2.0",
    source="hatex/data/contrast/sentences.yaml",
    cite="the form: Gardner et al. Findings of EMNLP 2020",
    files=(),
    votes="one vote of the author: {neutral}, {offensive}, {hate}, or {neutral, offensive} for insults without a group",
)

# Coprime to the length of any list that is no multiple of it, so that fillings do not repeat early.
STEP: Final = 11
_SLOT = re.compile(r"\{(\w+)\}")


def find_files(spec: SourceSpec) -> Sequence[Path]:
    """One book of sentences: the recipe's, by its path or by the bare name of a shipped one."""
    if spec.path is None:
        return [SENTENCES]
    shipped = SHIPPED / f"{spec.path}.yaml"
    return [shipped if shipped.is_file() else Path(spec.path)]


def read(spec: SourceSpec) -> Iterator[Item]:
    (path,) = find_files(spec)
    book = _load(path)
    row = 0
    for family in book["families"]:
        names = family["label"] if isinstance(family["label"], list) else [family["label"]]
        vote = Vote(parse_label_set("|".join(names)))
        for number, sentence in enumerate(family["sentences"], start=1):
            for turn, text in enumerate(_fillings(sentence, book["slots"], family["per_sentence"]), start=1):
                row += 1
                yield RawPost(
                    id=f"{family['name'].replace(' ', '-')}-{number}-{turn}",
                    dataset=spec.name or INFO.name,
                    text=text,
                    votes=(vote,),
                    file=str(path),
                    row=row,
                    part="train",
                )


def _load(path: Path) -> dict[str, Any]:
    """Raise DataError for a file that is no book of sentences, or names a slot that it does not fill."""
    try:
        book = YAML(typ="safe").load(path.read_text("utf-8"))
        sentences = [text for family in book["families"] for text in family["sentences"]]
        used = {slot for text in sentences for slot in _SLOT.findall(text)}
        if missing := sorted(used - book["slots"].keys()):
            raise DataError(f"sentences use slots without fillings: {', '.join(missing)}", where=str(path))
        for family in book["families"]:
            _ = family["name"], family["label"], int(family["per_sentence"])
    except (YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"not a file of contrast sentences ({type(error).__name__})",
            where=str(path),
            hint=f"see {INFO.source}: slots, and families of name, label, per_sentence and sentences",
        ) from error
    return dict(book)


def _fillings(sentence: str, slots: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """Up to `count` different sentences; which entries come first depends on the sentence alone."""
    names = _SLOT.findall(sentence)
    if not names:
        return [sentence]
    start = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:4], "big")
    texts = dict.fromkeys(_filled(sentence, slots, start + STEP * turn) for turn in range(count))
    return list(texts)


def _filled(sentence: str, slots: Mapping[str, Sequence[str]], at: int) -> str:
    text = _SLOT.sub(lambda found: slots[found[1]][at % len(slots[found[1]])], sentence)
    begins_with_slot = sentence.startswith("{") and not text.startswith("[")
    return text[0].upper() + text[1:] if begins_with_slot else text


SOURCE = Source(INFO, read, find_files)
