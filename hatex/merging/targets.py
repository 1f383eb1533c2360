"""Folders that exports are written to: which kinds there are, what each holds, and what may be replaced."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from hatex.errors import UsageError
from hatex.model.quantizing import TOKENIZER_FILES
from hatex.registry.peft_config import CONFIG, WEIGHTS

Export = Literal["peft", "hf", "nf4", "gguf-lora"]

CARD: Final = "README.md"
CARD_BEGINS: Final = "A merge of LoRA adapters by "
"""Stands in the card of every merge, and so tells an export from other folders."""
_MODEL: Final = ("config.json", "model*.safetensors", "model.safetensors.index.json", *TOKENIZER_FILES)
_FILES: Final[dict[Export, tuple[str, ...]]] = {
    "peft": (CONFIG, WEIGHTS),
    "hf": _MODEL,
    "nf4": _MODEL,
    "gguf-lora": ("*.gguf",),
}
"""What an export holds beside its card."""


def check_free(kind: Export, target: Path, *, replace: bool) -> None:
    """Raise UsageError where something stands at `target`, unless an earlier export may be replaced: only what hatex
    wrote itself is ever removed.
    """
    if not target.exists() and not target.is_symlink():
        return
    if not replace:
        raise UsageError(
            "that folder exists", where=str(target), hint="name another --output, or use --replace"
        )
    if foreign := _foreign(kind, target):
        raise UsageError(
            f"is no earlier {kind} export ({foreign}), so it is not replaced",
            where=str(target),
            hint="name another --output, or move it away",
        )


def _foreign(kind: Export, target: Path) -> str | None:
    """What shows that hatex did not write a folder, or not all of it; an empty one is anybody's."""
    if target.is_symlink() or not target.is_dir():
        return "it is no folder"
    held = sorted(target.iterdir())
    for path in held:
        is_known = any(fnmatchcase(path.name, name) for name in (CARD, *_FILES[kind]))
        if not is_known or not path.is_file() or path.is_symlink():
            return f"it holds {path.name}"
    card = target / CARD
    if held and not (card.exists() and CARD_BEGINS in card.read_text(encoding="utf-8", errors="replace")):
        return f"its {CARD} is not that of a merge" if card.exists() else f"it has no {CARD}"
    return None
