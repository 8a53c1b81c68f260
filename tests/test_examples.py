"""The examples in docstrings give what they say."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
import torch

import yolo_lite
from tests.class_images import write_class_set
from tests.conftest import write_coco_set
from yolo_lite.predict.files import sample_image

MODULES = [
    module.name
    for module in pkgutil.walk_packages(yolo_lite.__path__, "yolo_lite.")
    if not module.name.endswith("__main__")
]
SLOW = {
    "yolo_lite.bench.backends",
    "yolo_lite.bench.finetune",
    "yolo_lite.exporting.export",
    "yolo_lite.exporting.gates",
}
NAMES = {"np": np, "torch": torch, "Path": Path}  # what an example may use without an import


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what examples name: photo.jpg, my_images (for detection) and my_classes."""
    folder = tmp_path_factory.mktemp("examples")
    copy(sample_image(), folder / "photo.jpg")
    write_coco_set(folder / "my_images", {"train": 6, "val": 3})
    write_class_set(folder / "my_classes", {"train": {"disc": 4, "square": 4}, "val": {"disc": 2, "square": 2}})
    return folder


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MODULES]
)
def test_examples_of_a_module(name: str, example_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(example_folder)
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs=dict(NAMES)).failed == 0


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("yolo_lite.cli")])
def test_every_public_function_has_an_example(name: str) -> None:
    """The command line is left out: its help has examples, which tests/cli/test_flags.py parses."""
    module = importlib.import_module(name)
    assert module.__file__
    if not module.__file__.endswith(".py"):
        return  # the extension, which is private
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert [node.name for node in functions if ">>>" not in (ast.get_docstring(node) or "")] == []
