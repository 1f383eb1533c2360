"""A recipe as YAML, plain or with colours."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from rich.syntax import Syntax


def render_list(summaries: Mapping[str, str]) -> Table:
    """One line a shipped recipe."""
    table = Table("recipe", "is", box=None, pad_edge=False)
    for name, summary in summaries.items():
        table.add_row(name, summary)
    return table


def recipe_yaml(resolved: dict[str, Any]) -> str:
    """Block YAML in the order given; reads back as the same recipe."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    yaml.width = 4096
    stream = StringIO()
    yaml.dump(resolved, stream)
    return stream.getvalue()


def render_recipe(resolved: dict[str, Any]) -> Syntax:
    """The same YAML, highlighted on the terminal's own background."""
    from rich.syntax import Syntax

    return Syntax(
        recipe_yaml(resolved), "yaml", theme="ansi_dark", background_color="default", word_wrap=True
    )
