"""Annotation against a real local HTTP server: what is sent, what is believed, what is asked again."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hatex.data.annotation import AnnotateSettings, annotate
from hatex.data.annotation.client import Pace
from hatex.data.examples import FILE_NAME, read_examples, write_examples
from hatex.errors import FetchError, UsageError
from hatex.types import NO_PROGRESS, Example, Rationale, Vote

Reply = tuple[int, dict[str, str], Any]


class Server:
    """Answers chat completions by a script; keeps what it was sent."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.bodies.append(body)
                server.headers.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
                status, headers, content = reply(len(server.bodies), body)
                data = json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@contextmanager
def serving(reply: Callable[[int, dict[str, Any]], Reply]) -> Iterator[Server]:
    server = Server(reply)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def good(body: dict[str, Any], **changes: Any) -> Reply:
    """A valid answer that quotes the first word of the post."""
    word = json.loads(body["messages"][1]["content"])["post"].split()[0]
    answer = {
        "summary": "It mocks the fans of a club.",
        "affected_groups": ["Other group"],
        "harmful_words": [{"text": word, "group": None}],
        "reason": "Fans may feel mocked.",
        **changes,
    }
    return 200, {}, {"choices": [{"message": {"content": json.dumps(answer)}}]}


def example(number: int, text: str | None = None, split: str = "train") -> Example:
    words = text or f"clowns support team {number}"
    return Example(
        f"d:{number}",
        "d",
        "forums",
        words,
        (Vote(("offensive",), 2), Vote(("hate",), 1)),
        split,  # type: ignore[arg-type]
        f"d:{number}",
        rationales=(Rationale(0, 6),),
        has_rationales=True,
    )


def run(
    folder: Path, url: str, *, consent: bool = True, naps: list[float] | None = None, **changes: Any
) -> Any:
    settings = {
        "url": url,
        "model": "m",
        "key_variable": "HATEX_TEST_KEY",
        "max_requests": 50,
        "requests_per_minute": 60_000.0,
        "max_attempts": 3,
        "timeout_s": 5.0,
        "max_tokens": 200,
        "temperature": 0.0,
        "splits": ("train",),
        "limit": None,
        "seed": 1,
        "groups": ("Other group", "Women"),
        **changes,
    }
    slept = naps if naps is not None else []
    pace = Pace(settings["requests_per_minute"], sleep=slept.append)
    return annotate(
        folder / FILE_NAME,
        folder / "answers.jsonl",
        AnnotateSettings(**settings),
        consent=consent,
        progress=NO_PROGRESS,
        pace=pace,
    )


def test_explanations_are_written_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HATEX_TEST_KEY", "k3y")
    write_examples(tmp_path / FILE_NAME, [example(1), example(2, split="tune"), example(3)])
    with serving(lambda _, body: good(body)) as server:
        report = run(tmp_path, server.url)
        assert (report.chosen, report.answered, report.requests) == (2, 2, 2)
        first, second, third = read_examples(tmp_path)
        assert second.explanation is None
        assert first.explanation is not None
        assert first.explanation["harmful_words"] == [{"text": "clowns", "start": 0, "end": 6, "group": None}]
        assert third.explanation is not None
        assert server.headers[0]["authorization"] == "Bearer k3y"
        assert server.headers[0]["path"] == "/v1/chat/completions"
        before = (tmp_path / FILE_NAME).read_bytes()
        write_examples(tmp_path / FILE_NAME, [example(1), example(2, split="tune"), example(3)])
        again = run(tmp_path, server.url, consent=False)
        assert (again.cached, again.requests, len(server.bodies)) == (2, 0, 2)
        assert (tmp_path / FILE_NAME).read_bytes() == before


def test_only_masked_text_leaves(tmp_path: Path) -> None:
    secret = "clowns @Fan_77 wrote to a.b@example.org or 202-555-0143 see http://x.example/y"
    marked = (Rationale(0, 6), Rationale(7, 14))  # the second is a name
    write_examples(tmp_path / FILE_NAME, [replace(example(1, secret), rationales=marked)])
    with serving(lambda _, body: good(body)) as server:
        assert run(tmp_path, server.url).answered == 1
        sent = json.dumps(server.bodies)
        assert "authorization" not in server.headers[0]
    for piece in ("Fan_77", "example.org", "0143", "x.example"):
        assert piece not in sent
    facts = json.loads(server.bodies[0]["messages"][1]["content"])
    assert facts["post"] == "clowns @user wrote to <email> or <phone> see <url>"
    assert facts["words marked by annotators"] == ["clowns"]
    assert facts["judgement"] == ["offensive"]


def test_without_consent_nothing_is_sent(tmp_path: Path) -> None:
    write_examples(tmp_path / FILE_NAME, [example(1), example(2)])
    with serving(lambda _, body: good(body)) as server:
        with pytest.raises(UsageError, match="2 masked posts would be sent to http://127") as caught:
            run(tmp_path, server.url, consent=False)
        assert "--yes" in str(caught.value.hint)
        assert server.bodies == []


