"""Control tokens of a base (`</s>`, `<filename>`): a post that writes one must not put it into the prompt."""

from __future__ import annotations

import re
from functools import lru_cache
from string import punctuation
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerBase

_EDGE = f"[{re.escape(punctuation)}]"
_BRACKETED = re.compile(rf"{_EDGE}.*\w.*{_EDGE}")


@lru_cache(maxsize=8)
def control_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """What matches wherever a text holds a control token of this tokenizer, with any white space for its own."""
    added = tokenizer.added_tokens_decoder.values()
    contents = {token.content.strip() for token in added if _is_control(token)}
    options = [
        r"\s+".join(map(re.escape, each.split())) for each in sorted(contents, key=lambda c: (-len(c), c))
    ]
    return re.compile("|".join(options) or "(?!)")


def _is_control(token: AddedToken) -> bool:
    """Special tokens, and added ones written like them (`<tool_call>`); an added word or emoji is vocabulary that a
    base was taught, and so is a single character that a base pads with.
    """
    content = token.content.strip()
    return len(content) > 1 and (token.special or _BRACKETED.fullmatch(content) is not None)
