"""Values as bytes: equal after the way there and back, and unable to run code."""

from __future__ import annotations

import json
import math
import random
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import yolo_lite
from yolo_lite.checkpoints.transfer import Likeness
from yolo_lite.config.schema import Config, TrainConfig
from yolo_lite.evaluation.images import Timing
from yolo_lite.metrics.coco import evaluate_coco
from yolo_lite.packing import pack, unpack


def again(value: object) -> Any:
    return unpack(pack(value))


def test_no_module_packs_values_with_pickle() -> None:
    """The course's networks name the error of a damaged file; nothing is packed or unpacked there."""
    folder = Path(yolo_lite.__file__).parent
    users = [path for path in folder.rglob("*.py") if re.search(r"\bpickle\.", path.read_text(encoding="utf-8"))]
    assert [path.name for path in users] == ["course.py"]
    assert set(re.findall(r"\bpickle\.(\w+)", users[0].read_text(encoding="utf-8"))) == {"UnpicklingError"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**80,
        -0.0,
        math.inf,
        0.1,
        "caf\u00e9 \udcff",  # a file name that is not UTF-8
        b"\0\xff",
        [],
        (),
        {},
        (1, [2, (3,)]),
        {"": 1, "value": 2},  # keys that the format uses itself
        {1: "a", (2, 3): {None: []}},
        Path("a/b.jpg"),
        Config(train=TrainConfig(lr=0.5)),
        Timing(images=3, load=0.25),
        Likeness({"a": "b"}, familiarity=0.5),
        np.int64(2**62),
        np.bool_(True),
    ],
    ids=repr,
)
def test_a_value_comes_back_equal_and_of_the_same_type(value: object) -> None:
    result = again(value)
    assert result == value
    assert type(result) is type(value)
    assert repr(result) == repr(value)  # the types of everything inside, and the sign of zero


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", "bool", "<U3"])
@pytest.mark.parametrize("shape", [(), (0, 4), (3, 5)])
def test_arrays_come_back_with_type_and_shape_and_can_be_written(dtype: str, shape: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(0).integers(0, 2, shape[::-1])
    array = np.asarray(drawn).astype(dtype).T  # not contiguous
    result = again(array)
    assert (result.dtype, result.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(result, array)
    assert result.flags.writeable


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("shape", [(), (0, 4), (3, 5)])
def test_tensors_come_back_with_type_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.randint(0, 2, shape[::-1], generator=torch.Generator().manual_seed(0)).to(dtype)
    tensor = tensor.T if shape else tensor
    result = again({"of": [tensor]})["of"][0]
    assert (result.dtype, result.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(result, tensor)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)])
def test_tensors_keep_their_layout_in_memory(order: tuple[int, ...]) -> None:
    """Fused optimisers go through weights and momentum side by side: (0, 2, 3, 1) is torch.channels_last."""
    tensor = torch.arange(120.0).reshape(2, 3, 4, 5)
    tensor = tensor.permute(order).contiguous().permute([order.index(axis) for axis in range(4)])
    result = again(tensor)
    assert torch.equal(result, tensor)
    assert result.stride() == tensor.stride()
    whole = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert again(whole).is_contiguous(memory_format=torch.channels_last)


def test_numbers_that_are_none_stay_so() -> None:
    values = again([math.nan, np.float64("nan"), torch.tensor(math.nan), np.array([math.nan])])
    assert all(math.isnan(float(np.asarray(value).item())) for value in values)


def drawn(generator: random.Random, depth: int) -> object:
    """Return a random value of plain types; tuples, lists and mappings inside each other."""
    kind = generator.randrange(4 if depth else 1)
    if kind == 0:
        leaves: list[object] = [None, generator.random(), generator.randrange(-9, 9), "", "value", b"x"]
        return generator.choice(leaves)
    children = [drawn(generator, depth - 1) for _ in range(generator.randrange(4))]
    if kind == 1:
        return children
    if kind == 2:
        return tuple(children)
    keys: list[object] = ["", "value", "dict", 0, None, (1, "a")]
    return dict(zip(generator.sample(keys, len(children)), children))


def test_any_nesting_comes_back() -> None:
    generator = random.Random(0)
    values = [drawn(generator, 5) for _ in range(500)]
    assert max(len(repr(value)) for value in values) > 100, "all values are small"
    assert repr(again(values)) == repr(values)


def test_the_metrics_of_an_evaluation_come_back(tmp_path: Path) -> None:
    """They hold named tuples of arrays, and NaN."""
    from tests.conftest import write_coco_set
    from yolo_lite.data.splits import read_split

    data = read_split(write_coco_set(tmp_path, {"train": 2, "val": 3}), "val")
    image = data.records[0]
    row = {"image_id": image.image_id, "category_id": data.category_ids[int(image.labels[0])], "score": 0.5}
    x1, y1, x2, y2 = map(float, image.boxes[0])
    metrics = evaluate_coco(data, [{**row, "bbox": [x1, y1, x2 - x1, y2 - y1]}], resamples=3)
    assert repr(again(metrics)) == repr(metrics)
    assert again(metrics).ranked[0]._fields == metrics.ranked[0]._fields
    np.testing.assert_array_equal(again(metrics.ranked[0].right), metrics.ranked[0].right)


@dataclass
class Foreign:
    """A class outside the package."""

    number: int = 0


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (print, "builtin_function_or_method"),
        ({1, 2}, "set"),
        (Foreign(), "Foreign"),
        (np.array([print]), "ndarray"),
        (object(), "object"),
    ],
)
def test_other_values_are_refused(value: object, name: str) -> None:
    with pytest.raises(TypeError, match=f"a {name} cannot be sent to another process"):
        pack([value])


def written(name: str, fields: object) -> bytes:
    """Write a value that stands for a class by hand."""
    document = json.dumps({"": name, "value": fields}).encode()
    return len(document).to_bytes(8, "little") + document


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("os:system", {"command": "true"}),
        ("subprocess:Popen", {"args": "true"}),
        ("yolo_lite.files:Path", {}),  # a class that a module of the package has imported
        ("yolo_lite.files:make_folder", {"folder": "a"}),
        ("yolo_lite.errors:InputError", {}),
        ("yolo_lite.evaluation.images:Timing", {"images": 1}),  # fields are missing
        ("yolo_lite.no_such_module:Timing", {}),
        ("Timing", {}),
    ],
)
def test_only_data_classes_of_the_package_are_made(name: str, fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected a data class or named tuple of yolo_lite, got "):
        unpack(written(name, fields))


def test_no_code_of_a_class_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise AssertionError("code ran")

    content = pack(Timing(images=3))
    monkeypatch.setattr(Timing, "__init__", refuse)
    with pytest.raises(AssertionError):
        Timing()
    assert unpack(content).images == 3


@pytest.mark.parametrize("content", [b"", b"\1", pack([1])[:-1], pack([1]) + b"\0", pack(np.ones(3))[:-9]])
def test_bytes_that_are_cut_off_are_refused(content: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        unpack(content)


def test_an_ordered_mapping_becomes_a_plain_one() -> None:
    assert again(OrderedDict(b=1, a=2)) == {"b": 1, "a": 2}
    assert list(again(OrderedDict(b=1, a=2))) == ["b", "a"]
