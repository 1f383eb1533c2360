"""Which posts an adapter sees, and what its tokens supervise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerFast

from hatex.data.prompts import PostView, load_prompt
from hatex.errors import TrainingError
from hatex.recipe.train import AdapterSection, TrainSection
from hatex.training.checks import check_votes, check_weights
from hatex.training.encoding import encode_rows, guess_rows, label_tokens
from hatex.training.rows import TrainingRow, select_examples
from hatex.types import Example, Rationale, Vote

COMPACT = load_prompt("compact")


@pytest.fixture(scope="module")
def pool(make_example) -> list[Example]:
    count = 40
    rows = [make_example(i) for i in range(count)]
    coarse = (("neutral",), ("offensive", "hate"))
    return rows + [
        make_example(i, dataset="talk", platform="wiki", labels=coarse[i % 2]) for i in range(count)
    ]


def chosen(pool: list[Example], sections: dict[str, AdapterSection], name: str, seed: int = 1) -> list[str]:
    return [e.id for e in select_examples(pool, name, sections, seed)]


def test_selection_is_seeded_and_never_leaves_train(pool) -> None:
    sections = {"a": AdapterSection(rows={"boards": 10}, fully_labelled_share=0)}
    assert chosen(pool, sections, "a") == chosen(pool, sections, "a") != chosen(pool, sections, "a", seed=2)
    rows = [replace(e, split="tune") if i % 2 else e for i, e in enumerate(pool)]
    picked = select_examples(rows, "a", sections, 1)
    assert len(picked) == 10
    assert {e.split for e in picked} == {"train"}


def test_an_adapter_that_starts_from_another_goes_on_where_it_stopped(pool) -> None:
    sections = {
        "full": AdapterSection(rows={"boards": 15}, fully_labelled_share=0),
        "next": AdapterSection(rows={"boards": 15}, init="full", fully_labelled_share=0),
        "last": AdapterSection(rows={"boards": 15}, init="next", fully_labelled_share=0),
    }
    first, second, third = (set(chosen(pool, sections, name)) for name in sections)
    assert not first & second
    assert len(first | second | third) == 40  # 10 new ones, then round again


def test_fully_labelled_rows_that_an_adapter_borrowed_count_as_seen(pool) -> None:
    section = {"platforms": ("wiki",), "rows": {"talk": 18}, "fully_labelled_share": 0.5}
    sections = {"wiki": AdapterSection(**section), "next": AdapterSection(**section, init="wiki")}
    first, second = (chosen(pool, sections, name) for name in sections)
    assert sum(i.startswith("boards") for i in first) == sum(i.startswith("boards") for i in second) == 18
    assert not set(first) & set(second)


def test_adapters_that_start_from_each_other_take_their_rows_once(pool) -> None:
    """Legal where one of them is in the registry already, from an earlier recipe."""
    sections = {
        "a": AdapterSection(rows={"boards": 15}, init="b", fully_labelled_share=0),
        "b": AdapterSection(rows={"boards": 10}, init="a", fully_labelled_share=0),
    }
    assert len(set(chosen(pool, sections, "a"))) == 15


def test_fully_labelled_share_is_reached_with_rows_of_other_platforms(pool) -> None:
    sections = {"wiki": AdapterSection(platforms=("wiki",), rows={"talk": 30}, fully_labelled_share=0.25)}
    ids = chosen(pool, sections, "wiki")
    own, others = [i for i in ids if i.startswith("talk")], [i for i in ids if i.startswith("boards")]
    assert len(own) == 30
    assert len(others) / len(ids) == pytest.approx(0.25)


def test_small_sets_give_what_they_have_and_others_what_is_missing(pool, make_example) -> None:
    few = [make_example(i, dataset="letters", platform="mail") for i in range(3)]
    sections = {"wiki": AdapterSection(platforms=("wiki",), rows={"talk": 30}, fully_labelled_share=0.4)}
    ids = chosen([*pool, *few], sections, "wiki")
    assert len(ids) == len(set(ids)) == 50
    assert sum(i.startswith("letters") for i in ids) == 3


def test_rows_without_a_fully_labelled_source_are_refused(pool) -> None:
    coarse = [e for e in pool if e.dataset == "talk"]
    sections = {"wiki": AdapterSection(platforms=("wiki",))}
    with pytest.raises(TrainingError, match="fully labelled") as caught:
        select_examples(coarse, "wiki", sections, 1)
    assert "fully_labelled_share: 0" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("section", "message", "hint"),
    [
        (AdapterSection(platforms=("radio",)), "no training rows of platform radio", "forums, wiki"),
        (AdapterSection(platforms=("wiki", "wkii")), "no training rows of platform wkii", "forums, wiki"),
        (AdapterSection(rows={"letters": 5}), "no training rows of data set letters", "boards, talk"),
    ],
)
def test_what_is_not_there_is_refused(pool, section: AdapterSection, message: str, hint: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        select_examples(pool, "a", {"a": section}, 1)
    assert hint in (caught.value.hint or "")


def rows_of(shares: list[tuple[float, ...]]) -> list[TrainingRow]:
    return [TrainingRow(str(i), "d", (1,), 0, (), share, 1.0) for i, share in enumerate(shares)]


def test_one_class_and_untouched_labels_are_refused() -> None:
    def shares(**by_set: float) -> tuple[float, ...]:
        order = ("n", "o", "h", "no", "nh", "oh", "noh")
        return tuple(by_set.get(key, 0.0) for key in order)

    with pytest.raises(TrainingError, match="says offensive or hate, so there is nothing to tell apart"):
        check_votes("a", rows_of([shares(oh=1.0), shares(oh=0.5, noh=0.5)]), {"0", "1"})
    with pytest.raises(TrainingError, match="on its own posts says hate"):
        check_votes("a", rows_of([shares(h=1.0), shares(n=1.0), shares(o=1.0)]), {"0"})
    with pytest.raises(TrainingError, match="touches hate") as caught:
        check_votes("a", rows_of([shares(n=1.0), shares(o=1.0)]), {"0", "1"})
    assert "offensive|hate" in (caught.value.hint or "")
    check_votes("a", rows_of([shares(n=1.0), shares(oh=1.0)]), {"0", "1"})


def test_weights_of_sets_that_are_not_there_are_refused(make_example) -> None:
    examples = [make_example(i) for i in range(6)]

    def check(**settings: object) -> None:
        check_weights(TrainSection.model_validate({"data": "d", "adapters": {"a": {}}, **settings}), examples)

    check(priors={"boards": {"hate": 0.4}}, adapters={"a": {"dataset_weights": {"boards": 2.0}}})
    with pytest.raises(TrainingError, match="no training rows of data set borads"):
        check(priors={"borads": {"hate": 0.4}})
    with pytest.raises(TrainingError, match="no training rows of data set borads"):
        check(adapters={"a": {"dataset_weights": {"borads": 2.0}}})
    with pytest.raises(TrainingError, match=r"no vote on boards says neutral\|offensive"):
        check(priors={"boards": {"neutral|offensive": 0.4}})
    with pytest.raises(ValueError, match="greater than 0"):
        check(adapters={"a": {"dataset_weights": {"boards": 0}}})
    with pytest.raises(ValueError, match="at least 1 item"):
        check(lora={"modules": []})
    with pytest.raises(ValueError, match="no adapter can be called router"):
        check(adapters={"router": {}})


def encode(examples: list[Example], tokenizer, prompt=COMPACT, **options):
    settings = {"max_tokens": 200, "with_answers": True} | options
    return encode_rows(examples, prompt, tokenizer, **settings)


def decode(tokenizer, row: TrainingRow, at) -> str:
    return tokenizer.decode([row.ids[i] for i in at])


def test_label_position_and_answer_decode_back(make_example, tokenizer) -> None:
    example = make_example(1)
    (row,) = encode([example], tokenizer)
    assert decode(tokenizer, row, range(row.label_at + 1)) == f"Post: {example.text}\nLabel:"
    assert decode(tokenizer, row, [row.label_at + 1]) == " offensive"
    assert decode(tokenizer, row, row.answer_at) == "\nTargets: Women\nWords: silly clowns\n"
    assert row.answer_at == tuple(range(row.label_at + 2, len(row.ids)))
    assert label_tokens(COMPACT, tokenizer) == [tokenizer(t)["input_ids"][0] for t in COMPACT.label_texts]


def test_what_nobody_was_asked_is_masked(make_example, tokenizer) -> None:
    both = make_example(1)
    only_words = replace(both, targets=(), has_targets=False)
    only_targets = replace(both, rationales=(), has_rationales=False)
    nothing = replace(only_words, rationales=(), has_rationales=False)
    words, targets, empty, neutral = encode([only_words, only_targets, nothing, make_example(0)], tokenizer)
    assert decode(tokenizer, words, words.answer_at) == "\nWords: silly clowns\n"
    assert decode(tokenizer, targets, targets.answer_at) == "\nTargets: Women"
    assert empty.answer_at == neutral.answer_at == ()
    assert empty.label_at == len(empty.ids) - 1
    assert encode([both], tokenizer, with_answers=False)[0].answer_at == ()


def test_a_post_that_was_cut_has_no_answer(make_example, tokenizer) -> None:
    (row,) = encode([make_example(1)], tokenizer, max_tokens=30)
    assert row.answer_at == ()
    assert len(row.ids) <= 30


def test_rationale_words_stand_in_the_varied_post(make_example, tokenizer) -> None:
    examples = [replace(make_example(3 * i + 1), id=f"b:{i}") for i in range(30)]
    plain = encode(examples, tokenizer)
    varied = encode(examples, tokenizer, formatting_noise=1.0, seed=3)
    assert sum(a.ids != b.ids for a, b in zip(plain, varied, strict=True)) > 15
    for row in varied:
        post = decode(tokenizer, row, range(row.label_at + 1)).removeprefix("Post: ").removesuffix("\nLabel:")
        words = decode(tokenizer, row, row.answer_at).split("\nWords: ")[1].rstrip("\n")
        assert words in post
        assert words.lower().startswith("silly")
    assert encode(examples, tokenizer, formatting_noise=1.0, seed=3) == varied


def test_control_tokens_of_a_post_are_not_shown_in_training_either(make_example, tokenizer) -> None:
    plain = make_example(1)
    text = plain.text.replace("silly clowns", "silly<pad> <unk> clowns")
    assert len(text) == len(plain.text) + 11
    first = plain.rationales[0]
    marked = replace(plain, text=text, rationales=(replace(first, end=first.end + 11),))
    (row,), (shown,) = encode([marked], tokenizer), encode([plain], tokenizer)
    assert row.ids == shown.ids
    assert decode(tokenizer, row, row.answer_at).endswith("\nWords: silly clowns\n")


def test_words_need_half_of_the_annotators(make_example, tokenizer) -> None:
    text = make_example(1).text
    spans = [(4, 9, "a"), (4, 16, "b"), (17, 21, "c")]  # silly; silly clowns; lost
    example = replace(make_example(1), rationales=tuple(Rationale(*span) for span in spans))
    assert text[4:16] == "silly clowns"
    (row,) = encode([example], tokenizer)
    assert decode(tokenizer, row, row.answer_at).endswith("\nWords: silly\n")


def test_explanation_first_templates_supervise_what_was_written(make_example, tokenizer) -> None:
    prompt = load_prompt("five-part")
    written = replace(
        make_example(1), explanation={"summary": "It mocks\n a club.", "reason": "It belittles."}
    )
    row, bare = encode([written, make_example(1)], tokenizer, prompt, max_tokens=400)
    before = decode(tokenizer, row, range(row.label_at + 1))
    assert before.startswith(prompt.render(written.text) + " It mocks a club.\nClassification")
    assert before.endswith("hate):")
    assert decode(tokenizer, row, [row.label_at + 1]) == " offensive"
    supervised = decode(tokenizer, row, row.answer_at)
    assert supervised.endswith("\nHarmful words: silly clowns\nReason for harm: It belittles.\n")
    assert "It mocks a club." in supervised
    assert decode(tokenizer, bare, bare.answer_at) == "\nAffected groups: Women\nHarmful words: silly clowns"


def test_posts_that_may_be_harmless_teach_no_answer_unless_people_marked_harm(
    make_example, tokenizer
) -> None:
    """A table's `not_hate: neutral|offensive` with a column of targets: nobody said that the post is offensive."""
    not_hate = make_example(1, labels=("neutral", "offensive"))
    unmarked = replace(not_hate, targets=(), rationales=(), has_rationales=False)
    silent = replace(unmarked, votes=(Vote(("neutral", "offensive", "hate"), 3),))
    rows = encode([unmarked, silent, replace(not_hate, targets=())], tokenizer)
    assert [bool(row.answer_at) for row in rows] == [False, False, True]
    assert decode(tokenizer, rows[2], [rows[2].label_at + 1]) == " offensive"


