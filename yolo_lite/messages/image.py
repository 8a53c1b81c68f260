"""One JSON document for each image of a batch job; `image.schema.json` beside this module describes it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from yolo_lite.messages.frame import SCHEMA_VERSION
from yolo_lite.structures.results import Detections


class ImageResult(NamedTuple):
    """What was detected in an image, or why it could not be read.

    Attributes:
        source: the image as the manifest names it.
        image_hw: height and width in pixels.
        detections: in pixels of the image; None if there is an error.
        error: why the image could not be read, in one line.
    """

    source: str
    image_hw: tuple[int, int] = (0, 0)
    detections: Detections | None = None
    error: str = ""


def image_document(result: ImageResult) -> dict[str, Any]:
    """Return a result as plain values, under the names that `frame_document` uses.

    Returns:
        schema_version and source, then image_size ([width, height]) and detections, or error.

    Example:
        >>> image_document(ImageResult("a.jpg", error="a.jpg does not exist"))
        {'schema_version': 1, 'source': 'a.jpg', 'error': 'a.jpg does not exist'}
    """
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "source": result.source}
    if result.detections is None:
        return {**document, "error": result.error}
    return {**document, "image_size": [result.image_hw[1], result.image_hw[0]], **result.detections.to_dict()}


def encode_image_result(result: ImageResult) -> bytes:
    """Return the document of an image as one line of JSON, in ASCII and without a line break.

    Example:
        >>> nothing = Detections([], scores=[], labels=[], class_names=["cat"])
        >>> encode_image_result(ImageResult("a.jpg", (48, 64), nothing)).decode()
        '{"schema_version":1,"source":"a.jpg","image_size":[64,48],"detections":[]}'
    """
    return json.dumps(image_document(result), separators=(",", ":"), allow_nan=False).encode("ascii")
