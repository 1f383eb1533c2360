"""`hatex explain` end to end: a real registry with a tiny base, encoder, adapters and router of random weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]

from hatex.cli import main
from hatex.registry import Registry
from hatex.routing.calibration import Calibration

POST = "Honestly, your football club is a circus and all of you are clowns"
MARKED = "football is your circus, honestly"
"""The small model calls it hate and marks words of it."""
ADAPTERS = ("microblog", "forums", "full")


def build_tokenizer(folder: Path) -> int:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    lines = [POST, "\nTargets: none\nWords: none | none\n", "Post: x\nLabel: neutral offensive hate"] * 9
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(lines, trainer)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>").save_pretrained(
        folder
    )
    return int(backend.get_vocab_size())


def build_models(folder: Path) -> None:
    """A two-layer Llama and a two-layer BERT, as folders in transformers' layout."""
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    vocabulary = build_tokenizer(folder / "base")
    build_tokenizer(folder / "encoder")
    torch.manual_seed(4761)
    llama = LlamaConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(llama).save_pretrained(folder / "base")
    bert = BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    BertModel(bert).save_pretrained(folder / "encoder")


def publish_adapters(registry: Registry, base: Any) -> None:
    import torch

    from hatex.registry.adapters import LoraAdapter, LoraUpdate, save_adapter

    for seed, name in enumerate(ADAPTERS):
        generator = torch.Generator().manual_seed(seed)
        modules = {
            f"model.layers.{layer}.self_attn.q_proj": LoraUpdate(
                torch.randn(4, 64, generator=generator), torch.randn(64, 4, generator=generator), 0.5
            )
            for layer in range(2)
        }
        fields = {"base_identity": base.manifest.base_identity, "votes_per_post": 3.0}
        with registry.publish("adapter", name, base=base.name, manifest_fields=fields) as folder:
            save_adapter(folder, LoraAdapter(name, modules), base_model=base.name)


