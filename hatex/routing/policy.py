"""What happens to a post: `flag`, `review` or `allow`, and why a post that reads harmless is reviewed all the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hatex.data.cleaning import IGNORABLES, clean
from hatex.data.languages import check_language, rank_languages
from hatex.errors import RecipeError, UsageError
from hatex.types import Decision, Label, Policy

if TYPE_CHECKING:
    from hatex.recipe import Recipe

# Below this many words a language is a guess.
LEAST_WORDS = 5
LEAST_PROBABILITY = 0.001
"""A post that is less likely than this in all of the policy's languages together is in another one.

Of 7,487 English report posts of five words and more, 12 are held to be foreign.
"""
# Letters of scripts that put no spaces between words; two of them count as one.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]{{2}}|[^\W\d_{_UNSPACED}]{{2,}}")


def check_policy(recipe: Recipe) -> None:
    """Raise RecipeError, each at its place, for languages that would send every post to review."""
    problems = []
    for number, code in enumerate(recipe.route.policy.languages):
        try:
            check_language(code)
        except UsageError as error:
            path = ("route", "policy", "languages", number)
            problems.append(recipe.problem(path, f"{error.message} ({error.hint})"))
    if problems:
        raise RecipeError(problems)


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
    text = IGNORABLES.sub("", clean(text).text)
    ranked = rank_languages(text)
    if not ranked:
        return "not readable"
    is_read = sum(ranked.get(code, 0.0) for code in languages) >= LEAST_PROBABILITY
    if is_read or len(_WORD.findall(text[:1000])) < LEAST_WORDS:
        return None
    return f"language: {next(iter(ranked))}"
