"""A chat-completions client for OpenAI-compatible servers: rate-limited, retried, capped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from hatex.data.annotation.settings import AnnotateSettings
from hatex.errors import FetchError

if TYPE_CHECKING:
    import httpx

_RETRIED: Final = (408, 409, 425, 429, 500, 502, 503, 504)
_MAX_WAIT_S: Final = 60.0


class BudgetSpentError(Exception):
    """`max_requests` is reached."""


class RefusedError(Exception):
    """The server did not answer this request; it may answer it later."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass
class Pace:
    """Lets requests start at most so many times a minute."""

    requests_per_minute: float
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _next: float = field(default=float("-inf"), init=False)

    def wait(self) -> None:
        now = self.clock()
        if now < self._next:
            self.sleep(self._next - now)
            now = self._next
        self._next = now + 60 / self.requests_per_minute


class Client:
    """Asks one server; a context manager that closes its connections."""

    def __init__(self, settings: AnnotateSettings, pace: Pace | None = None) -> None:
        import httpx

        key = os.environ.get(settings.key_variable, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.settings = settings
        self.requests = 0
        self._pace = pace or Pace(settings.requests_per_minute)
        self._http = httpx.Client(headers=headers, timeout=settings.timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def complete(self, messages: Sequence[dict[str, str]]) -> str:
        """The content of the answer.

        Raises:
            BudgetSpentError: the cap is reached before an answer came.
            FetchError: a refusal that waiting does not cure, such as a wrong key.
            RefusedError: no answer after `max_attempts` tries.
        """
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        retrying = Retrying(
            retry=retry_if_exception_type(RefusedError),
            stop=stop_after_attempt(self.settings.max_attempts),
            wait=_back_off,
            sleep=self._pace.sleep,
            reraise=True,
        )
        content: str = retrying(self._complete_once, messages)
        return content

    def _complete_once(self, messages: Sequence[dict[str, str]]) -> str:
        import httpx

        if self.requests >= self.settings.max_requests:
            raise BudgetSpentError
        self._pace.wait()
        self.requests += 1
        body = {
            "model": self.settings.model,
            "messages": list(messages),
            "temperature": self.settings.temperature,
            "max_tokens": self.settings.max_tokens,
            "response_format": {"type": "json_object"},
        }
        try:
            response = self._http.post(f"{self.settings.url.rstrip('/')}/chat/completions", json=body)
        except httpx.TransportError as error:
            raise RefusedError(f"{type(error).__name__}") from error
        return self._content(response)

    def _content(self, response: httpx.Response) -> str:
        status = response.status_code
        if status in _RETRIED:
            raise RefusedError(f"HTTP {status}", _retry_after(response))
        if status != 200:
            name = self.settings.key_variable
            hint = (
                f"check the key in {name}"
                if status in (401, 403)
                else "check prepare.annotate.url and .model"
            )
            raise FetchError(f"the endpoint answered HTTP {status}", where=self.settings.url, hint=hint)
        try:
            content = response.json()["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise RefusedError("the response is not a chat completion") from error
        if not isinstance(content, str):
            raise RefusedError("the response has no content")
        return content


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdigit() else None


def _back_off(state: Any) -> float:
    """What the server asks for, else 1, 2, 4, ... seconds."""
    error = state.outcome.exception()
    asked = error.wait_s if isinstance(error, RefusedError) else None
    return min(_MAX_WAIT_S, asked if asked is not None else 2.0 ** (state.attempt_number - 1))