def test_groups_outside_of_the_closed_list_are_not_taught_as_none(make_example, tokenizer) -> None:
    unknown, partly = (replace(make_example(1), targets=names) for names in (("women",), ("women", "Men")))
    first, second = encode([unknown, partly], tokenizer)
    assert decode(tokenizer, first, first.answer_at) == "\nWords: silly clowns\n"
    assert decode(tokenizer, second, second.answer_at) == "\nTargets: Men\nWords: silly clowns\n"


def test_written_groups_and_words_stand_in_where_nobody_was_asked(make_example, tokenizer) -> None:
    start = make_example(1).text.find("clowns")
    written = {
        "reason": "It belittles.",
        "affected_groups": ["Men"],
        "harmful_words": [{"text": "clowns", "start": start, "end": start + 6, "group": None}],
    }
    asked = replace(make_example(1), explanation=written)
    unasked = replace(asked, targets=(), has_targets=False, rationales=(), has_rationales=False)
    by_people, by_writer = encode([asked, unasked], tokenizer)
    assert decode(tokenizer, by_people, by_people.answer_at) == "\nTargets: Women\nWords: silly clowns\n"
    assert decode(tokenizer, by_writer, by_writer.answer_at) == "\nTargets: Men\nWords: clowns\n"


def sentencepiece() -> PreTrainedTokenizerFast:
    """A tokenizer that, as Llama-2's, puts a space before every string and knows line breaks as bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    names = [
        "<unk>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "\u2581",
        *"abcdefghijklmnopqrstuvwxyzTWPL:.",
    ]
    merges = []
    for word in ("\u2581neutral", "\u2581offensive", "\u2581hate"):
        for end in range(2, len(word) + 1):
            if word[:end] not in names:
                names.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    vocabulary = {name: number for number, name in enumerate(names)}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_an_answer_is_tokenised_as_decoding_reads_it(make_example) -> None:
    tokenizer = sentencepiece()
    prompt = replace(COMPACT, label="{label}")
    (row,) = encode([make_example(1)], tokenizer, prompt)
    served = "offensive" + prompt.render_answer(["Women"], ["silly clowns"])
    assert list(row.ids[row.label_at + 1 :]) == tokenizer(served)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(row.ids[row.label_at + 2]) == "<0x0A>"
    assert row.answer_at == tuple(range(row.label_at + 2, len(row.ids)))


def test_a_label_is_told_by_the_fewest_tokens_that_differ(tokenizer) -> None:
    whole = COMPACT.label_ids(tokenizer)
    assert [len(ids) for ids in whole] == [1, 1, 1]
    spelled = replace(COMPACT, label="|{label}").label_ids(tokenizer)
    assert [tokenizer.decode(ids) for ids in spelled] == ["|n", "|o", "|h"]
    assert label_tokens(replace(COMPACT, label="{label}!"), tokenizer) == [
        tokenizer(letter)["input_ids"][0] for letter in "noh"
    ]


def test_labels_that_begin_alike_are_refused(tokenizer) -> None:
    with pytest.raises(TrainingError, match="same token"):
        label_tokens(replace(COMPACT, label="\n {label}"), tokenizer)


def test_shares_are_carried_over(make_example, tokenizer) -> None:
    example = replace(make_example(0), votes=(Vote(("neutral",), 3), Vote(("offensive", "hate"), 1)))
    (row,) = encode([example], tokenizer)
    assert row.shares == (0.75, 0, 0, 0, 0, 0.25, 0)
    assert row.weight == 1.0


def test_guessed_rows_are_about_as_long(make_example, tokenizer) -> None:
    examples = [make_example(i) for i in range(5)]
    real = encode(examples, tokenizer, with_answers=False)
    guessed = guess_rows(examples, COMPACT, 1, 200)  # the tokenizer here has one byte a token
    assert [len(row.ids) for row in guessed] == [len(row.ids) for row in real]
    assert PostView.of(examples[0].text).text == examples[0].text
