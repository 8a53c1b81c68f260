"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

import yolo_lite

MODULES = [module.name for module in pkgutil.walk_packages(yolo_lite.__path__, "yolo_lite.")]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_of_a_module(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


def test_there_are_examples() -> None:
    counts = [doctest.testmod(importlib.import_module(f"yolo_lite.{name}")).attempted for name in ("errors",)]
    assert sum(counts) >= 4