def publish_router(registry: Registry) -> None:
    from hatex.routing.router import Router

    draw = np.random.default_rng(0)
    weights = {
        "hidden.weight": draw.normal(size=(8, 32)).astype(np.float32),
        "hidden.bias": np.zeros(8, np.float32),
        "output.weight": draw.normal(size=(2, 8)).astype(np.float32),
        "output.bias": np.zeros(2, np.float32),
    }
    with registry.publish("router", "tiny", manifest_fields={"adapters": list(ADAPTERS[:2])}) as folder:
        Router(ADAPTERS[:2], weights).save(folder, {})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hatex.model.base import ensure_base, ensure_encoder
    from hatex.recipe import load_recipe

    home = tmp_path_factory.mktemp("explain")
    build_models(home)
    recipe = {
        "version": 1,
        "name": "tiny",
        "base": {"name": "tiny", "source": {"folder": str(home / "base")}, "dtype": "float32"},
        "encoder": {"name": "tiny-encoder", "source": {"folder": str(home / "encoder")}},
        "adapters": list(ADAPTERS),
        "router": "tiny",
        "explain": {"max_new_tokens": 60},
    }
    (home / "tiny.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    loaded = load_recipe(str(home / "tiny.yaml"))
    registry = Registry(home / "registry", None)
    base = ensure_base(loaded.base, registry)
    ensure_encoder(loaded.encoder, registry)
    publish_adapters(registry, base)
    publish_router(registry)
    return home


@pytest.fixture
def run(home: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    def explain(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        where = ["--recipe", str(home / "tiny.yaml"), "--registry", str(home / "registry")]
        code = main(["explain", *arguments, *where])
        return code, *capfd.readouterr()

    return explain


def test_json_follows_the_contract_and_repeats(run: Any) -> None:
    code, out, err = run(POST, "--json")
    assert (code, out.count("\n")) == (0, 1)
    assert "content note" in err
    record = json.loads(out)
    assert list(record) == [
        "schema", "label", "probabilities", "gates", "strategy", "disagreement", "disagreement_basis", "decision",
        "model", "explanation",
    ]  # fmt: skip
    assert list(record["gates"]) == list(ADAPTERS)
    assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    for item in (*record["explanation"]["harmful_words"], *record["explanation"]["evidence"]):
        assert item["text"] == POST[item["start"] : item["end"]]
    assert len(record["explanation"]["evidence"]) == len(POST.split())
    assert run(POST, "--json")[1] == out
    code, again, err = run(POST, "--format", "json", "--quiet")
    assert (code, again) == (0, out)
    assert "content note" not in err


def test_json_records_are_those_that_route_writes(
    home: Path, run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    german = "Vielen Dank für den wunderbaren Abend im Stadion, wir sehen uns nächste Woche wieder"
    posts = tmp_path / "posts.jsonl"
    posts.write_text(json.dumps({"id": "a", "text": german}) + "\n", encoding="utf-8")
    where = ["--recipe", str(home / "tiny.yaml"), "--registry", str(home / "registry")]
    policy = ["--set", "route.policy.flag_hate=1", "--set", "route.policy.review_neutral=0"]
    policy += ["--set", "route.policy.review_disagreement=1"]
    explained = json.loads(run(str(posts), "--json", *policy)[1])
    assert main(["route", str(posts), "--explain", *policy, *where]) == 0
    routed = json.loads(capfd.readouterr().out)
    assert explained["reasons"] == ["language: de"]
    assert list(explained) == list(routed)
    for field in ("schema", "id", "label", "strategy", "decision", "model", "reasons"):
        assert explained[field] == routed[field]


def test_the_panel_has_what_a_reviewer_needs(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(POST, "--compare")
    assert code == 0
    for heading in ("Gate weights", "that adapter alone would say", "Post", "Why", "Strategies side by side"):
        assert heading in out
    for name in (*ADAPTERS, "single:forums", "uniform", "top-1", "blend"):
        assert name in out
    assert max(map(len, out.splitlines())) == 80


def test_compare_in_json_names_every_strategy_once(run: Any) -> None:
    record = json.loads(run(POST, "--json", "--compare", "--strategy", "uniform")[1])
    names = [each["strategy"] for each in record["compared"]]
    assert names == ["uniform", "blend", "top-1", "single:microblog", "single:forums", "full"]
    assert record["compared"][0]["probabilities"] == record["probabilities"]


@pytest.mark.parametrize(
    ("form", "start"), [("markdown", "## "), ("html", "<!doctype html>"), ("svg", "<svg"), ("dsa", "{")]
)
def test_every_format(run: Any, form: str, start: str) -> None:
    arguments = [POST, "--format", form, "--set", "route.policy.review_neutral=1"]
    if form == "dsa":
        arguments += ["--date", "2026-03-01"]
    code, out, _ = run(*arguments)
    assert code == 0
    assert out.startswith(start)


def test_statements_are_for_posts_that_are_not_allowed(run: Any) -> None:
    policy = ["--set", "route.policy.flag_hate=1", "--set", "route.policy.review_neutral=0"]
    policy += ["--set", "route.policy.review_disagreement=1"]
    arguments = ("--format", "dsa", "--date", "2026-03-01", "--evidence", "none", *policy)
    code, out, err = run(POST, *arguments)
    assert (code, out) == (0, "")
    assert "allowed, so there is nothing to state" in err
    german = "Vielen Dank für den wunderbaren Abend im Stadion, wir sehen uns nächste Woche wieder"
    code, out, err = run(german, *arguments)
    assert (code, out) == (0, "")
    assert "for review (language: de), so there is nothing to state yet" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "dsa"), "add --date YYYY-MM-DD"),
        (("--date", "1.3.2026"), "is not YYYY-MM-DD"),
        (("--format", "dsa", "--date", "2100-01-01"), "is not from 2000 to 2099"),
        (("--date", "2026-03-01"), "hint: add --format dsa"),
        (
            ("--format", "dsa", "--date", "2026-03-01", "--compare"),
            "--compare: a statement of reasons has one",
        ),
        (
            ("--format", "dsa", "--date", "2026-03-01", "--temperature", "1", "--num-return-sequences", "2"),
            "--num-return-sequences: a statement of reasons has one",
        ),
        (("--top-p", "0.9"), "--top-p: has no effect without sampling\nhint: add --temperature 0.7"),
        (("--seed", "0"), "--seed: has no effect without sampling"),
        (("--num-return-sequences", "3"), "add --temperature"),
        (("--strategy", "single:nobody"), "there is no adapter nobody"),
        (("--evidence", "guess"), "guess"),
        (("--top-p", "2"), "top-p"),
    ],
)
def test_wrong_options_say_what_and_leave_with_two(run: Any, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run(POST, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_an_unknown_strategy_is_told_before_the_engine_is_loaded(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the engine was loaded")

    monkeypatch.setattr("hatex.engine.load_engine", load)
    code, _, err = run(POST, "--strategy", "top-9")
    assert (code, "top-9: the router weighs" in err) == (2, True)
    assert run(POST, "--strategy", "top-1")[0] == 1


@pytest.mark.parametrize("form", ["html", "dsa", "rich"])
def test_json_is_not_printed_where_another_format_was_asked_for(run: Any, form: str) -> None:
    code, out, _ = run(POST, "--format", form, "--json")
    assert code == 2
    error = json.loads(out)["error"]
    assert (error["where"], error["hint"]) == ("--json", "leave one of them out")
    assert form in error["message"]


@pytest.mark.parametrize(
    ("source", "said"), [("", "empty"), ("missing.jsonl", "there is no such file"), ("\ud800", "half")]
)
def test_sources_that_cannot_be_explained(run: Any, source: str, said: str) -> None:
    code, out, err = run(source)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    "text", ["a\x00b clowns", "\u202eclowns\u202c of a club", "\U0001f921" * 40, "clowns " * 9000]
)
def test_odd_texts_are_answered(run: Any, text: str) -> None:
    code, out, _ = run(text, "--json", "--set", "explain.max_variants=8")
    assert code == 0
    record = json.loads(out)
    assert record.get("truncated", False) is (len(text) > 9000)
    for item in (*record["explanation"]["harmful_words"], *record["explanation"]["evidence"]):
        assert item["text"] == text[item["start"] : item["end"]]


def test_samples_are_drawn_by_seed_and_temperature(run: Any) -> None:
    def drawn(*arguments: str) -> list[str]:
        code, out, _ = run(MARKED, "--json", "--evidence", "none", *arguments)
        assert code == 0
        record = json.loads(out)
        return [json.dumps(each) for each in (record["explanation"], *record.get("samples", ()))]

    hot = ("--temperature", "2", "--top-p", "0.95", "--num-return-sequences", "3")
    first = drawn(*hot, "--seed", "5")
    assert len(set(first)) > 1
    assert drawn(*hot, "--seed", "5") == first
    assert drawn(*hot, "--seed", "6") != first


def test_a_sample_does_not_depend_on_the_posts_before_it(run: Any, tmp_path: Path) -> None:
    hot = ("--json", "--evidence", "none", "--temperature", "2", "--num-return-sequences", "2", "--seed", "5")
    (tmp_path / "posts.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in (f"{MARKED} again", MARKED))
    )
    code, out, _ = run(str(tmp_path / "posts.jsonl"), *hot)
    assert code == 0
    among = json.loads(out.splitlines()[1])
    alone = json.loads(run(MARKED, *hot)[1])
    # Probabilities differ in their last digits with the size of the batch; what was drawn does not.
    drawn = [
        [
            (
                [word["text"] for word in each["harmful_words"]],
                [group["name"] for group in each["affected_groups"]],
            )
            for each in (record["explanation"], *record["samples"])
        ]
        for record in (among, alone)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


def test_a_small_token_budget_cuts_the_answer(run: Any) -> None:
    words = [
        json.loads(run(MARKED, "--json", *budget)[1])["explanation"]["harmful_words"]
        for budget in ((), ("--max-new-tokens", "2"))
    ]
    assert words[0]
    assert not words[1]


def test_each_adapters_own_answer_is_the_one_it_gives_alone(run: Any) -> None:
    out = run(MARKED, "--evidence", "none")[1]
    seen = set()
    for name in ADAPTERS:
        strategy = "full" if name == "full" else f"single:{name}"
        alone = json.loads(run(MARKED, "--json", "--evidence", "none", "--strategy", strategy)[1])
        share = f"{alone['probabilities'][alone['label']]:.0%}".replace("%", " %")
        (line,) = [row for row in out.splitlines() if row.startswith(f"│ {name} ")]
        assert f"{alone['label']} {share}" in line
        seen.add(share)
    assert len(seen) > 1


def test_masks_reach_every_format(run: Any) -> None:
    marked = [w["text"] for w in json.loads(run(MARKED, "--json")[1])["explanation"]["harmful_words"]]
    words = {word.strip(",") for text in marked for word in text.split() if len(word.strip(",")) > 3}
    assert words
    for form in ("json", "rich", "markdown", "html", "svg"):
        assert all(word in run(MARKED, "--format", form)[1] for word in words)
        out = run(MARKED, "--mask", "--format", form)[1]
        assert not [word for word in words if word in out]


def test_a_file_of_posts_with_bad_lines(run: Any, tmp_path: Path) -> None:
    lines = [
        '{"id": "a", "text": "what a match"}',
        "nonsense",
        '{"id": "b", "text": ""}',
        '{"text": "clowns"}',
    ]
    (tmp_path / "posts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, out, err = run(str(tmp_path / "posts.jsonl"), "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 4
    assert [record.get("id") for record in records] == ["a", None, "b", None]
    assert [record.get("line") for record in records] == [None, 2, 3, 4]
    assert [record.get("error", {}).get("kind") for record in records] == [None, "json", "empty", None]
    assert "2 input lines could not be answered\nhint: every line has to be an object like " in err
    code, out, err = run(str(tmp_path / "posts.jsonl"))
    assert code == 4
    assert out.count("╭") == 2
    assert "line 2: " in err
    assert "nonsense" not in err


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        (POST + "\n", [None]),
        ("two lines\nof one post\n", [None]),
        ('{"id": 1, "text": "what a match"}\n{"id": 2, "text": "clowns"}\n', [1, 2]),
        ('\n{"id": 1, "text": "what a match"}', [1]),
        ("{not json, but a post}", [None]),
    ],
)
def test_stdin_is_one_post_or_jsonl(run: Any, tmp_path: Path, given: str, ids: list[int | None]) -> None:
    (tmp_path / "stdin").write_text(given, encoding="utf-8")
    with redirected_stdin(tmp_path / "stdin"):
        code, out, _ = run("-", "--json", "--evidence", "none")
    assert code == 0
    assert [json.loads(line).get("id") for line in out.splitlines()] == ids


def test_a_bad_first_line_leaves_stdin_jsonl(run: Any, tmp_path: Path) -> None:
    lines = '{"id": "a", "text": ""}\n{"id": "b", "text": "what a match"}\n'
    (tmp_path / "stdin").write_text(lines, encoding="utf-8")
    with redirected_stdin(tmp_path / "stdin"):
        code, out, _ = run("-", "--json", "--evidence", "none")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 4
    assert [(record["id"], "error" in record) for record in records] == [("a", True), ("b", False)]


def test_a_broken_first_line_is_told_and_the_others_are_answered(run: Any, tmp_path: Path) -> None:
    lines = '{"id": "a", "text": "clowns}\n{"id": "b", "text": "what a match"}\n'
    (tmp_path / "stdin").write_text(lines, encoding="utf-8")
    with redirected_stdin(tmp_path / "stdin"):
        code, out, err = run("-", "--evidence", "none")
    assert (code, out.count("╭"), " · b " in out) == (4, 1, True)
    assert "line 1: the line is not JSON: " in err
    assert "hint: every line has to be an object like " in err
    assert "a post of several lines can be given as TEXT" in err


def test_evidence_starts_from_the_blend_space_that_answered(home: Path, run: Any) -> None:
    from hatex.engine import load_engine
    from hatex.recipe import load_recipe
    from hatex.types import LABELS

    engine = load_engine(load_recipe(str(home / "tiny.yaml")), Registry(home / "registry", None))

    def empty(space: Any, label: Any) -> float:
        return float(engine.score([""], engine.gate(["clowns"]), space)[0, LABELS.index(label)])

    for space in ("probability", "reference"):
        _, out, _ = run("clowns", "--json", "--space", space, "--compare")
        record = json.loads(out)
        _, rest, _ = run("x", "--json", "--space", space)
        assert record["probabilities"] != json.loads(rest)["probabilities"]
        chosen = record["label"]
        (found,) = record["explanation"]["evidence"]
        # Without its one word the post is empty, and as likely as the empty post is in that space.
        assert found["weight"] == pytest.approx(
            record["probabilities"][chosen] - empty(space, chosen), abs=1e-5
        )
        top = next(each for each in record["compared"] if each["strategy"] == "single:forums")
        _, alone, _ = run("clowns", "--json", "--space", space, "--strategy", "single:forums")
        expected = json.loads(alone)["probabilities"]
        for label in LABELS:
            assert top["probabilities"][label] == pytest.approx(expected[label], abs=1e-5)


def test_gradients_are_those_of_delta(run: Any) -> None:
    code, _, err = run(POST, "--evidence", "gradient", "--space", "reference")
    assert code == 2
    assert "gradients are those of the blend space delta" in err


def test_a_wrong_date_is_a_bad_line_of_statements(run: Any, tmp_path: Path) -> None:
    lines = [
        '{"text": "clowns", "date": "yesterday"}',
        '{"text": "clowns", "date": "1999-05-05"}',
        '{"text": "clowns", "date": "2999-05-05"}',
        '{"text": "clowns", "date": "2026-02-03"}',
        '{"text": "clowns"}',
        '{"text": "clowns", "date": 1770076800}',
    ]
    (tmp_path / "posts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ["--set", "route.policy.review_disagreement=0"]
    code, out, err = run(
        str(tmp_path / "posts.jsonl"), "--format", "dsa", "--date", "2026-03-01", *flags, "--evidence", "none"
    )
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 4
    assert [record.get("error", {}).get("kind") for record in records] == [
        "date",
        "date",
        "date",
        None,
        None,
        "date",
    ]
    assert [record["content_date"] for record in records[3:5]] == ["2026-02-03", "2026-03-01"]
    assert [record["application_date"] for record in records[3:5]] == ["2026-03-01"] * 2
    assert "whose content_date is the day of the decision: 1\n" in err
    assert records[3]["puid"] != records[4]["puid"]


@pytest.mark.parametrize(("given", "said"), [(b"\xff\xfe", "not UTF-8"), (b"", "empty")])
def test_stdin_that_is_no_text_is_refused_before_anything_is_loaded(
    given: bytes, said: str, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stdin").write_bytes(given)
    # In this registry is nothing that could be loaded but a router, whose manifest knows the strategies.
    shutil.copytree(home / "registry" / "routers", tmp_path / "home" / "routers")
    with redirected_stdin(tmp_path / "stdin"):
        code = main(
            ["explain", "-", "--recipe", str(home / "tiny.yaml"), "--registry", str(tmp_path / "home")]
        )
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert f"error: stdin: the {'input is' if given else 'text is'} {said}" in err


@contextmanager
def redirected_stdin(path: Path) -> Iterator[None]:
    """Let file descriptor 0 read `path`."""
    saved = os.dup(0)
    with path.open("rb") as stream:
        os.dup2(stream.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(saved, 0)
            os.close(saved)


def test_a_template_that_explains_first_is_scored_behind_its_explanation(home: Path, run: Any) -> None:
    arguments = (POST, "--json", "--evidence", "none", "--set", "prompt=five-part")
    code, out, _ = run(*arguments)
    assert code == 0
    record = json.loads(out)
    assert record["explanation"]["style"] == "generated"
    assert record["explanation"]["summary"]
    assert run(*arguments)[1] == out
    engine = engine_of(home, "prompt=five-part")
    gates = engine.gate([POST])
    (preface,) = engine.model.explainer.write_prefaces([POST], gates.astype(np.float32))
    assert record["explanation"]["summary"] in preface
    ids = engine.model.tokenizer(engine.model.prompt.render(POST) + preface)["input_ids"]
    behind = engine.model.score([ids], gates, "delta")[0]
    assert list(record["probabilities"].values()) == pytest.approx(behind.tolist(), abs=1e-4)


def engine_of(home: Path, *overrides: str) -> Any:
    from hatex.engine import load_engine
    from hatex.recipe import load_recipe

    return load_engine(
        load_recipe(str(home / "tiny.yaml"), list(overrides)), Registry(home / "registry", None)
    )


def test_answers_are_calibrated_as_the_router_says(home: Path) -> None:
    from hatex.routing.calibration import Calibration
    from hatex.routing.router import Router

    plain = engine_of(home)
    draw = np.random.default_rng(1)
    calibration = Calibration(draw.uniform(0.5, 2, len(ADAPTERS)), draw.normal(size=(len(ADAPTERS), 3)))
    registry = Registry(home / "registry", None)
    with registry.publish("router", "calibrated", manifest_fields={"adapters": list(ADAPTERS[:2])}) as folder:
        Router(ADAPTERS[:2], plain.router.weights).save(folder, calibration.record(ADAPTERS))
    engine, texts = engine_of(home, "router=calibrated"), [POST, MARKED]
    gates = engine.gate(texts)
    raw = plain.score(texts, gates)
    assert engine.score(texts, gates, calibrated=False) == pytest.approx(raw)
    logits = (gates @ calibration.scales)[:, None] * np.log(raw) + gates @ calibration.biases
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.abs(expected - raw).max() > 0.05
    assert engine.score(texts, gates) == pytest.approx(expected, abs=1e-5)
    options = engine.explain_options
    assert engine.model.score_variants(texts, texts, [0, 1], gates, options) == pytest.approx(
        expected, abs=1e-4
    )
    answered = np.array([list(verdict.probabilities.values()) for verdict in engine.verdicts(texts)])
    assert answered == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("is_fast", [True, False], ids=["own blocks", "transformers"])
def test_variants_score_as_whole_posts_do(home: Path, is_fast: bool) -> None:
    import torch

    from hatex.engine import SPACES, load_engine
    from hatex.model.gatedlm import GatedLM
    from hatex.recipe import load_recipe
    from hatex.registry.adapters import load_adapter

    registry = Registry(home / "registry", None)
    engine = load_engine(load_recipe(str(home / "tiny.yaml")), registry)
    if not is_fast:
        lm = GatedLM.load(registry.find("base", "tiny").path, "resident", torch.float32, fast=False)
        lm.attach([load_adapter(registry.find("adapter", name, base="tiny")) for name in ADAPTERS])
        engine = replace(engine, model=replace(engine.model, lm=lm))
    texts = [POST, "clowns", "what a lovely match that was, thank you all for coming today"]
    variants, owners = [], []
    for owner, text in enumerate(texts):
        words = text.split()
        variants += [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))] + [
            text,
            text + " again",
        ]
        owners += [owner] * (len(words) + 2)
    gates = engine.gate(texts)
    assert np.ptp(engine.score(variants, gates[owners])[:, 0]) > 1e-3
    for space in SPACES:
        options = replace(engine.explain_options, space=space)
        apart = engine.model.score_variants(texts, variants, owners, gates, options)
        assert np.abs(engine.score(variants, gates[owners], space) - apart).max() < 1e-5


def test_gradients_add_up_to_what_the_post_changes(home: Path, run: Any) -> None:
    import torch

    from hatex.engine import load_engine
    from hatex.model.attribution import label_logits
    from hatex.recipe import load_recipe

    engine = load_engine(load_recipe(str(home / "tiny.yaml")), Registry(home / "registry", None))
    n = len(engine.adapters)
    calibration = Calibration(np.full(n, 0.5), np.tile([0.3, -0.2, 0.4], (n, 1)))
    engine = replace(engine, model=replace(engine.model, calibration=calibration))
    gates = engine.gate([POST])
    ((*attributions,),) = engine.model.integrated_gradients([POST], gates, [2], steps=200)
    tokenizer = engine.model.tokenizer
    tokens = engine.model.prompt.locate(tokenizer, POST, 512)
    assert tokens.ids == engine.model.prompt.encode(tokenizer, [POST], 512)[0].ids
    assert "".join(POST[start:end] for start, end in tokens.spans) == POST
    ids = torch.tensor(tokens.ids)
    filled = ids.clone()
    filled[tokens.post.start : tokens.post.stop] = tokenizer.eos_token_id
    embedded = engine.model.lm.model.get_input_embeddings()(torch.stack((filled, ids)))
    labels = [tokenizer(text)["input_ids"][0] for text in engine.model.prompt.label_texts]
    with torch.inference_mode():
        logits = label_logits(engine.model.lm, ids, embedded, labels, torch.tensor(gates[0]))
    before, after = calibration.apply(logits.double().numpy(), np.repeat(gates, 2, axis=0))[:, 2]
    assert engine.score([POST], gates)[0, 2] == pytest.approx(after, abs=1e-5)
    assert abs(engine.score([POST], gates, calibrated=False)[0, 2] - after) > 0.02
    assert sum(weight for *_, weight in attributions) == pytest.approx(float(after - before), abs=0.02)
    code, out, _ = run(POST, "--json", "--evidence", "gradient")
    assert code == 0
    assert [item["text"] for item in json.loads(out)["explanation"]["evidence"]] == POST.split()
