"""Calls can be read: whoever calls a function of more than two parameters names them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import yolo_lite

PACKAGE = Path(yolo_lite.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
GIVEN = {
    *("forward", "backward", "setup_context"),  # torch calls these with positions
    *("nms", "batched_nms"),  # have the signatures of torchvision's, which they can stand for
}
MOST = 2  # positional parameters of a public function
LONGEST = 0.005  # calls with five positional arguments and more, of all


def functions(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef, list[str]]]:
    """Yield public functions and methods with their positional parameters, without self and cls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.Module):
            for one in node.body:
                if isinstance(one, ast.FunctionDef) and (one.name == "__init__" or not one.name.startswith("_")):
                    names = [argument.arg for argument in (*one.args.posonlyargs, *one.args.args)]
                    yield one, names[1:] if names[:1] in (["self"], ["cls"]) else names


def long_ones(text: str) -> list[str]:
    """Name the public functions of a source text that take more than two positional parameters."""
    return [
        f"{one.name}({', '.join(names)})"
        for one, names in functions(ast.parse(text))
        if len(names) > MOST and one.name not in GIVEN
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_public_functions_take_keywords_after_the_second_parameter(file: Path) -> None:
    assert not long_ones(file.read_text(encoding="utf-8"))


def test_few_calls_have_five_positional_arguments() -> None:
    calls = [one for file in FILES for one in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(one, ast.Call)]
    assert sum(len(call.args) >= 5 for call in calls) <= LONGEST * len(calls)


def test_a_function_that_breaks_the_rule_is_found() -> None:
    bad = "class A:\n    def f(self, a, b, c): ...\ndef g(a, b, *, c): ...\ndef h(a, b, c=1): ...\ndef _i(a, b, c): ..."
    assert long_ones(bad) == ["h(a, b, c)", "f(a, b, c)"]
