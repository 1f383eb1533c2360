"""A group of commands that imports a command only when it is invoked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class Verb:
    """Where a command lives (`package.module:attribute`) and the line that `hatex --help` says of it."""

    target: str
    summary: str


def load_command(name: str, verb: Verb) -> Any:
    """The Typer command behind a verb: its target is a function, or a Typer app with commands of its own."""
    module, _, attribute = verb.target.partition(":")
    target = getattr(import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        app.command(name)(target)
        target = app
    command = typer.main.get_command(target)
    command.name = name
    return command


class LazyGroup(TyperGroup):
    """Lists its verbs from a table; subclasses fill `verbs`."""

    verbs: ClassVar[Mapping[str, Verb]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, verb in self.verbs.items():
            self.add_command(TyperCommand(name, help=verb.summary), name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The named command, imported now; an unknown name fails with a did-you-mean."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_command(str(name), self.verbs[str(name)]), rest
