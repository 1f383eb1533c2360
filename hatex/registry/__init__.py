"""Bases, encoders, adapters and routers on disk: manifest, hash, atomic publish, lock, import."""

from hatex.registry.binding import base_identity, check_adapter_fits
from hatex.registry.manifest import Manifest
from hatex.registry.names import Kind
from hatex.registry.store import Artefact, Registry, open_registry

__all__ = [
    "Artefact",
    "Kind",
    "Manifest",
    "Registry",
    "base_identity",
    "check_adapter_fits",
    "open_registry",
]
