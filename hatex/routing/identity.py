"""Which model an answer is from, told by manifests alone: nothing needs to be loaded to compare two runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hatex.types import BlendSpace, Policy

if TYPE_CHECKING:
    from hatex.data.prompts import Prompt
    from hatex.recipe.route import FallbackSection
    from hatex.registry import Artefact


def digests(*artefacts: Artefact) -> dict[str, str]:
    """What each artefact is, by its reference.

    A base is what it was made from: NF4 bytes may differ between library versions.
    """
    return {
        a.ref: (a.manifest.base_identity if a.kind == "base" else None) or a.manifest.digest
        for a in artefacts
    }


@dataclass(frozen=True)
class Settings:
    """What decides an answer beside the artefacts. How fast it comes (batches, compiling, devices) is not in here.

    `explain` are the engine's options of explaining, of which this layer knows no more than how they are written.
    """

    prompt: Prompt
    policy: Policy
    fallback: tuple[str, float] | None
    groups: tuple[str, ...]
    max_tokens: int
    encoder_tokens: int
    explain: object


def fallback_of(section: FallbackSection | None) -> tuple[str, float] | None:
    """A recipe's fallback as engines hold it: the strategy, and the gate weight below which it counts."""
    return None if section is None else (section.to, section.below)


def fingerprint(artefacts: Mapping[str, str], settings: Settings) -> str:
    """Short digest of base, adapters, router, encoder (`digests`) and of the settings they answer by."""
    text = "\n".join(f"{ref} {digest}" for ref, digest in sorted(artefacts.items()))
    return hashlib.sha256(f"{text}\n{settings}".encode()).hexdigest()[:12]


def model_id(fingerprint: str, strategy: str, space: BlendSpace) -> str:
    """What a verdict's `model` says: fingerprint and strategy (and the blend space, if not `delta`)."""
    return "-".join([fingerprint, strategy, *([] if space == "delta" else [space])])
