"""Text from elsewhere (posts, manifests) on its way to a terminal."""

from __future__ import annotations

import unicodedata
from typing import Final

_FORMATTERS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional embeddings, overrides and isolates: left open, they would turn what stands around the post.
"""


def shown(text: str) -> str:
    """Text that cannot steer a terminal: controls become pictures, bidi controls their names."""
    return "".join(_shown(char) for char in text)


def _shown(char: str) -> str:
    if char == "\n":
        return char
    if char == "\t":
        return " "
    if char in _FORMATTERS:
        return f"⟨{unicodedata.name(char).title()}⟩"
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return "\ufffd" if 0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000 else char
