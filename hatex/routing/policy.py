"""What happens to a post: `flag`, `review` or `allow`, and why a post that reads harmless is reviewed all the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hatex.data.languages import NO_WORDS, UNDETERMINED, detect_language
from hatex.types import Decision, Label, Policy

# Below this many words a language is a guess.
LEAST_WORDS = 5
LEAST_PROBABILITY = 0.95
_WORD = re.compile(r"[^\W\d_]{2,}")


def decide(
    text: str, probabilities: Mapping[Label, float], disagreement: float, policy: Policy
) -> tuple[Decision, tuple[str, ...]]:
    """The decision as `types.Policy` says, and its reasons where the post itself gave them.

    The engine reads the languages of `policy` alone: a post that it would allow goes to review where it is surely in
    another one (posts of a few words are not judged), or holds no words at all.
    """
    if probabilities["hate"] >= policy.flag_hate:
        return "flag", ()
    if probabilities["neutral"] < policy.review_neutral or disagreement > policy.review_disagreement:
        return "review", ()
    reason = unread(text, policy.languages) if policy.languages else None
    return ("allow", ()) if reason is None else ("review", (reason,))


def unread(text: str, languages: tuple[str, ...]) -> str | None:
    """Why nobody should trust an answer to this post: `not readable`, or `language: CODE`; None if they may."""
    code = detect_language(text, LEAST_PROBABILITY)
    if code == NO_WORDS:
        return "not readable"
    if code == UNDETERMINED or code in languages or len(_WORD.findall(text[:1000])) < LEAST_WORDS:
        return None
    return f"language: {code}"
