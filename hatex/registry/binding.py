"""What a base *is*, and which adapters may be put on it."""

from __future__ import annotations

from hatex.errors import RegistryError
from hatex.registry.manifest import Manifest


def base_identity(
    *,
    sha256: str | None = None,
    hub: str | None = None,
    revision: str | None = None,
    quantization: str = "nf4",
    block_size: int = 64,
    double: bool = True,
) -> str:
    """Identity of a base: its source plus the quantisation settings, never the quantised bytes.

    The source is the sha256 of the source file, or a hub id with its revision (a commit). NF4 bytes may
    differ between library versions; the values an adapter was trained on are fixed by what this string names.
    """
    if sha256 is not None:
        source = f"sha256:{sha256}"
    elif hub is not None and revision is not None:
        source = f"hub:{hub}@{revision}"
    else:
        raise ValueError("a base is identified by sha256, or by hub and revision")
    return f"{source}+{quantization}{'-double' if double else ''}-{block_size}"


def check_adapter_fits(base: Manifest, adapter: Manifest) -> None:
    """Raise `RegistryError` unless `adapter` is bound to `base`.

    An adapter with an identity needs exactly that base. An imported adapter that only names its base is bound
    by name.
    """
    if adapter.base_identity is None:
        if adapter.base == base.name:
            return
        reason = f"it names base {adapter.base!r}"
    elif adapter.base_identity == base.base_identity:
        return
    else:
        reason = f"it is bound to {adapter.base_identity}, this base is {base.base_identity}"
    raise RegistryError(
        f"adapter {adapter.name!r} does not fit base {base.name!r}: {reason}",
        hint="train it on this base, or use the base it was trained on",
    )
