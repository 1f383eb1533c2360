"""`workflows.evaluate` on invented posts, with an engine that blends in closed form."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest

from hatex.data.examples import read_examples, write_examples
from hatex.errors import DataError, HatexError, RecipeError, UsageError
from hatex.evaluation.router import router_quality
from hatex.evaluation.run import SavedRun
from hatex.recipe import Recipe
from hatex.recipe.evaluate import EvalSection
from hatex.recipe.prepare import PrepareSection
from hatex.registry import Registry
from hatex.types import (
    LABELS,
    NO_PROGRESS,
    AffectedGroup,
    Evidence,
    Example,
    Explanation,
    HarmfulWord,
    Rationale,
    Verdict,
    Vote,
)
from hatex.workflows.evaluate import Regression, evaluate
from hatex.workflows.evaluation_answers import keep_answers
from hatex.workflows.evaluation_data import choose_posts, load_data
from hatex.workflows.evaluation_options import Narrowing, narrow
from hatex.workflows.evaluation_passes import EvalState, explain_sets
from hatex.workflows.evaluation_predictions import evaluate_predictions, load_predictions
from hatex.workflows.prepare_data import prepare_data

RUDE = {"clowns": 2.0, "useless": 1.0, "away": 3.0}
ROUTED = ("forums", "wiki")


@dataclass(frozen=True)
class WordEngine:
    """Each adapter weighs the rude words differently; the router looks for `edit` (wiki) in a post."""

    adapters: tuple[str, ...] = ("forums", "wiki", "full")
    fingerprint: str = "words-1"
    groups: tuple[str, ...] = ("Muslims", "Women")
    scored: list[str] = field(default_factory=list)
    fallback: tuple[str, float] | None = None

    def gate(self, texts: Sequence[str], strategy: str = "blend", **_: object) -> np.ndarray:
        wiki = np.array([0.8 if "edit" in text else 0.1 for text in texts])
        blend = np.stack([1 - wiki, wiki, np.zeros(len(texts))], axis=1)
        if strategy == "blend":
            return blend if self.fallback is None else np.tile(np.eye(3)[2], (len(texts), 1))
        if strategy == "full" or strategy.startswith("single:"):
            name = strategy.removeprefix("single:")
            return np.tile(np.eye(3)[self.adapters.index(name)], (len(texts), 1))
        if strategy in ("uniform", "top-2"):
            return np.tile([0.5, 0.5, 0], (len(texts), 1))
        if strategy == "top-1":
            return np.eye(3)[blend.argmax(axis=1)]
        raise UsageError(f"unknown strategy {strategy}")

    def score(self, texts: Sequence[str], gates=None, **_: object) -> np.ndarray:
        self.scored.extend(texts)
        gates = self.gate(texts) if gates is None else gates
        rude = np.array([sum(RUDE.get(word, 0) for word in text.split()) for text in texts])
        strength = gates @ np.array([1.0, 0.7, 1.3])
        logits = np.stack([np.ones(len(texts)), strength * rude, strength * (rude - 1)], axis=1)
        e = np.exp(logits)
        return e / e.sum(axis=1, keepdims=True)

    def verdicts(self, texts, strategy="blend", *, explain=False, **_: object) -> list[Verdict]:
        gates = self.gate(texts, strategy)
        probabilities = self.score(texts, gates)
        return [
            Verdict(
                LABELS[int(p.argmax())],
                dict(zip(LABELS, p.tolist(), strict=True)),
                dict(zip(self.adapters, g.tolist(), strict=True)),
                strategy,
                0.1,
                "model",
                "allow",
                "words-1",
                explanation=self._explain(text) if explain else None,
            )
            for text, g, p in zip(texts, gates, probabilities, strict=True)
        ]

    def _explain(self, text: str) -> Explanation:
        spans = [(text.index(word), text.index(word) + len(word)) for word in RUDE if word in text.split()]
        words = tuple(HarmfulWord(text[a:b], a, b, None, 1.0) for a, b in spans)
        return Explanation("composed", "summary", (AffectedGroup("Women", 0.9),), words, "reason")


def example(dataset: str, number: int, split: str, platform: str) -> Example:
    rude = number % 3 == 0
    text = f"{'useless clowns' if rude else 'lovely match'} number {number}" + (
        " edit" if platform == "wiki" else ""
    )
    marked = (Rationale(0, len("useless clowns"), "r1"),) if rude else ()
    label = ("hate",) if rude and number % 2 else ("offensive",) if rude else ("neutral",)
    votes = (Vote(label, 2, "ann-1", "left"), Vote(("neutral",), 1, "ann-2", "right"))
    return Example(
        f"{dataset}:{number}",
        dataset,
        platform,
        text,
        votes,
        split,
        f"{dataset}:{number // 2}",
        ("Women",) if rude else (),
        True,
        marked,
        True,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    rows = [example("boards", i, "train" if i < 60 else "report", "forums") for i in range(120)]
    rows += [example("talk", i, "train" if i < 30 else "report", "wiki") for i in range(90)]
    rows += [example("talk", i, "test", "wiki") for i in range(90, 100)]
    rows += [example("letters", i, "report", "news") for i in range(30)]
    write_examples(folder / "examples.parquet", rows)
    return folder


@pytest.fixture(scope="module")
def recipe(prepared):
    source = {"folder": "nowhere"}
    return Recipe.model_validate(
        {
            "version": 1,
            "name": "tiny",
            "base": {"name": "tiny", "source": source},
            "encoder": {"name": "tiny", "source": source},
            "adapters": ["forums", "wiki", "full"],
            "router": "tiny",
            "eval": {
                "data": str(prepared),
                "posts_per_set": 40,
                "resamples": 100,
                "baseline": False,
                "strategies": [
                    "blend",
                    "top-1",
                    "top-2",
                    "single:*",
                    "uniform",
                    "oracle",
                    "blend@probability",
                ],
            },
        }
    )


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "home", None)


def changed(recipe, **fields):
    return recipe.model_copy(update={"eval": recipe.eval.model_copy(update=fields)})


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    return evaluate(recipe, Registry(tmp_path_factory.mktemp("home"), None), engine=WordEngine())


def test_every_strategy_on_every_set(run):
    assert run.strategies == (
        "blend",
        "top-1",
        "top-2",
        "single:forums",
        "single:wiki",
        "uniform",
        "oracle",
        "blend@probability",
    )
    assert run.columns == ("boards", "letters", "talk", "mean")
    assert {name: (info.n, info.n_total) for name, info in run.data.items()} == {
        "boards": (40, 60),
        "letters": (30, 30),
        "talk": (40, 60),
    }
    assert set(run.results["blend"]["talk"]) >= {"macro_f1", "aurc", "bias_bpsn_auc"}
    assert run.same_as == {"uniform": "top-2"}
    assert "platform news" in str(run.results["oracle"]["letters"]["macro_f1"])
    assert run.results["oracle"]["boards"] == run.results["single:forums"]["boards"]


def test_passes_are_shared(recipe, registry):
    engine = WordEngine()
    run = evaluate(changed(recipe, suites=()), registry, engine=engine)
    # Each of the 110 posts: blend, uniform (= top-2), single:forums, single:wiki. The rest asks for nothing
    # new.
    assert run.passes_run == len(engine.scored) == 110 * 4
    assert run.passes_asked == 110 * 7 + 80


class Tired(WordEngine):
    """An engine that breaks down at its third batch of passes."""

    def score(self, texts: Sequence[str], gates=None, **options: object) -> np.ndarray:
        if len(self.scored) > 200:
            raise KeyboardInterrupt
        return super().score(texts, gates, **options)


def test_an_interrupted_run_goes_on_from_the_answers_it_kept(recipe, registry, run, tmp_path):
    file = tmp_path / "answers.jsonl"
    alone = changed(recipe, suites=())
    with pytest.raises(KeyboardInterrupt):
        evaluate(alone, registry, engine=Tired(), answers=file)
    whole = file.read_bytes()
    kept = len(whole.splitlines()) - 1
    assert kept > 100
    file.write_bytes(whole + b'{"post": "a killed run le')
    engine = WordEngine()
    resumed = evaluate(alone, registry, engine=engine, answers=file)
    assert resumed.results == run.results
    assert len(engine.scored) == resumed.passes_run - kept
    assert "match" not in file.read_text()
    again = WordEngine()
    evaluate(alone, registry, engine=again, answers=file)
    assert again.scored == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1, "model": "words-0", "adapters": ["forums", "wiki", "full"]}\n', "another model"),
        ('{"schema": 1, "model": "words-1", "adapters": ["wiki", "forums", "full"]}\n', "another model"),
        ('{"id": 1, "text": "fine"}\n', "something else"),
        ("[]\n", "something else"),
        ("no end of line", "something else"),
    ],
)
def test_answers_of_others_are_refused_and_left_alone(recipe, registry, tmp_path, content, message):
    file = tmp_path / "answers.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        evaluate(recipe, registry, engine=WordEngine(), answers=file)
    assert file.read_text() == content


def test_answers_are_kept_by_one_run_at_a_time(tmp_path):
    file = tmp_path / "answers.jsonl"
    with (
        keep_answers(WordEngine(), file),
        pytest.raises(UsageError, match="another run"),
        keep_answers(WordEngine(), file),
    ):
        pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(HatexError, match="cannot be locked: No locks available") as caught,
        keep_answers(WordEngine(), tmp_path / "answers.jsonl"),
    ):
        pass
    assert caught.value.hint == "name an output file on another file system"


def test_test_split_is_never_read(recipe, registry):
    everything = evaluate(changed(recipe, posts_per_set=None), registry, engine=WordEngine())
    assert everything.data["talk"].n == 60
    assert {info.split for info in everything.data.values()} == {"report"}


def test_same_seed_same_bytes(run, recipe, registry):
    again = evaluate(recipe, registry, engine=WordEngine())
    assert json.dumps(again.to_json()) == json.dumps(run.to_json())
    other = evaluate(changed(recipe, seed=1), registry, engine=WordEngine())
    assert other.data["boards"].fingerprint != run.data["boards"].fingerprint


def test_router_gates_and_regret(run):
    assert run.gates["talk"]["blend"] == pytest.approx({"forums": 0.2, "wiki": 0.8, "full": 0})
    assert run.router.accuracy.value == 1.0
    assert run.router.accuracy.n == 80
    assert run.router.ood_auroc.value is not None
    loss = {name: run.results[name]["boards"]["soft_cross_entropy"].value for name in ("blend", "oracle")}
    assert run.regret["boards"].value == pytest.approx(loss["blend"] - loss["oracle"])
    assert "news" in str(run.regret["letters"])


def test_the_router_is_judged_before_its_fallback(recipe, registry, run):
    engine = WordEngine(fallback=("full", 1.0))
    fallen = evaluate(changed(recipe, suites=()), registry, engine=engine)
    assert fallen.router == run.router
    assert fallen.gates["talk"]["blend"] == pytest.approx({"forums": 0, "wiki": 0, "full": 1})
    assert fallen.gates["talk"]["top-1"] == run.gates["talk"]["top-1"]


def test_regret_keeps_its_sign_where_it_has_no_interval(recipe, registry, tmp_path):
    rows = [example("boards", i, "report", "forums") for i in range(6)]
    write_examples(tmp_path / "examples.parquet", [replace(row, group="one thread") for row in rows])
    few = evaluate(changed(recipe, data=str(tmp_path), suites=()), registry, engine=WordEngine())
    loss = {name: few.results[name]["boards"]["soft_cross_entropy"].value for name in ("blend", "oracle")}
    assert few.regret["boards"].low is None
    assert few.regret["boards"].value == pytest.approx(loss["blend"] - loss["oracle"])
    assert few.regret["boards"].value != 0


def test_groups_annotators_suites_and_pictures(run):
    assert set(run.annotators["talk"]) == {"ann-1", "ann-2"}
    assert set(run.annotator_groups["talk"]) == {"left", "right"}
    assert set(run.groups["boards"]) == {"Women"}
    [suite] = run.suites
    assert suite.suite == "plain"
    assert suite.flip_rate.value == 0.0
    counts = run.pictures["boards"]["blend"].confusion
    assert sum(map(sum, counts)) == run.results["blend"]["boards"]["accuracy"].n


def test_explanations(recipe, registry):
    run = evaluate(
        changed(recipe, explained_posts=5, suites=()), registry, explanations=True, engine=WordEngine()
    )
    cells = run.explanations["boards"]
    assert cells["token_f1"].value == 1.0
    assert cells["iou_f1"].value == 1.0
    assert cells["verbatim_rate"].value == cells["parse_rate"].value == 1.0
    assert cells["target_group_f1"].value == 1.0
    assert cells["comprehensiveness"].value > cells["random_comprehensiveness"].value
    assert cells["comprehensiveness_share"].value == pytest.approx(1.0)
    assert cells["sufficiency"].value == pytest.approx(0.0)
    assert cells["rationale_auprc"].why_missing == "no explanation weighs words"
    assert cells["parse_rate"].n == 5


def test_requirements_and_regressions(recipe, registry, run):
    asked = [
        {"metric": "accuracy", "data": "boards", "min": 0.1},
        {"metric": "brier", "data": "mean", "max": 0.0},
    ]
    strict = Recipe.model_validate(
        recipe.model_dump() | {"eval": recipe.eval.model_dump() | {"requirements": asked}}
    )
    got = evaluate(strict, registry, engine=WordEngine())
    assert [(o.metric, o.holds) for o in got.outcomes] == [("accuracy", True), ("brier", False)]
    assert [o.metric for o in got.failed] == ["brier"]
    before = SavedRun.of(run, "before")
    assert not evaluate(recipe, registry, engine=WordEngine(), against=Regression(before, 0.0)).failed


def requiring(recipe, *asked, **fields):
    section = recipe.eval.model_dump() | {"requirements": asked} | fields
    return Recipe.model_validate(recipe.model_dump() | {"eval": section})


def test_requirements_on_suites_and_explanations(recipe, registry):
    asked = (
        {"metric": "suite_flip_rate", "data": "plain", "max": 0.0},
        {"metric": "suite_hateful", "data": "plain", "min": 0.999},
        {"metric": "parse_rate", "data": "boards", "min": 1.0},
    )
    narrowed = requiring(recipe, *asked, explained_posts=5, strategies=("blend",))
    got = evaluate(narrowed, registry, engine=WordEngine())
    assert [(o.metric, o.holds) for o in got.outcomes] == [
        ("suite_flip_rate", True),
        ("suite_hateful", False),  # the invented engine knows no hostile word of the suite
        ("parse_rate", True),
    ]
    # Explanations are judged where a requirement is about them, and nowhere else.
    assert set(got.explanations) == {"boards"}


def test_saved_run_of_other_things_holds_nothing(recipe, registry, run):
    before = SavedRun.of(replace(run, results={"full": run.results["blend"]}), "old.json")
    with pytest.raises(DataError, match="shares no strategy"):
        evaluate(recipe, registry, engine=WordEngine(), against=Regression(before, 0.0))


def test_other_posts_than_in_the_saved_run_are_said(recipe, registry, run):
    said = []

    class Talk:
        task = staticmethod(NO_PROGRESS.task)
        say = staticmethod(said.append)

    before = SavedRun.of(run, "old.json")
    fewer = changed(recipe, posts_per_set=30, suites=())
    evaluate(fewer, registry, engine=WordEngine(), against=Regression(before, 1.0), progress=Talk())
    assert [line.split(":")[0] for line in said] == ["boards", "talk"]


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"reference": "full"}, UsageError, "'full' is not evaluated"),
        ({"reference": "oracle"}, UsageError, "'oracle' cannot be the reference"),
        ({"reference": "single:*"}, UsageError, "'single:\\*' cannot be the reference"),
        ({"datasets": ("bords",)}, UsageError, "no report posts of bords"),
        ({"strategies": ("blend", "top-9")}, UsageError, "the router weighs 2 adapters"),
        ({"strategies": ("blend", "blond")}, UsageError, "unknown strategy blond"),
        ({"strategies": ("blend@logits",)}, UsageError, "unknown blend space"),
        ({"split": "tune"}, DataError, "no posts in split tune"),
        ({"data": "nowhere"}, DataError, "no prepared examples"),
        ({"suites": ("nowhere",)}, DataError, "no such suite"),
    ],
)
def test_mistakes_are_found_before_the_first_pass(recipe, registry, fields, kind, message):
    engine = WordEngine()
    with pytest.raises(kind, match=message):
        evaluate(changed(recipe, **fields), registry, engine=engine)
    assert engine.scored == []


def test_no_eval_section(recipe, registry):
    with pytest.raises(RecipeError, match="no section `eval`"):
        evaluate(recipe.model_copy(update={"eval": None}), registry)


def publish(registry, name, train):
    fields = {} if train is None else {"recipe": {"train": train}}
    with registry.publish("adapter", name, base="tiny", manifest_fields=fields) as folder:
        (folder / "weights.txt").write_text(name)


def test_baseline_is_fitted_on_the_rows_the_adapters_saw(recipe, registry, prepared):
    sections = {"forums": {"platforms": ["forums"], "rows": {"boards": 20}, "fully_labelled_share": 0}}
    train = {"data": str(prepared), "adapters": sections, "seed": 5}
    for name in ("forums", "wiki", "full"):
        publish(registry, name, train if name == "forums" else None)
    from hatex.workflows.evaluation_data import load_training_rows

    rows = load_training_rows(recipe.eval, recipe, registry, NO_PROGRESS)
    assert len(rows) == 20
    assert {row.dataset for row in rows} == {"boards"}
    run = evaluate(changed(recipe, baseline=True), registry, engine=WordEngine())
    assert run.baseline == run.strategies[-1] == "tf-idf"
    assert run.results["tf-idf"]["boards"]["auroc"].value > 0.9
    assert run.differences["tf-idf"]["boards"]["auroc"].value is not None


def test_baseline_goes_without_rows_that_are_not_prepared_here(recipe, registry, prepared):
    from hatex.workflows.evaluation_data import load_training_rows

    def train(platform, rows):
        section = {"platforms": [platform], "rows": rows, "fully_labelled_share": 0}
        return {"data": str(prepared), "adapters": {platform: section}, "seed": 5}

    publish(registry, "forums", train("forums", {"boards": 20, "elsewhere": 9}))
    publish(registry, "wiki", train("wiki", {"elsewhere": 9}))
    publish(registry, "full", None)
    said = []
    rows = load_training_rows(recipe.eval, recipe, registry, SimpleNamespace(say=said.append))
    assert {row.dataset for row in rows} == {"boards"}
    assert len(rows) == 20
    assert [line.split(":")[0] for line in said] == [
        "adapter forums was also trained on elsewhere, not prepared here",
        "adapter wiki was also trained on elsewhere, not prepared here",
    ]


def test_strategies_that_nobody_named_are_all_that_the_engine_has(recipe, registry):
    run = evaluate(changed(recipe, strategies=(), baseline=False), registry, engine=WordEngine())
    assert run.strategies == (
        "blend",
        "top-1",
        "top-2",
        "single:forums",
        "single:wiki",
        "uniform",
        "full",
        "oracle",
        "blend@probability",
        "blend@reference",
    )


def test_baseline_without_records_takes_every_training_row(recipe, registry):
    for name in ("forums", "wiki", "full"):
        publish(registry, name, {"data": "x", "adapters": {}, "unknown": 1} if name == "wiki" else None)
    from hatex.workflows.evaluation_data import load_training_rows

    assert len(load_training_rows(recipe.eval, recipe, registry, NO_PROGRESS)) == 90


def test_chosen_posts_are_seeded_and_stable():
    rows = [example("boards", i, "report", "forums") for i in range(50)]
    chosen = choose_posts(rows, 20, seed=1)
    assert chosen == choose_posts(rows, 20, seed=1)
    assert chosen != choose_posts(rows, 20, seed=2)
    grown = choose_posts(
        [*rows, *(example("boards", i, "report", "forums") for i in range(50, 55))], 20, seed=1
    )
    assert len({e.id for e in chosen} & {e.id for e in grown}) >= 15
    assert choose_posts(rows, None, seed=1) == rows


def test_narrowing(recipe):
    asked = [
        {"metric": "accuracy", "data": "boards", "min": 0.1},
        {"metric": "accuracy", "data": "mean", "min": 0.1},
        {"metric": "accuracy", "data": "talk", "strategy": "uniform", "min": 0.1},
    ]
    full = Recipe.model_validate(
        recipe.model_dump() | {"eval": recipe.eval.model_dump() | {"requirements": asked}}
    )
    narrowed, left_out = narrow(full, Narrowing(("uniform",), ("talk",), None, True, ("plain",), True))
    assert narrowed.eval.reference == "uniform"
    assert narrowed.eval.posts_per_set is None
    assert [r.strategy for r in narrowed.eval.requirements] == ["uniform"]
    assert left_out == 2
    assert narrow(full, Narrowing()) == (full, 0)


@pytest.mark.parametrize(
    ("asked", "usual", "reference"),
    [
        (("single:*",), "blend", "single:forums"),
        (("single:*",), "single:wiki", "single:wiki"),
        (("top-*",), "blend", "top-1"),
        (("top-*@probability",), "blend", "top-1@probability"),
        (("oracle", "full"), "blend", "full"),
        (("oracle", "single:*", "full"), "uniform", "single:forums"),
        (("oracle", "blend"), "blend", "blend"),
    ],
)
def test_a_call_without_the_reference_takes_the_first_strategy_that_can_be_one(
    recipe, registry, asked, usual, reference
):
    # Full comes first among the adapters, and the router does not weigh it.
    recipe = changed(recipe, reference=usual, suites=()).model_copy(
        update={"adapters": ("full", "forums", "wiki")}
    )
    with registry.publish("router", "tiny", manifest_fields={"adapters": list(ROUTED)}) as folder:
        (folder / "weights.txt").write_text("w")
    narrowed, _ = narrow(recipe, Narrowing(asked, posts_per_set=4), registry)
    assert narrowed.eval.reference == reference
    run = evaluate(narrowed, registry, engine=WordEngine())
    assert run.reference == reference
    assert set(run.differences) == set(run.strategies) - {reference}


def test_the_oracle_alone_has_no_reference(recipe):
    with pytest.raises(UsageError, match="the oracle alone") as caught:
        narrow(recipe, Narrowing(("oracle",)))
    assert "-s blend" in caught.value.hint


def test_requirements_of_strategies_that_a_wildcard_stands_for_are_judged(recipe, registry):
    full = requiring(
        recipe,
        *(
            {"metric": "accuracy", "data": "talk", "strategy": name, "min": 0.1}
            for name in ("top-2", "single:wiki", "blend")
        ),
    )
    with registry.publish("router", "tiny", manifest_fields={"adapters": list(ROUTED)}) as folder:
        (folder / "weights.txt").write_text("w")
    narrowed, left_out = narrow(full, Narrowing(("top-*", "single:*")), registry)
    assert [each.strategy for each in narrowed.eval.requirements] == ["top-2", "single:wiki"]
    assert left_out == 1


def test_gate_runs_what_requirements_name(recipe):
    def asking(*asked):
        section = recipe.eval.model_dump() | {"requirements": asked, "baseline": True}
        return Recipe.model_validate(recipe.model_dump() | {"eval": section})

    boards = {"metric": "accuracy", "data": "boards", "min": 0.1}
    gated, left_out = narrow(asking(boards, boards | {"strategy": "uniform"}), Narrowing(gate=True))
    assert (gated.eval.strategies, gated.eval.datasets) == (("blend", "uniform"), ("boards",))
    assert (gated.eval.baseline, gated.eval.suites, left_out) == (False, (), 0)
    gated, _ = narrow(asking(boards, boards | {"data": "mean", "strategy": "tf-idf"}), Narrowing(gate=True))
    assert (gated.eval.strategies, gated.eval.datasets, gated.eval.baseline) == (("blend",), (), True)
    suite = {"metric": "suite_hateful", "data": "plain", "min": 0.1}
    gated, _ = narrow(asking(boards, suite), Narrowing(gate=True))
    assert (gated.eval.datasets, gated.eval.suites) == (("boards",), ("plain",))
    assert narrow(asking(suite), Narrowing(suites=("./mine.csv",)))[1] == 1
    assert narrow(asking(suite), Narrowing(datasets=("talk",)))[1] == 0
    with pytest.raises(UsageError, match="no requirements"):
        narrow(recipe, Narrowing(gate=True))


@pytest.fixture
def answers(tmp_path):
    def write(ids, **changes):
        path = tmp_path / "answers.jsonl"
        line = {
            "probabilities": {"neutral": 0.2, "offensive": 0.3, "hate": 0.5},
            "strategy": "blend",
            "model": "m9",
        }
        path.write_text("".join(json.dumps({"id": i} | line | changes) + "\n" for i in ids))
        return path

    return write


def test_predictions_from_a_file(recipe, answers):
    path = answers([f"letters:{i}" for i in range(30)])
    run = evaluate_predictions(changed(recipe, datasets=("letters",)), path)
    assert run.strategies == ("blend",)
    assert run.model == "m9"
    assert run.results["blend"]["letters"]["accuracy"].value is not None


def test_missing_predictions_are_named(recipe, answers):
    with pytest.raises(DataError, match="1 of 30 posts of letters have no answer, first letters:29"):
        evaluate_predictions(
            changed(recipe, datasets=("letters",)), answers([f"letters:{i}" for i in range(29)])
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not an answer"),
        ('{"id": 1}', "three labels"),
        ('{"id": 1, "probabilities": {"neutral": 2, "offensive": 0, "hate": 0}}', "between 0 and 1"),
        ('{"id": 1, "probabilities": {"neutral": 0.2, "offensive": 0, "hate": 0}}', "sum to 1"),
        ('{"id": 1, "probabilities": {"a": 1}}', "three labels"),
    ],
)
def test_bad_prediction_lines_name_their_place(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_text(f"\n{content}\n")
    with pytest.raises(DataError, match=message) as caught:
        load_predictions(path)
    assert caught.value.where == f"{path}:2"


def test_twice_answered_and_error_lines(answers, tmp_path):
    with pytest.raises(DataError, match="answered twice"):
        load_predictions(answers(["a", "a"]))
    path = answers(["a"])
    path.write_text(path.read_text() + '{"schema": 1, "id": "b", "line": 2, "error": {"kind": "empty"}}\n')
    assert set(load_predictions(path).by_id) == {"a"}
    with pytest.raises(DataError, match="no such file"):
        load_predictions(tmp_path / "absent.jsonl")


def table(tmp_path, *rows):
    path = tmp_path / "own.csv"
    path.write_text("words,verdict,who\n" + "".join(f"{row}\n" for row in rows))
    return {
        "source": "table",
        "name": "own",
        "path": str(path),
        "platform": "forums",
        "columns": {"text": "words", "label": "verdict", "targets": "who"},
        "labels": {"yes": "hate", "no": "neutral|offensive"},
    }


def test_own_table_with_coarse_gold(recipe, registry, tmp_path):
    rows = [f"away with them {i},yes,Women" for i in range(6)] + [f"lovely match {i},no," for i in range(6)]
    section = {"sources": [table(tmp_path, *rows)], "resamples": 100, "baseline": False, "suites": []}
    own = Recipe.model_validate(recipe.model_dump() | {"eval": section | {"strategies": ["blend", "full"]}})
    run = evaluate(own, registry, engine=WordEngine())
    assert run.columns == ("own",)
    assert run.data["own"].question == ("neutral|offensive", "hate")
    assert run.results["blend"]["own"]["auroc"].value == 1.0
    assert "asks neutral|offensive / hate" in str(run.results["blend"]["own"]["f1_offensive"])


def test_gold_outside_the_mapping_is_an_error(recipe, registry, tmp_path):
    section = {"sources": [table(tmp_path, "lovely match,no,", "away,maybe,")], "baseline": False}
    own = Recipe.model_validate(recipe.model_dump() | {"eval": section})
    with pytest.raises(DataError, match="1 of 2 rows cannot be read") as caught:
        evaluate(own, registry, engine=WordEngine())
    assert "own.csv" in str(caught.value.where)


def load_own(*lines, said=None, data=None, **changes):
    """`load_data` of a JSONL source, whose remarks go to `said`."""
    source = {"source": "table", "platform": "forums", "columns": {"text": "t", "id": "i", "label": "l"}}
    section = EvalSection.model_validate({"data": data, "sources": [source | changes]})
    Path(changes["path"]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_data(section, SimpleNamespace(say=[].append if said is None else said.append))


def sound(count):
    return [{"t": f"lovely match {i}", "i": i, "l": "neutral"} for i in range(count)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"t": None, "i": "x", "l": "hate"}, "the text is missing or not a string"),
        ({"t": " ", "i": "x", "l": "hate"}, "the text is empty"),
        ({"t": "away", "i": 5, "l": "hate"}, "the id occurs twice in this data set"),
        ({"t": "away", "i": "x", "l": "hate", "s": [[2, 9]]}, "span 2:9 is outside the text of 4 characters"),
    ],
)
def test_unsound_rows_of_a_source_are_told_and_never_evaluated(tmp_path, line, problem):
    path, said = tmp_path / "own.jsonl", []
    columns = {"text": "t", "id": "i", "label": "l", "spans": "s"}
    rows = [row | {"s": []} for row in sound(120)]
    [data] = load_own(*rows, {"s": []} | line, said=said, path=str(path), columns=columns)
    assert data.n_total == 120
    assert said == [f"table: 1 of 121 rows cannot be read, first {path}:121: {problem}"]
    with pytest.raises(DataError, match=f"1 of 3 rows cannot be read, first: {problem}") as caught:
        load_own(*rows[4:6], {"s": []} | line, path=str(path), columns=columns)
    assert caught.value.where == f"{path}:3"


def test_a_limited_source_is_sampled_as_prepare_samples_it(tmp_path):
    path = str(tmp_path / "own.jsonl")
    rng = Random(1)
    rows = [row | {"t": " ".join(f"w{rng.randrange(999)}" for _ in range(9))} for row in sound(60)]
    [data] = load_own(*rows, path=path, limit=20)
    source = {"source": "table", "platform": "forums", "columns": {"text": "t", "id": "i", "label": "l"}}
    section = {
        "output": str(tmp_path / "out"),
        "seed": 4761,
        "sources": [source | {"path": path, "limit": 20}],
    }
    prepare_data(PrepareSection.model_validate(section))
    prepared = {row.id for row in read_examples(tmp_path / "out")}
    assert len(prepared) == 20
    assert set(data.gold.ids) == prepared


def test_rows_that_a_reader_leaves_out_are_told(tmp_path):
    lines = [f"{i}\tt{i}\tNeutral\tnice save {i}\ttrain" for i in range(5)]
    lines += [f"{i}\tt{i}\tNeutral\tx\texclude_bot" for i in (5, 6)]
    head = "id\tinfo_thread.id\tannotation_Primary\tmeta_text\tsplit\n"
    (tmp_path / "cad_v1_1.tsv").write_text(head + "\n".join(lines))
    said = []
    source = {"source": "cad", "path": str(tmp_path), "platform": "forums"}
    section = EvalSection.model_validate({"sources": [source]})
    [data] = load_data(section, SimpleNamespace(say=said.append))
    assert data.n_total == 5
    assert said == ["cad: 2 rows left out: split exclude_bot"]


def test_a_source_is_a_data_set_of_its_own(prepared, tmp_path):
    path = str(tmp_path / "own.jsonl")
    sets = load_own(*sound(9), data=str(prepared), path=path)
    assert [each.gold.dataset for each in sets] == ["boards", "letters", "table", "talk"]
    with pytest.raises(UsageError, match="data set 'talk' is there already") as caught:
        load_own(*sound(9), data=str(prepared), path=path, name="talk")
    assert caught.value.hint == "give the source another `name`"
    twice = [{"source": "table", "platform": "forums", "path": path}] * 2
    with pytest.raises(ValueError, match="two sources are named table: give one of them a `name`"):
        EvalSection.model_validate({"sources": twice})


def test_a_source_of_two_data_sets_stays_two(tmp_path):
    head = "id,comment_text,toxic,severe_toxic,obscene,threat,insult,identity_hate\n"
    (tmp_path / "jigsaw_multilabel_5k.csv").write_text(
        head + "".join(f"{i},match {i},{i % 2},0,0,0,0,0\n" for i in range(1, 9))
    )
    (tmp_path / "jigsaw_balanced_12k.csv").write_text("".join(f"game {i},{i % 2}\n" for i in range(9)))
    source = {"source": "wiki_jigsaw", "name": "mywiki", "path": str(tmp_path), "platform": "wiki"}
    sets = load_data(EvalSection.model_validate({"sources": [source]}), NO_PROGRESS)
    assert [(each.gold.dataset, each.n_total) for each in sets] == [
        ("mywiki_balanced", 9),
        ("mywiki_multilabel", 8),
    ]


@pytest.mark.parametrize(("form", "shown"), [("upper", str.upper), ("lower", str.lower), ("as_written", str)])
def test_posts_are_answered_in_the_form_asked_for(recipe, registry, form, shown) -> None:
    section = recipe.require("eval").model_copy(update={"form": form, "suites": ()})
    engine = WordEngine()
    run = evaluate(recipe.model_copy(update={"eval": section}), registry, engine=engine)
    assert engine.scored
    assert all(text == shown(text) for text in engine.scored)
    # Upper case hides every rude word from this engine: what formatting alone is worth shows.
    found = run.results["blend"]["boards"]["macro_f1"].value
    assert (found > 0.5) == (form != "upper")


def test_a_regression_falls(recipe, registry, run):
    before = SavedRun.of(run, "before")
    cell = before.results["blend"]["boards"]["macro_f1"]
    before.results["blend"]["boards"]["macro_f1"] = replace(cell, value=cell.value + 0.1)
    got = evaluate(recipe, registry, engine=WordEngine(), against=Regression(before, 0.05))
    assert [(o.origin, o.metric, o.data) for o in got.failed] == [("regression", "macro_f1", "boards")]
    assert not evaluate(recipe, registry, engine=WordEngine(), against=Regression(before, 0.15)).failed
    before.results["blend"]["boards"]["macro_f1"] = cell


def test_a_mean_over_other_data_sets_holds_nothing(recipe, registry, run):
    said = []

    class Talk:
        task = staticmethod(NO_PROGRESS.task)
        say = staticmethod(said.append)

    fewer = changed(recipe, datasets=("boards", "letters"), suites=())
    got = evaluate(
        fewer,
        registry,
        engine=WordEngine(),
        against=Regression(SavedRun.of(run, "a.json"), 0.0),
        progress=Talk(),
    )
    assert {each.data for each in got.outcomes} == {"boards", "letters"}
    assert not got.failed
    assert said == ["the mean is not held: a.json has other data sets (boards, letters, talk)"]


def test_official_test_rows_of_a_source_are_never_read(recipe, registry, tmp_path):
    rows = [
        *(f"away with them {i},yes,Women" for i in range(6)),
        *(f"lovely match {i},no," for i in range(6)),
    ]
    own = table(tmp_path, *rows)
    head, *lines = Path(own["path"]).read_text().splitlines()
    parted = [f"{line},{'test' if i % 2 else 'dev'}" for i, line in enumerate(lines)]
    Path(own["path"]).write_text("\n".join([f"{head},part", *parted, ""]))
    own["columns"]["split"] = "part"
    section = {
        "sources": [own],
        "resamples": 100,
        "baseline": False,
        "suites": [],
        "strategies": ["blend", "full"],
    }
    changed_recipe = Recipe.model_validate(recipe.model_dump() | {"eval": section})
    assert evaluate(changed_recipe, registry, engine=WordEngine()).data["own"].n_total == 6

    def load(**changes):
        said = []
        section = EvalSection.model_validate({"data": recipe.eval.data, "sources": [own | changes]})
        return load_data(section, SimpleNamespace(say=said.append)), said

    sets, said = load()
    assert {each.gold.dataset: each.n_total for each in sets}["own"] == 6
    assert said == ["own: 6 rows of its official test part, left out unless it says `official_splits: false`"]
    sets, said = load(official_splits=False)
    assert {each.gold.dataset: each.n_total for each in sets}["own"] == 12
    assert said == []
    # A source of nothing else is named, and does not just vanish beside the prepared sets.
    Path(own["path"]).write_text("\n".join([f"{head},part", *(f"{line},test" for line in lines), ""]))
    with pytest.raises(DataError, match="no posts to evaluate") as caught:
        load()
    assert "12 rows of its official test part" in str(caught.value.hint)


def test_a_source_file_that_is_named_test_is_evaluated(tmp_path):
    own = table(tmp_path, *(f"lovely match {i},no," for i in range(6)))
    own["path"] = str(Path(own["path"]).rename(tmp_path / "posts_test.csv"))
    [data] = load_data(EvalSection.model_validate({"sources": [own]}), NO_PROGRESS)
    assert (data.gold.dataset, data.n_total) == ("own", 6)


@dataclass(frozen=True)
class HalfRight(WordEngine):
    """Marks one of two words that people marked, and finds a third one weightier."""

    def _explain(self, text):
        start = text.index("clowns") if "clowns" in text else 0
        return Explanation(
            "composed",
            "s",
            (AffectedGroup("Women", 0.9),),
            (HarmfulWord(text[start : start + 6], start, start + 6, None, 1.0),),
            "r",
            (
                Evidence("number", text.index("number"), text.index("number") + 6, 0.9),
                Evidence(text[start : start + 6], start, start + 6, 0.5),
            ),
        )


def test_figures_of_explanations_that_are_half_right(recipe, registry):
    cells = evaluate(
        changed(recipe, explained_posts=5, suites=()), registry, explanations=True, engine=HalfRight()
    ).explanations["boards"]
    assert cells["token_f1"].value == pytest.approx(2 / 3)
    assert cells["iou_f1"].value == 1.0
    assert 0.3 < cells["rationale_auprc"].value < 0.9


class OneSided(WordEngine):
    """Only the adapter `full` calls a post hateful."""

    def score(self, texts, gates=None, **_: object):
        gates = self.gate(texts) if gates is None else gates
        hate = 0.1 + 0.8 * gates[:, self.adapters.index("full")]
        return np.stack([1 - hate, np.zeros(len(texts)), hate], axis=1)


@pytest.mark.parametrize(("reference", "hateful"), [("full", 1.0), ("blend", 0.0)])
def test_a_suite_is_answered_by_the_reference(recipe, registry, reference, hateful):
    narrow_one = changed(recipe, strategies=("blend", "full"), reference=reference, posts_per_set=4)
    [suite] = evaluate(narrow_one, registry, engine=OneSided()).suites
    assert suite.strategy == reference
    assert suite.hateful.value == hateful
    assert suite.non_hateful.value == 1 - hateful


@pytest.mark.parametrize("form", ["as_written", "upper"])
def test_explained_posts_have_the_gates_of_their_own_text(recipe, form):
    engine = WordEngine()
    section = recipe.eval.model_copy(update={"form": form, "explained_posts": 7, "reference": "top-1"})
    state = EvalState.start(section, engine, load_data(section, NO_PROGRESS), NO_PROGRESS)
    for name, posts in explain_sets(state, {"boards", "talk"}).items():
        texts = [each.text for each in posts.examples]
        assert len(texts) == 7
        assert np.array_equal(posts.gates, engine.gate(texts, "top-1"))
        assert posts.gates[0].tolist() == ([1, 0, 0] if name == "boards" else [0, 1, 0])


def test_the_question_is_that_of_the_whole_split(tmp_path):
    rows = [example("boards", i, "report", "forums") for i in range(60)]
    rows[17] = replace(rows[17], votes=(Vote(("offensive", "hate")),))
    write_examples(tmp_path / "examples.parquet", rows)
    for seed in range(5):
        section = EvalSection(data=str(tmp_path), posts_per_set=4, seed=seed)
        [data] = load_data(section, NO_PROGRESS)
        assert data.gold.question.cells == (("neutral",), ("offensive", "hate"))


def test_the_router_is_judged_by_groups_of_posts(recipe, registry, monkeypatch):
    judged = []

    def judge(gates, home, clusters, bootstrap):
        judged.append(clusters)
        return router_quality(gates, home, clusters, bootstrap)

    monkeypatch.setattr("hatex.workflows.evaluate.router_quality", judge)
    evaluate(changed(recipe, posts_per_set=None, suites=()), registry, engine=WordEngine())
    [clusters] = judged
    assert (len(clusters), len(set(clusters.tolist()))) == (150, 75)
