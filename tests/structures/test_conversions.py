"""Detections as the types of other libraries, which need not be installed."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yolo_lite.errors import InputError
from yolo_lite.structures.results import Detections

FOUND = Detections([[0, 0, 10, 20], [5, 5, 9, 9.1]], [0.9, 0.4], labels=[1, 0], class_names=("cat", "dog"))
EMPTY = Detections([], [], labels=[], class_names=("cat",))


def test_to_dict_is_json() -> None:
    values = json.loads(json.dumps(FOUND.to_dict(), allow_nan=False))
    assert values == FOUND.to_dict()
    assert [list(row) for row in values["detections"]] == [["class_name", "label", "score", "box"]] * 2
    assert np.array_equal(np.array([row["box"] for row in values["detections"]], np.float32), FOUND.boxes)
    assert EMPTY.to_dict() == {"detections": []}


def test_the_former_name_works_and_says_what_to_write() -> None:
    with pytest.warns(DeprecationWarning, match="to_dict"):
        assert FOUND.to_json() == FOUND.to_dict()["detections"]


@pytest.mark.parametrize("library", ["pandas", "supervision"])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=f"needs {library}, which is not installed: pip install {library}"):
        getattr(FOUND, f"to_{library}")()


@pytest.mark.parametrize("found", [FOUND, EMPTY], ids=["two", "none"])
def test_pandas_gets_a_column_for_each_value(monkeypatch: pytest.MonkeyPatch, found: Detections) -> None:
    """A stand-in for pandas, which takes columns of one length by name."""
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))
    frame: Any = found.to_pandas()
    assert list(frame) == ["class_name", "label", "score", "x1", "y1", "x2", "y2"]
    assert {len(column) for column in frame.values()} == {len(found)}
    assert np.array_equal(np.stack([frame[name] for name in ("x1", "y1", "x2", "y2")], 1), found.boxes)


@pytest.mark.parametrize("found", [FOUND, EMPTY], ids=["two", "none"])
def test_supervision_gets_copies(monkeypatch: pytest.MonkeyPatch, found: Detections) -> None:
    """A stand-in for supervision, with the arguments of its `Detections`."""
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **values: values))
    values: Any = found.to_supervision()
    assert list(values) == ["xyxy", "confidence", "class_id", "data"]
    assert values["data"]["class_name"].tolist() == found.names
    values["xyxy"][:] = -1
    assert (found.boxes >= 0).all()


def test_with_the_libraries_themselves() -> None:
    pandas, supervision = pytest.importorskip("pandas"), pytest.importorskip("supervision")
    assert FOUND.to_pandas().dtypes["x1"] == np.float32
    assert isinstance(FOUND.to_pandas(), pandas.DataFrame)
    for found in (FOUND, EMPTY):
        converted = found.to_supervision()
        assert isinstance(converted, supervision.Detections)
        assert np.array_equal(converted.xyxy, found.boxes)
        assert converted["class_name"].tolist() == found.names
