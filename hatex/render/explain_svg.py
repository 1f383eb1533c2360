"""The terminal panel as one SVG picture that loads nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from typing import Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from hatex.explanation.report import PostReport
from hatex.render.explain import render_explanations

_FONT_FACE: Final = re.compile(r"@font-face \{\{.*?\}\}\n", re.DOTALL)
_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def render_svg(reports: Sequence[PostReport], width: int = 80) -> str:
    """A picture of the panels, `width` characters wide; the viewer's own monospace font is used."""
    console = Console(
        record=True,
        width=width,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
        markup=False,
        emoji=False,
    )
    console.print(render_explanations(list(reports)))
    form = _FONT_FACE.sub("", CONSOLE_SVG_FORMAT)
    return _NO_XML.sub(
        "\ufffd", console.export_svg(title="hatex explain", code_format=form, unique_id="hatex")
    )
