"""The document of an image, checked against its schema by a validator of its own."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import yolo_lite.messages.image
from tests.messages.conftest import detected
from yolo_lite.messages.frame import frame_document
from yolo_lite.messages.image import ImageResult, encode_image_result, image_document

SCHEMA = json.loads(Path(yolo_lite.messages.image.__file__).with_name("image.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FRAME = detected(7)
RESULT = ImageResult("a/b.jpg", FRAME.image_hw, FRAME.detections)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "result", [RESULT, ImageResult("a", error="a does not exist"), RESULT._replace(source="é\n\udcff")]
)
def test_documents_follow_the_schema(result: ImageResult) -> None:
    line = encode_image_result(result)
    assert b"\n" not in line
    assert json.loads(line) == image_document(result)
    VALIDATOR.validate(json.loads(line))


@pytest.mark.parametrize("document", [{"source": "a"}, {"source": "a", "error": ""}, {"source": "a", "detections": []}])
def test_the_schema_refuses_half_documents(document: dict[str, object]) -> None:
    assert not VALIDATOR.is_valid({"schema_version": 1, **document})


def test_a_result_has_the_names_and_values_of_a_frame() -> None:
    frame = frame_document(FRAME)
    assert image_document(RESULT) == {
        **{key: frame[key] for key in ("schema_version", "image_size", "detections")},
        "source": "a/b.jpg",
    }


def test_both_schemas_describe_detections_alike() -> None:
    frames = json.loads(Path(yolo_lite.messages.image.__file__).with_name("frame.schema.json").read_text())
    del frames["properties"]["detections"]["items"]["properties"]["track_id"]
    for name in ("detections", "image_size", "schema_version"):
        assert SCHEMA["properties"][name] == frames["properties"][name]
