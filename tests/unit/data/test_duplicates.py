"""Copies are found whatever their form; groups join through any chain; holdouts miss nothing above the threshold."""

import unicodedata
from math import ceil
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from hatex.data.corpus import Corpus
from hatex.data.duplicates import KeyTable, components, near_edges, text_keys
from hatex.data.formatting import vary
from hatex.data.holdout import Holdout, flag_copies, load_texts
from hatex.data.shards import READ_ROWS, Shard
from hatex.data.signatures import (
    PERMUTATIONS,
    agreement,
    band_keys,
    band_recall,
    build_signatures,
    is_signed,
    rows_per_band,
    word_set,
)
from hatex.errors import DataError

WORDS = [
    f"{a}{b}"
    for a in ["ball", "goal", "fan", "club", "kick", "pass", "team", "game", "flag", "line"]
    for b in ["s", "er", "ed", "ing", "y"]
]


@pytest.mark.parametrize(
    "other",
    [
        "RT @Other_Fan: THE REFEREE IS BLIND, &amp; SO ARE YOU http://t.co/zz9",
        "rt the referee is blind so are you",
        "RT @fan_1: the referee is blind &amp;amp; so are you <url>",
        "RT Fan1 the referee is blind  so are you httptcoabc",
    ],
)
def test_a_copy_in_another_form_shares_a_key(other: str) -> None:
    raw = "RT @Fan_1: The referee is blind & so are you! http://t.co/abc"
    assert text_keys(raw) & text_keys(other)


@given(st.lists(st.sampled_from(WORDS), min_size=2, max_size=12), st.integers(0, 999))
def test_random_forms_share_a_key(words: list[str], seed: int) -> None:
    text = f"@user {' '.join(words)} <url>"
    assert text_keys(text) & text_keys(vary(text, Random(seed)))


def test_other_words_share_none() -> None:
    assert not text_keys("the referee is blind") & text_keys("the referee is kind")
    assert not text_keys("@user <url>") & text_keys("!!!")


def test_components_follow_chains() -> None:
    edges = [(np.array([4, 2]), np.array([2, 0])), (np.array([5]), np.array([3]))]
    assert components(6, edges).tolist() == [0, 1, 0, 3, 0, 3]
    assert components(2, []).tolist() == [0, 1]


