"""How sure the model was of every item of a list, read off the one answer it gave.

A pick field is a walk through a list: from each pick the answer goes to a later item or ends. At every step
the model gives P(next = j). Whether item j is named, given all that was decided before it, has by the chain
rule probability P(next = j) / P(next >= j or end), the discrete hazard of j. One greedy answer so yields a
probability for every item, named or passed over, with no further model call.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hatex.data.prompts import NONE, TARGET_SEPARATOR, WORD_SEPARATOR
from hatex.explanation.answer import Answer, AnswerForm, Field, Picks
from hatex.explanation.grammar import AnswerGrammar, Step

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Walk:
    """One field of one answer with the steps that wrote it."""

    answer: bytes
    steps: Sequence[Step]
    token_bytes: Callable[[int], bytes]

    def shares(self, position: int, candidates: Sequence[bytes], chosen: int | None = None) -> Floats:
        """P of each candidate continuation at byte `position`, shape (candidates,), sum at most 1.

        A token is credited to the candidates whose longest allowed beginning it is, in equal parts; the
        candidate that was chosen gets what its tokens say, the others of its first token share the rest.
        """
        place = bisect_right([step.offset for step in self.steps], position) - 1
        step = self.steps[place]
        prefix = self.answer[step.offset : position]
        allowed: dict[bytes, float] = defaultdict(float)
        for token, p in zip(step.tokens.tolist(), step.probabilities.tolist(), strict=True):
            allowed[self.token_bytes(token)] += p
        owners: dict[bytes, list[int]] = defaultdict(list)
        partial: dict[bytes, list[int]] = defaultdict(list)
        first_seen: set[bytes] = set()
        for k, text in enumerate(candidates):
            if text in first_seen:
                continue
            first_seen.add(text)
            full = prefix + text
            fits = [full[:n] for n in range(len(prefix) + 1, len(full) + 1) if full[:n] in allowed]
            for fit in fits[:-1]:
                partial[fit].append(k)
            if fits:
                owners[fits[-1]].append(k)
        shares = np.zeros(len(candidates))
        for fit, ks in (*owners.items(), *((f, k) for f, k in partial.items() if f not in owners)):
            mass = allowed[fit]
            if chosen in ks and len(ks) > 1:
                own = min(mass, self._path_probability(place, position + len(candidates[chosen])))
                shares[chosen] += own
                ks, mass = [k for k in ks if k != chosen], mass - own
            shares[ks] += mass / len(ks)
        return shares

    def _path_probability(self, place: int, end: int) -> float:
        """Product of the probabilities of the tokens from step `place` to byte `end` of the answer."""
        product = 1.0
        for index in range(place, len(self.steps)):
            step = self.steps[index]
            if step.offset >= end:
                break
            stop = self.steps[index + 1].offset if index + 1 < len(self.steps) else len(self.answer)
            written = self.answer[step.offset : stop]
            odds = [
                p
                for token, p in zip(step.tokens.tolist(), step.probabilities.tolist(), strict=True)
                if self.token_bytes(token) == written
            ]
            product *= sum(odds)
        return product


def inclusion_probabilities(
    grammar: AnswerGrammar, row_id: int, answer: Answer, field: Field, items: Sequence[str]
) -> Floats:
    """P(item is named | what was decided before it), shape (items,); zeros where the answer never reached the
    field.
    """
    weights = np.zeros(len(items))
    if field not in answer.picks or not items:
        return weights
    picks = answer.picks[field]
    row = grammar.rows[row_id]
    if picks.at >= len(row.answer):
        return weights
    walk = _Walk(bytes(row.answer), row.steps, grammar.token_bytes)
    gap, tail = _surroundings(grammar.form, field)
    has_runs = field == "words"
    separator = (WORD_SEPARATOR if has_runs else TARGET_SEPARATOR).rstrip(" ").encode()
    first = picks.indices[0] if picks.indices else None
    opening = [*((gap + item).encode() for item in items), (gap + NONE).encode()]
    start = walk.shares(picks.at, opening, first)
    _write_hazards(weights, 0, start[:-1], float(start[-1]), first)
    for place, index in enumerate(picks.indices):
        _follow(weights, walk, picks, place, index, items, start[:-1], separator, tail, has_runs)
    return np.clip(weights, 0.0, 1.0)


def _follow(
    weights: Floats,
    walk: _Walk,
    picks: Picks,
    place: int,
    index: int,
    items: Sequence[str],
    start: Floats,
    separator: bytes,
    tail: bytes,
    has_runs: bool,
) -> None:
    """Fill in what the decision behind pick `place` says of the items after it."""
    end = picks.ends[place]
    if end >= len(walk.answer):
        return
    neighbour = f" {items[index + 1]}".encode() if has_runs and index + 1 < len(items) else b""
    options = walk.shares(end, [neighbour, separator, tail] if neighbour else [separator, tail])
    run, jump, stop = options if neighbour else (0.0, *options)
    following = picks.indices[place + 1] if place + 1 < len(picks.indices) else None
    if neighbour:
        weights[index + 1] = run / max(run + jump + stop, 1e-12)
        if following == index + 1:
            return
    low = index + (2 if has_runs else 1)
    if following is None:
        # Nobody asked where the answer would have gone on: take the proportions it had at the start of the
        # field.
        rest = start[low:]
        masses = jump * rest / rest.sum() if rest.sum() > 0 else np.zeros(len(rest))
    else:
        later = [f" {item}".encode() for item in items[low:]]
        masses = jump * walk.shares(end + len(separator), later, following - low)
    _write_hazards(weights, low, masses, float(stop), following)


def _write_hazards(weights: Floats, low: int, masses: Floats, stop: float, chosen: int | None) -> None:
    """weights[j] = masses[j] / (masses[j:] + stop) up to the chosen item, for items from `low` on."""
    remaining = np.cumsum(masses[::-1])[::-1] + stop
    hazards = np.divide(masses, remaining, out=np.zeros_like(masses), where=remaining > 0)
    high = len(masses) if chosen is None else chosen - low + 1
    weights[low : low + high] = hazards[:high]


def _surroundings(form: AnswerForm, field: Field) -> tuple[str, bytes]:
    index = form.fields.index(field)
    return form.gap(index), form.tail(index).encode()
