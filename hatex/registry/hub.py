"""Snapshots from the Hugging Face hub: safetensors and JSON only, pinned to a commit, never remote code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hatex.errors import FetchError

PATTERNS: Final = ("*.safetensors", "*.json", "*.txt", "tokenizer.model", "README.md")
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A hub repository at one commit, on disk."""

    folder: Path
    hub: str
    revision: str


def is_hub_id(text: str) -> bool:
    """Whether `text` looks like OWNER/NAME."""
    return _HUB_ID.fullmatch(text) is not None


def fetch_snapshot(hub: str, revision: str | None = None) -> Snapshot:
    """Fetch what hatex may read of a repository; the token comes from HF_TOKEN or the hub's own login.

    Raises `FetchError`, also where the hub cannot be reached and nothing is cached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the base of all that break a connection

    try:
        folder = snapshot_download(hub, revision=revision, allow_patterns=list(PATTERNS))
    except (HTTPError, OSError, ValueError) as error:  # a broken connection, nothing cached, no hub id
        raise FetchError(
            f"could not fetch {hub}: {type(error).__name__}",
            where=hub,
            hint="check the id, the network, and your access (HF_TOKEN or `hf auth login`)",
        ) from error
    # A snapshot folder is named after the commit it holds.
    return Snapshot(Path(folder), hub, Path(folder).name)


def card_licence(folder: Path) -> str | None:
    """The licence that a folder's README.md names in its front matter, if any."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    from huggingface_hub.repocard import metadata_load

    try:
        metadata: Any = metadata_load(card)
    except Exception:  # foreign YAML may fail in many ways; a card that cannot be read names no licence
        return None
    licence = metadata.get("license") if isinstance(metadata, dict) else None
    return licence if isinstance(licence, str) else None
