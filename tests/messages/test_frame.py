"""The document of a frame, checked against its schema by a validator of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import yolo_lite.messages.frame
from tests.messages.conftest import detected
from yolo_lite.messages.frame import encode_frame, frame_document
from yolo_lite.structures.frames import DetectedFrame

SCHEMA = json.loads(Path(yolo_lite.messages.frame.__file__).with_name("frame.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def with_tracks(frame: DetectedFrame) -> DetectedFrame:
    """Return a frame whose detections have track ids."""
    return replace(frame, detections=replace(frame.detections, track_ids=np.array([7, 9])))


FRAMES = {
    "plain": detected(7),
    "tracked": with_tracks(detected(0)),
    "counted": detected(7, line_counts={"line 1": {"left": 2, "right": 0}}),
    "zones": detected(7, zone_counts={"zone 1": {"inside": 1, "entries": 3}}),
    "odd name": detected(0, 'a "quoted" café\n\x1b[2J', dropped=5),
}


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_documents_follow_the_schema(frame: DetectedFrame) -> None:
    VALIDATOR.validate(json.loads(encode_frame(frame)))


def test_a_document_holds_what_was_detected() -> None:
    assert frame_document(detected(3)) == {
        "schema_version": 1,
        "source": "camera 0",
        "frame": 3,
        "captured_at": 1.7e9 + 0.1,
        "time": 0.1,
        "image_size": [64, 48],
        "dropped": 0,
        "detections": [
            {"class_name": "car", "label": 1, "score": pytest.approx(0.9), "box": [1, 2, 30, 40]},
            {"class_name": "person", "label": 0, "score": 0.25, "box": [5.5, 6, 7, 8]},
        ],
    }
    assert [row["track_id"] for row in frame_document(FRAMES["tracked"])["detections"]] == [7, 9]
    assert frame_document(FRAMES["counted"])["line_counts"] == {"line 1": {"left": 2, "right": 0}}
    assert frame_document(FRAMES["zones"])["zone_counts"] == {"zone 1": {"inside": 1, "entries": 3}}


def test_a_document_is_one_line_of_ascii() -> None:
    line = encode_frame(FRAMES["odd name"])
    assert line.isascii()
    assert line.decode().isprintable()
    assert json.loads(line)["source"] == FRAMES["odd name"].source


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"frame": -1},
        {"source": ""},
        {"image_size": [64]},
        {"detections": [{"class_name": "car"}]},
        {"line_counts": {"line 1": 3}},
        {"zone_counts": {"zone 1": {"inside": 1}}},
        {"new": 1},
    ],
)
def test_the_schema_refuses_other_documents(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**frame_document(detected(0)), **change})


@pytest.mark.parametrize("key", SCHEMA["required"])
def test_the_schema_refuses_incomplete_documents(key: str) -> None:
    document = frame_document(detected(0))
    del document[key]
    assert not VALIDATOR.is_valid(document)