def test_key_table_joins_on_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 2**64, 300, dtype=np.uint64)
    table = KeyTable(tmp_path, "t")
    table.add(keys[:200], np.arange(200))
    table.add(np.concatenate([keys[200:], keys[:50]]), np.arange(200, 350))
    pairs = [
        pair for left, right in table.edges() for pair in zip(left.tolist(), right.tolist(), strict=True)
    ]
    assert sorted(pairs) == [(i, i + 300) for i in range(50)]
    table.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_post_with_one_word_in_eight_changed_is_near() -> None:
    rng = Random(5)
    originals = [rng.sample(WORDS, rng.randint(8, 24)) for _ in range(300)]
    edited = []
    for words in originals:
        new = list(words)
        for place in rng.sample(range(len(new)), len(new) // 8):
            new[place] = f"edit{place}"
        edited.append(new)
    signatures = build_signatures(frozenset(words) for words in (*originals, *edited))
    left, right = signatures[:300], signatures[300:]
    shares_band = (band_keys(left, 4) == band_keys(right, 4)).any(axis=1)
    found = shares_band & (agreement(left, right) >= 0.65)
    assert found.mean() >= 0.95
    assert (agreement(left, np.roll(right, 1, axis=0)) >= 0.65).mean() < 0.02


@pytest.mark.parametrize(("rows", "agreeing"), [(4, 42), (3, 32), (2, 20), (4, 3), (3, 64)])
def test_band_recall_is_what_drawn_pairs_have(rows: int, agreeing: int) -> None:
    rng = np.random.default_rng(1)
    left = np.zeros((20_000, PERMUTATIONS), np.uint32)
    right = rng.permuted(np.broadcast_to(np.arange(PERMUTATIONS) >= agreeing, left.shape), axis=1)
    shares_band = (band_keys(left, rows) == band_keys(right.astype(np.uint32), rows)).any(axis=1)
    assert band_recall(rows, agreeing) == pytest.approx(shares_band.mean(), abs=0.01)


def test_bands_fit_the_threshold() -> None:
    assert [rows_per_band(t) for t in (1.0, 0.65, 0.61, 0.6, 0.47, 0.46, 0.27)] == [4, 4, 4, 3, 3, 2, 2]
    assert min(band_recall(rows_per_band(t / 100), ceil(0.64 * t)) for t in range(27, 101)) >= 0.95
    assert band_recall(2, ceil(0.26 * PERMUTATIONS)) < 0.95
    assert band_recall(2, ceil(0.2 * PERMUTATIONS)) == pytest.approx(0.78, abs=0.005)


@pytest.mark.parametrize(("jaccard", "found"), [(0.65, 0.51), (0.7, 0.81), (0.75, 0.97), (0.78, 0.99)])
def test_the_recall_that_is_told_of_the_default(jaccard: float, found: float) -> None:
    agreeing = np.arange(42, PERMUTATIONS + 1)
    chances = binom.pmf(agreeing, PERMUTATIONS, jaccard)
    recall = sum(chances * [band_recall(4, int(count)) for count in agreeing])
    assert recall == pytest.approx(found, abs=0.005)


def test_near_edges_drop_pairs_below_the_threshold(tmp_path: Path) -> None:
    sets = [frozenset(WORDS[:10]), frozenset(WORDS[:9]), frozenset(WORDS[4:14]), frozenset(("a", "b"))]
    signatures = build_signatures(sets)
    assert is_signed(signatures).tolist() == [True, True, True, False]
    table = KeyTable(tmp_path, "b")
    table.add(np.full(3, 7, np.uint64), np.arange(3))
    near = {
        (int(a), int(b)) for x, y in near_edges(table, signatures, 0.65) for a, b in zip(x, y, strict=True)
    }
    assert near == {(0, 1)}


@given(st.data())
def test_holdout_equals_brute_force(data: st.DataObject) -> None:
    posts = st.lists(st.sampled_from(WORDS[:14]), min_size=1, max_size=9).map(" ".join)
    held, asked = data.draw(st.lists(posts, min_size=1, max_size=5)), data.draw(posts)
    threshold = data.draw(st.sampled_from((0.4, 0.5, 0.6, 0.8, 1.0)))
    words = word_set(asked)

    def is_near(other: frozenset[str]) -> bool:
        long = len(words) >= 3 and len(other) >= 3
        return long and len(words & other) >= threshold * len(words | other)

    found = Holdout(held, threshold).match(asked)
    if any(text_keys(asked) & text_keys(text) for text in held):
        assert found == "equal text"
    else:
        assert (found == "near copy") == any(is_near(word_set(text)) for text in held)


def test_a_copy_is_found_by_the_last_word_that_may_find_it() -> None:
    """Three of five words in common is .6 exactly; the held text's rarest word is not among them."""
    assert Holdout(["ace ball fan goal"], 0.6).match("ball fan goal zone") == "near copy"
    assert Holdout(["ace ball fan goal"], 0.61).match("ball fan goal zone") is None


def test_copies_keep_their_rows_behind_the_first_batch_and_the_first_shard(tmp_path: Path) -> None:
    copy, other = "the referee is blind", "fans"
    keys = {text: sorted(text_keys(text)) for text in (copy, other)}

    def shard(name: str, texts: list[str]) -> Shard:
        table = pa.table({"text": texts, "text_keys": pa.array(map(keys.get, texts), pa.list_(pa.uint64()))})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        return Shard(tmp_path, name)

    long, short = shard("a", [other] * READ_ROWS + [copy, other]), shard("b", [other, copy])
    first = READ_ROWS + 2
    equal, near = flag_copies(Holdout(["The referee is BLIND!"], 0.5), [(0, long), (first, short)], first + 2)
    assert np.flatnonzero(equal).tolist() == [READ_ROWS, first + 1]
    assert not near.any()


def test_near_copies_join_over_another_post_of_their_band(tmp_path: Path) -> None:
    signatures = build_signatures([frozenset(WORDS[:10]), frozenset(WORDS[20:30]), frozenset(WORDS[:9])])
    table = KeyTable(tmp_path, "b")
    table.add(np.full(3, 7, np.uint64), np.arange(3))
    near = {
        (int(a), int(b)) for x, y in near_edges(table, signatures, 0.65) for a, b in zip(x, y, strict=True)
    }
    assert near == {(0, 2)}


def test_near_copies_join_over_several_posts_of_their_band(tmp_path: Path) -> None:
    """The first post of the band is near none of the others."""
    words = [WORDS[30:40], WORDS[:10], WORDS[20:30], WORDS[:9], WORDS[40:50]]
    table = KeyTable(tmp_path, "b")
    table.add(np.full(5, 7, np.uint64), np.arange(5))
    signatures = build_signatures(map(frozenset, words))
    found = [
        {
            (int(a), int(b))
            for x, y in near_edges(table, signatures, 0.65, reach)
            for a, b in zip(x, y, strict=True)
        }
        for reach in (1, 2, 9)
    ]
    assert found == [set(), {(1, 3)}, {(1, 3)}]


def test_near_copies_of_a_large_shard_keep_their_rows(tmp_path: Path) -> None:
    """Signatures are read some 50,000 at a time."""
    rows = np.zeros((50_003, PERMUTATIONS), np.uint32)
    rows[[7, 50_001]] = build_signatures([frozenset(WORDS[:10])])
    shards = [Shard(tmp_path, name) for name in ("a", "b")]
    rows[:5].tofile(shards[0].signature_path)
    rows.tofile(shards[1].signature_path)
    corpus = Corpus(shards, tmp_path / "scratch")
    near = {
        (int(a), int(b))
        for x, y in near_edges(corpus.band_table(4), corpus.signatures(), 0.65)
        for a, b in zip(x, y, strict=True)
    }
    assert near == {(12, 50_006)}


def test_holdout_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("own goal\n\nnice save\n")
    (tmp_path / "b.jsonl").write_text('{"text": "own goal"}\n')
    (tmp_path / "c.csv").write_text("id,text\n1,nice save\n")
    assert [list(load_texts(tmp_path / name)) for name in ("a.txt", "b.jsonl", "c.csv")] == [
        ["own goal", "nice save"],
        ["own goal"],
        ["nice save"],
    ]
    (tmp_path / "d.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(DataError, match="no text"):
        list(load_texts(tmp_path / "d.jsonl"))
    with pytest.raises(DataError, match="unknown kind"):
        list(load_texts(tmp_path / "e.docx"))


@pytest.mark.parametrize(
    "text", ["Café José naïve fans", "रेफ़री फिर अंधा था", "Cafe\u0301 Jose\u0301 naive fans"]
)
def test_a_copy_without_accents_and_vowel_signs_shares_a_key(text: str) -> None:
    bare = "".join(char for char in text if char.isalnum() or char.isspace())
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    assert text_keys(text) & text_keys(bare)
    assert text_keys(text) & text_keys(plain)
