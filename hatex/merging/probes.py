"""The posts on which an export is compared with what it was made from: mild, invented, the same every
time.
"""

from __future__ import annotations

from itertools import product
from typing import Final

_OPENINGS: Final = ("", "Honestly, ", "@someone ", "I said it before: ", "== Talk ==\n")
_MIDDLES: Final = (
    "that football club could not win a raffle",
    "the new bridge opened this morning",
    "your referee needs glasses and so do you",
    "thank you for the lovely photographs",
    "this article needs a source for the second paragraph",
    "nobody who bakes like that should open a shop",
    "my neighbours sang until two and I joined them",
    "what a daft idea, typical of our council",
    "PLEASE STOP REVERTING MY EDITS",
    "the train was late again lol https://example.org/timetable",
)

PROBES: Final = tuple(f"{opening}{middle}." for middle, opening in product(_MIDDLES, _OPENINGS))
"""Fifty posts in the manner of microblogs, forums and talk pages."""
