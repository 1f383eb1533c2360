"""Every error that hatex raises on purpose: what went wrong, where, and the remedy.

The error boundary in `cli.py` turns these into `error: WHERE: MESSAGE` and `hint: REMEDY` on stderr (or
`{"error": {"kind", "message", "where", "hint"}}` under `--json`) and into the exit code. Messages never hold post text.
"""

from __future__ import annotations

from typing import ClassVar


class HatexError(Exception):
    """Base of all expected failures.

    `where` is a file:line:column, an artefact or an option; `hint` names the remedy.
    """

    kind: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(HatexError):
    """A wrong option or argument."""

    kind = "usage"
    exit_code = 2


class RecipeError(HatexError):
    """One or more mistakes in a recipe; `problems` holds one `file:line:column: message` each."""

    kind = "recipe"
    exit_code = 2

    def __init__(self, problems: list[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = problems


class RegistryError(HatexError):
    """An artefact is missing, taken, damaged or refused."""

    kind = "registry"


class IntegrityError(RegistryError):
    """A file is not what its manifest or pinned hash says."""

    kind = "integrity"


class FetchError(HatexError):
    """A base or encoder could not be fetched."""

    kind = "fetch"


class ModelError(HatexError):
    """A base, adapter or tokenizer cannot be used as asked."""

    kind = "model"


class DataError(HatexError):
    """A data file or row is not what its source promises."""

    kind = "data"


class TrainingError(HatexError):
    """Training cannot start or had to stop."""

    kind = "training"


class RequirementError(HatexError):
    """A requirement of `hatex eval` failed."""

    kind = "requirement"
    exit_code = 3


class InputLinesError(HatexError):
    """Some input lines could not be answered; the others were."""

    kind = "input"
    exit_code = 4