def test_refusals_are_retried_as_the_server_asks(tmp_path: Path) -> None:
    def reply(number: int, body: dict[str, Any]) -> Reply:
        return ((429, {"retry-after": "7"}, {}), (503, {}, {}), good(body))[number - 1]

    write_examples(tmp_path / FILE_NAME, [example(1)])
    naps: list[float] = []
    with serving(reply) as server:
        report = run(tmp_path, server.url, naps=naps)
    assert (report.answered, report.requests) == (1, 3)
    assert 7.0 in naps
    assert 2.0 in naps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"harmful_words": [{"text": "jesters", "group": None}]}, "a quote does not stand in the post"),
        (
            {"harmful_words": [{"text": "clowns", "group": "Goalkeepers"}]},
            "a quote names a group that is not in the list",
        ),
        ({"affected_groups": ["Goalkeepers"]}, "affected_groups holds something that is not in the list"),
        ({"summary": "word " * 151}, "summary is not a text of at most 150 words"),
        ({"extra": 1}, "the answer does not have the four fields"),
    ],
)
def test_invalid_answers_are_asked_again_then_counted(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_examples(tmp_path / FILE_NAME, [example(1), example(2)])
    with serving(lambda number, body: good(body, **(changes if number <= 3 else {}))) as server:
        report = run(tmp_path, server.url)
    assert dict(report.failures) == {message: 1}
    assert (report.answered, report.requests) == (1, 4)
    assert [x.explanation is None for x in read_examples(tmp_path)] == [True, False]


@pytest.mark.parametrize(
    "change", [{"model": "n"}, {"temperature": 0.5}, {"max_tokens": 300}, {"groups": ("Other group",)}]
)
def test_an_answer_to_another_question_or_of_another_model_is_not_taken_from_the_cache(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with serving(lambda _, body: good(body)) as server:
        for changes in ({}, change):
            write_examples(tmp_path / FILE_NAME, [example(1)])
            report = run(tmp_path, server.url, **changes)
    assert (report.cached, report.answered, len(server.bodies)) == (0, 1, 2)


def test_a_limit_asks_the_same_sample_every_time(tmp_path: Path) -> None:
    with serving(lambda _, body: good(body)) as server:
        asked = []
        for _ in range(2):
            write_examples(tmp_path / FILE_NAME, [example(number) for number in range(6)])
            assert run(tmp_path, server.url, limit=2).chosen == 2
            asked.append([x.id for x in read_examples(tmp_path) if x.explanation])
    assert asked[0] == asked[1]
    assert (len(asked[0]), len(server.bodies)) == (2, 2)


def test_the_cap_stops_and_the_next_run_goes_on(tmp_path: Path) -> None:
    rows = [example(number) for number in range(5)]
    write_examples(tmp_path / FILE_NAME, rows)
    with serving(lambda _, body: good(body)) as server:
        report = run(tmp_path, server.url, max_requests=2)
        assert (report.budget_spent, report.answered, len(server.bodies)) == (True, 2, 2)
        cache = tmp_path / "answers.jsonl"
        cache.write_text(cache.read_text() + '{"key": "cut o')
        write_examples(tmp_path / FILE_NAME, rows)
        report = run(tmp_path, server.url)
        assert (report.cached, report.answered, len(server.bodies)) == (2, 3, 5)
    assert all(x.explanation for x in read_examples(tmp_path))
    assert (
        len({json.loads(line)["key"] for line in cache.read_text().splitlines() if line.endswith("}")}) == 5
    )


def test_a_wrong_key_fails_at_once(tmp_path: Path) -> None:
    write_examples(tmp_path / FILE_NAME, [example(1)])
    with serving(lambda *_: (401, {}, {})) as server:
        with pytest.raises(FetchError, match="HTTP 401") as caught:
            run(tmp_path, server.url)
        assert "HATEX_TEST_KEY" in str(caught.value.hint)
        assert len(server.bodies) == 1


def test_a_server_that_is_not_there_is_counted(tmp_path: Path) -> None:
    write_examples(tmp_path / FILE_NAME, [example(1)])
    report = run(tmp_path, "http://127.0.0.1:9/v1")
    assert dict(report.failures) == {"ConnectError": 1}
    assert report.requests == 3


def test_pace_spaces_requests() -> None:
    now, naps = [0.0], []

    def sleep(seconds: float) -> None:
        naps.append(round(seconds, 6))
        now[0] += seconds

    pace = Pace(120, sleep=sleep, clock=lambda: now[0])
    for _ in range(3):
        pace.wait()
    now[0] += 10
    pace.wait()
    assert naps == [0.5, 0.5]
