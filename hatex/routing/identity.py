"""Which model an answer is from, told by manifests alone: nothing needs to be loaded to compare two runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hatex.types import BlendSpace

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


def fallback_of(section: FallbackSection | None) -> tuple[str, float] | None:
    """A recipe's fallback as engines hold it: the strategy, and the gate weight below which it counts."""
    return None if section is None else (section.to, section.below)


def fingerprint(artefacts: Mapping[str, str], prompt: Prompt, fallback: tuple[str, float] | None) -> str:
    """Short digest of base, adapters, router, encoder (`digests`) and prompt."""
    text = "\n".join(f"{ref} {digest}" for ref, digest in sorted(artefacts.items()))
    also = "" if fallback is None else f"\n{fallback}"
    return hashlib.sha256(f"{text}\n{prompt}{also}".encode()).hexdigest()[:12]


def model_id(fingerprint: str, strategy: str, space: BlendSpace) -> str:
    """What a verdict's `model` says: fingerprint and strategy (and the blend space, if not `delta`)."""
    return "-".join([fingerprint, strategy, *([] if space == "delta" else [space])])
