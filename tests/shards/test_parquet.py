"""Rows in Parquet are the JSON documents."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from tests.messages.conftest import detected
from yolo_lite.errors import InputError
from yolo_lite.messages.image import ImageResult, image_document
from yolo_lite.shards.folder import ResultFolder
from yolo_lite.structures.results import Detections

NOTHING = Detections([], scores=[], labels=[], class_names=["cat"])  # type: ignore[arg-type]
RESULTS = [
    ImageResult("a.jpg", detected(7).image_hw, detected(7).detections),
    ImageResult("b.jpg", error="b.jpg does not exist"),
    ImageResult("c.jpg", (48, 64), NOTHING),
] * 500  # more than a group


def test_rows_are_the_json_documents(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for number in (0, 1):
        with ResultFolder(tmp_path, "parquet").shard(number) as write:
            for result in RESULTS:
                write(result)
    path = tmp_path / "shard-000000.parquet"
    rows = [
        {key: value for key, value in row.items() if value is not None} for row in parquet.read_table(path).to_pylist()
    ]
    assert rows == [image_document(result) for result in RESULTS]
    assert parquet.ParquetFile(path).num_row_groups == 2
    assert path.read_bytes() == (tmp_path / "shard-000001.parquet").read_bytes()


def test_a_shard_without_images_is_a_table_without_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with ResultFolder(tmp_path, "parquet").shard(0):
        pass
    assert parquet.read_table(tmp_path / "shard-000000.parquet").num_rows == 0


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with ResultFolder(tmp_path, "parquet").shard(0) as write:
        write(ImageResult("caf\udce9.jpg", error="caf\udce9.jpg does not exist"))
    (row,) = parquet.read_table(tmp_path / "shard-000000.parquet").to_pylist()
    assert row["source"] == "caf\\udce9.jpg"


def test_a_stopped_run_leaves_nothing_and_prints_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)  # errors while objects are removed from memory
    with pytest.raises(KeyboardInterrupt), ResultFolder(tmp_path, "parquet").shard(0) as write:
        for result in RESULTS:
            write(result)
        raise KeyboardInterrupt
    del write
    gc.collect()
    assert (ignored, list(tmp_path.iterdir())) == ([], [])


def test_without_pyarrow_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="--format parquet needs pyarrow: pip install pyarrow, or use --format jsonl"):
        ResultFolder(tmp_path, "parquet")
