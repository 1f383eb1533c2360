"""What a person sees, at a fixed width, with mild invented posts."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.dom.minidom
from dataclasses import replace
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.cells import cell_len
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from hatex.explanation.compose import LIKELY, compose
from hatex.explanation.masking import mask_report
from hatex.explanation.report import AdapterAnswer, PostReport, report_record
from hatex.recipe.explain import StatementSection
from hatex.render.explain import render_explanation
from hatex.render.explain_dsa import (
    build_statement,
    date_trouble,
    describe_facts,
    statement_schema,
)
from hatex.render.explain_html import render_html
from hatex.render.explain_markdown import render_markdown
from hatex.render.explain_parts import segments
from hatex.render.explain_svg import render_svg
from hatex.render.terminal import shown
from hatex.types import LABELS, AffectedGroup, Change, Evidence, Explanation, HarmfulWord, Verdict

CLUB = "Honestly, this football club is a circus and its fans are such sad clowns, always were."
CIRCUS = "\u05e7\u05e8\u05e7\u05e1"
HEBREW = f"\u05d4\u05e7\u05d1\u05d5\u05e6\u05d4 \u05d4\u05d6\u05d5 \u05d4\u05d9\u05d0 {CIRCUS} \u05d2\u05d3\u05d5\u05dc"
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
WIDE = f"この クラブ は サーカス だ {FAMILY} \U0001f926\U0001f3fd\u200d♀️ naïve cafe\u0301 fans"


def build_report(
    text: str,
    probabilities: tuple[float, float, float],
    marked: dict[str, float],
    *,
    groups: tuple[str, ...] = (),
    evidence: dict[str, float] | None = None,
    basis: str = "votes",
    post_id: str | None = None,
) -> PostReport:
    shares = dict(zip(LABELS, probabilities, strict=True))
    label = max(LABELS, key=lambda each: shares[each])
    spans = {word: (text.index(word), text.index(word) + len(word)) for word in (*marked, *(evidence or {}))}
    group = groups[0] if len(groups) == 1 else None
    words = tuple(HarmfulWord(word, *spans[word], group, weight) for word, weight in marked.items())
    found = tuple(Evidence(word, *spans[word], weight) for word, weight in (evidence or {}).items())
    named = tuple(AffectedGroup(name, 0.83 - 0.3 * i) for i, name in enumerate(groups))
    change = Change((spans[next(iter(marked))],), "neutral", 0.52) if marked else None
    summary, reason = compose(text, probabilities, named, words, found, change)
    explanation = Explanation("composed", summary, named, words, reason, found, change=change)
    gates = {"microblog": 0.91, "forums": 0.06, "wiki": 0.03, "full": 0.0}
    verdict = Verdict(
        label,
        shares,
        gates,
        "blend",
        0.62,
        "votes" if basis == "votes" else "model",
        {"hate": "flag", "offensive": "review", "neutral": "allow"}[label],  # type: ignore[arg-type]
        "3fa9c1d2",
        explanation=explanation,
    )
    alone = tuple(AdapterAnswer(name, label, 0.7) for name in gates)
    return PostReport(post_id, text, verdict, alone)


@pytest.fixture
def club() -> PostReport:
    marked = {"such sad clowns,": 0.9, "circus": 0.45, "always": 0.1}
    found = {"clowns,": 0.31, "circus": 0.12, "Honestly,": -0.08}
    return build_report(CLUB, (0.08, 0.71, 0.21), marked, groups=("Older people",), evidence=found)


def terminal(report: PostReport, width: int, **settings: Any) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=False, **settings)
    console.print(render_explanation(report))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 40])
def test_panel(club: PostReport, width: int, snapshot: SnapshotAssertion) -> None:
    assert terminal(club, width) == snapshot


@pytest.mark.parametrize("width", [80, 40])
def test_panel_of_a_neutral_post(width: int, snapshot: SnapshotAssertion) -> None:
    report = build_report(
        "What a lovely match, thank you all!", (0.96, 0.03, 0.01), {}, evidence={"lovely": 0.002}
    )
    assert terminal(report, width) == snapshot


def test_panel_with_strategies_samples_and_masks(club: PostReport, snapshot: SnapshotAssertion) -> None:
    other = replace(club.verdict, strategy="single:microblog", label="hate")
    report = replace(club, id="post-7", compared=(club.verdict, other), samples=(club.explanation,))
    assert terminal(mask_report(report), 80) == snapshot


@pytest.mark.parametrize("width", [80, 40])
@pytest.mark.parametrize(("text", "word"), [(HEBREW, CIRCUS), (WIDE, "サーカス")], ids=["hebrew", "wide"])
def test_panel_of_wide_and_right_to_left_posts(
    text: str, word: str, width: int, snapshot: SnapshotAssertion
) -> None:
    drawn = terminal(build_report(text, (0.3, 0.4, 0.3), {word: 0.7}, basis="model"), width)
    assert {cell_len(line) for line in drawn.splitlines()} == {width}
    assert drawn == snapshot


@pytest.mark.parametrize("width", [24, 40, 60, 80, 120, 200])
def test_every_line_fits(club: PostReport, width: int) -> None:
    report = replace(club, compared=(club.verdict,), id="an-id-" * 12)
    assert {cell_len(line) for line in terminal(report, width).splitlines()} == {width}


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("post_id", [None, "a", "an-id-" * 6 + "end"])
def test_a_narrow_panel_keeps_the_reason_for_review_and_the_id(width: int, post_id: str | None) -> None:
    report = build_report("Was für ein schönes Spiel!", (0.88, 0.09, 0.03), {}, post_id=post_id)
    report = replace(report, verdict=replace(report.verdict, decision="review", reasons=("language: de",)))
    drawn = terminal(report, width)
    lines = [line.strip("╭╮│─ ") for line in drawn.splitlines()]
    assert "…" not in drawn.split("Gate weights")[0]
    if width == 80 and post_id != "an-id-" * 6 + "end":
        assert lines[0] == "neutral (88 %): review (language: de)" + (f" · {post_id}" if post_id else "")
    else:
        assert lines[:2] == ["neutral (88 %): review", "For review: language: de"]
        assert (f"id:{post_id}" in "".join(lines[2:5]).replace(" ", "")) == (post_id is not None)


def test_no_reader_is_said_to_agree_on_a_post_that_the_model_cannot_judge(club: PostReport) -> None:
    assert "readers" in terminal(club, 120)
    drawn = terminal(replace(club, verdict=replace(club.verdict, reasons=("language: de",))), 120)
    assert "The model cannot judge this post (language: de): what it says below is a guess." in drawn
    assert "readers" not in drawn.split("Gate weights")[0]


def test_marks_can_be_read_without_colour(club: PostReport) -> None:
    drawn = " ".join(line.strip("│ ") for line in terminal(club, 80, no_color=True).splitlines())
    for marked in ("[such sad clowns,]³", "[circus]²", "[always]¹"):
        assert marked in drawn


def test_a_post_cannot_steer_the_terminal() -> None:
    text = "a\x1b[31mred\x1b]0;title\x07 clown\u202e\u0085\x7f end"
    drawn = terminal(build_report(text, (0.1, 0.7, 0.2), {"clown": 0.9}), 80)
    assert not set("\x1b\x07\u202e\u0085\x7f") & set(drawn)
    assert "␛" in shown(text)


def test_segments_give_the_post_back(club: PostReport) -> None:
    assert "".join(s.text for s in segments(CLUB, club.explanation.harmful_words)) == CLUB


def test_json_has_the_fields_of_the_contract(club: PostReport, snapshot: SnapshotAssertion) -> None:
    record = report_record(club)
    assert list(record) == [
        "schema", "label", "probabilities", "gates", "strategy", "disagreement", "disagreement_basis", "decision",
        "model", "explanation",
    ]  # fmt: skip
    assert list(record["explanation"]) == [
        "style", "summary", "affected_groups", "harmful_words", "reason", "evidence",
    ]  # fmt: skip
    assert json.dumps(record, ensure_ascii=False, indent=1) == snapshot


def test_json_tells_posts_apart_and_says_why_they_go_to_review(club: PostReport) -> None:
    unread = replace(club.verdict, decision="review", reasons=("language: de",), truncated=True)
    other = replace(unread, strategy="uniform", model="0b1c2d3e")
    report = replace(club, verdict=unread, compared=(unread, other), line=4)
    record = report_record(report)
    assert list(record)[:2] == ["schema", "line"]
    assert (record["line"], record["reasons"], record["truncated"]) == (4, ["language: de"], True)
    assert [list(each) for each in record["compared"]] == [
        [key for key in record if key not in {"schema", "line", "explanation", "compared"}]
    ] * 2
    assert [(each["strategy"], each["model"]) for each in record["compared"]] == [
        ("blend", "3fa9c1d2"),
        ("uniform", "0b1c2d3e"),
    ]
    named = report_record(replace(report, id="a"))
    assert (list(named)[:2], "line" in named) == (["schema", "id"], False)


def test_a_post_without_an_id_is_named_by_its_line(club: PostReport) -> None:
    for report, name in ((replace(club, line=4), "line 4"), (replace(club, id="a7", line=4), "a7")):
        spaced = render_svg([report]).replace("&#160;", " ")
        for page in (terminal(report, 100), terminal(report, 40), render_markdown([report]), spaced):
            assert name in page.replace("\\", "")
        assert f"{name}</bdi>" in render_html([report])
    assert "line" not in terminal(club, 100)


def test_markdown(club: PostReport, snapshot: SnapshotAssertion) -> None:
    assert render_markdown([club]) == snapshot


@pytest.mark.parametrize(
    "post", ["2024. What a year, clowns!", "123456789) clowns, all", "so it is: clowns."]
)
def test_marks_and_numbers_in_markdown(post: str) -> None:
    from markdown_it import MarkdownIt

    marked = next(word for word in post.split() if word.startswith("clowns"))
    html = MarkdownIt("commonmark").render(
        render_markdown([build_report(post, (0.1, 0.7, 0.2), {marked: 0.9})])
    )
    assert f"<strong>{marked}³</strong>" in html
    assert "<ol" not in html


def test_a_post_cut_to_the_context_says_so() -> None:
    report = build_report("What a lovely match, thank you all!", (0.96, 0.03, 0.01), {})
    cut = replace(report, verdict=replace(report.verdict, truncated=True))
    for page in (terminal(cut, 80), render_markdown([cut]), render_html([cut])):
        assert "The post was cut to the context." in page


def test_an_explanation_that_was_cut_off_says_so(club: PostReport) -> None:
    note = (
        "This explanation is unfinished, so that groups, marked words or sentences may be missing; "
        "if it ends at its limit"
    )
    cut = replace(club.explanation, is_complete=False)
    first = replace(club, verdict=replace(club.verdict, explanation=cut), samples=(club.explanation,))
    both = replace(first, samples=(cut,))
    for report, times in ((club, 0), (first, 1), (both, 2)):
        spaced = render_svg([report]).replace("&#160;", " ")
        for page in (terminal(report, 100), render_markdown([report]), render_html([report]), spaced):
            assert page.count(note.split(",")[0]) == times
    for page in (terminal(first, 120), render_markdown([first]), render_html([first])):
        assert f"{note} of tokens, --max-new-tokens raises that." in " ".join(page.replace("│", "").split())


def test_markdown_explains_the_marks_it_uses(club: PostReport) -> None:
    assert "\n\n¹ slightly marked, ² clearly marked, ³ strongly marked\n\n" in render_markdown([club])
    strong = build_report(CLUB, (0.1, 0.7, 0.2), {"circus": 0.9})
    assert "\n\n³ strongly marked\n\n" in render_markdown([strong])
    plain = build_report("What a lovely match, thank you all!", (0.96, 0.03, 0.01), {})
    assert " marked" not in render_markdown([plain])


def test_gradients_are_shown_as_gradients(club: PostReport) -> None:
    explanation = replace(club.explanation, evidence_method="gradient")
    report = replace(club, verdict=replace(club.verdict, explanation=explanation))
    for page in (terminal(report, 80), render_markdown([report]), render_html([report])):
        assert "by integrated gradients" in page
        assert "taken out" not in page
        assert "What would change" not in page
    assert "gradients" in describe_facts(report)


def test_markdown_in_a_post_stays_text() -> None:
    from markdown_it import MarkdownIt

    text = (
        "# big <b>clowns</b> | [x](http://a.example) `code` **so** _sad_ 1. www.a.example "
        "~~no~~ &amp; \\ \n> quote"
    )
    html = MarkdownIt("gfm-like", {"linkify": False}).render(
        render_markdown([build_report(text, (0.1, 0.7, 0.2), {"big": 0.9})])
    )
    assert "<strong>big³</strong>" in html
    for tag in ("<a ", "<code", "<em>sad", "<s>", "<b>"):
        assert tag not in html
    assert html.count("<blockquote>") == 1


def test_html(club: PostReport, snapshot: SnapshotAssertion) -> None:
    page = render_html([club])
    assert page[page.index("<body>") :] == snapshot
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page


def test_html_in_a_post_stays_text() -> None:
    text = '<script>alert(1)</script> <img src=x onerror=y> clowns \u202e &amp; "quoted"'
    page = render_html([build_report(text, (0.1, 0.7, 0.2), {"clowns": 0.9}, post_id="<i>")])
    body = page[page.index("<body>") :]
    assert "<script" not in body
    assert "<img" not in body
    assert "<i>" not in body
    assert "\u202e" not in body


def browser() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(browser() is None, reason="no Chromium on this machine")
def test_html_in_a_browser(club: PostReport, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    rtl = build_report(HEBREW, (0.3, 0.4, 0.3), {CIRCUS: 0.7})
    page.write_text(render_html([club, rtl]), encoding="utf-8")
    picture = tmp_path / "page.png"
    call = [
        str(browser()), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=480,1600",
    ]  # fmt: skip
    subprocess.run(
        [*call, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True, timeout=60
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000
    dom = subprocess.run(
        [*call, "--dump-dom", page.as_uri()], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert dom.count("<article") == 2
    assert '<mark class="level3"' in dom


def test_svg_is_whole_and_loads_nothing(club: PostReport) -> None:
    picture = render_svg([club, build_report(WIDE, (0.3, 0.4, 0.3), {"サーカス": 0.7})])
    document = xml.dom.minidom.parseString(picture)
    assert document.documentElement is not None
    assert document.documentElement.tagName == "svg"
    assert "url(http" not in picture
    assert "font-face" not in picture
    assert picture == render_svg([club, build_report(WIDE, (0.3, 0.4, 0.3), {"サーカス": 0.7})])


def test_brackets_and_colons_are_no_markup_in_svg(club: PostReport) -> None:
    strategy = "single:[/x]:fire:"
    picture = render_svg([replace(club, compared=(replace(club.verdict, strategy=strategy),))])
    assert strategy in picture


def test_svg_of_odd_characters_parses() -> None:
    text = 'a\x00b\ufffe\x1b[0m <clowns> & "x"'
    xml.dom.minidom.parseString(render_svg([build_report(text, (0.1, 0.7, 0.2), {"clowns": 0.9})]))


def test_statement_of_reasons(club: PostReport, snapshot: SnapshotAssertion) -> None:
    statement = build_statement(replace(club, id="post-7"), StatementSection(), date(2026, 3, 1))
    jsonschema.validate(statement, statement_schema())
    assert json.dumps(statement, ensure_ascii=False, indent=1) == snapshot


def test_a_statement_speaks_of_readers_only_where_votes_stand_behind_it(club: PostReport) -> None:
    assert "Expected agreement of readers: about 3 in 4 readers would call this offensive." in describe_facts(
        club
    )
    facts = describe_facts(build_report(CLUB, (0.08, 0.71, 0.21), {"circus": 0.9}, basis="model"))
    assert "Certainty of the classifier itself: the model leans towards offensive." in facts
    assert "readers" not in facts


def test_a_statement_quotes_nothing_of_the_post(club: PostReport) -> None:
    facts = describe_facts(club)
    for word in ("clowns", "circus", "football", "Honestly"):
        assert word not in facts


@pytest.mark.parametrize("post_id", [None, "a b", "ü", "x" * 600, 17])
def test_the_unique_id_has_only_allowed_characters(club: PostReport, post_id: Any) -> None:
    statement = build_statement(
        replace(club, id=post_id), StatementSection(ground="illegal"), date(2026, 3, 1)
    )
    assert statement["decision_ground"] == "DECISION_GROUND_ILLEGAL_CONTENT"
    assert "incompatible_content_ground" not in statement
    assert set(statement["puid"]) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def test_the_date_of_the_post_is_the_content_date(club: PostReport) -> None:
    statement = build_statement(
        replace(club, date="2026-02-27T10:00:00Z"), StatementSection(), date(2026, 3, 1)
    )
    assert statement["content_date"] == "2026-02-27"
    assert date_trouble(replace(club, date="2026-02-27T10:00:00Z")) is None
    for day in ("yesterday", "1999-05-05"):
        assert "YYYY-MM-DD" in (date_trouble(replace(club, date=day)) or "")


@pytest.mark.parametrize(
    ("key", "value"),
    [("decision_facts", "x" * 5001), ("puid", "a b"), ("category", "OTHER"), ("content_date", "1.3.2026")],
)
def test_the_schema_refuses(club: PostReport, key: str, value: str) -> None:
    statement = build_statement(club, StatementSection(), date(2026, 3, 1))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**statement, key: value}, statement_schema())


def test_a_group_that_is_unlikely_is_said_to_be(club: PostReport) -> None:
    groups = (AffectedGroup("Older people", LIKELY / 2),)
    report = replace(
        club, verdict=replace(club.verdict, explanation=replace(club.explanation, affected_groups=groups))
    )
    out = StringIO()
    Console(file=out, width=80).print(render_explanation(report))
    for page in (out.getvalue(), render_html([report]), render_markdown([report])):
        assert "Affected groups (none of them likely)" in page
    assert "Groups affected" not in describe_facts(report)
    assert "Groups affected: Older people" in describe_facts(club)


def test_groups_of_a_neutral_post_are_said_to_be_conditional(club: PostReport) -> None:
    explanation = replace(club.explanation, affected_groups=(AffectedGroup("Older people", 0.3),))
    neutral = {"neutral": 0.6, "offensive": 0.3, "hate": 0.1}
    verdict = replace(club.verdict, label="neutral", probabilities=neutral, explanation=explanation)
    report = replace(club, verdict=verdict)
    for page in (render_html([report]), render_markdown([report])):
        assert "Affected groups, should it harm anyone" in page
    assert "Groups affected" not in describe_facts(report)


def test_marked_words_evidence_and_groups_are_escaped():
    mark, evidence = "<img/src=x/onerror=y>", "<u>clowns</u>"
    report = build_report(
        f"so {mark} and {evidence} end",
        (0.1, 0.7, 0.2),
        {mark: 0.9},
        groups=('"><i>x',),
        evidence={evidence: 0.3},
    )
    body = render_html([report]).split("<body>")[1]
    for raw in ("<img", "<u>", "<i>x", '"><i>'):
        assert raw not in body
