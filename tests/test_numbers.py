"""Numbers agree with their nouns: no "1 epochs" anywhere in what the commands print."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import yolo_lite

MODULES = sorted(Path(yolo_lite.__file__).parent.rglob("*.py"))
NOUNS = (
    "image|box(?=es)|boxe|class(?=es)|classe|epoch|step|fault|annotation|object|frame|trial|sample|file|layer|"
    "value|parameter|thread|categorie|detection|byte|label|other"
)
# A number that counts, then a plural in plain text: "{len(boxes)} boxes", "{done:,} epochs".
COUNT = re.compile(rf"^ ({NOUNS})s\b")


def plain_plurals(path: Path) -> list[str]:
    """Return the texts of a module in which a computed number is followed by a plural that never changes."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in zip(node.values, node.values[1:]):
            if not (isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant)):
                continue
            counts = isinstance(value.value, ast.Call) and ast.unparse(value.value).startswith("len(")
            shown = ast.unparse(value.format_spec) if value.format_spec else ""
            if (counts or shown == "f':,'") and COUNT.match(str(text.value)):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_number_agrees_with_its_noun(path: Path) -> None:
    assert plain_plurals(path) == []
