"""What an exported file says about itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yolo_lite.errors import InputError, short

KEY = "yolo_lite"  # of the metadata that holds the description
FORMAT_VERSION = 1
_TASKS = ("detect", "classify")
_RESIZES = ("letterbox", "corner", "stretch")


@dataclass(frozen=True)
class ExportInfo:
    """The description in an exported file.

    Attributes:
        task: detect or classify.
        name: of the network.
        class_names: by label.
        category_ids: the data set's own number of each class.
        image_size: (height, width) of the input.
        channels: of the input, 3 or 1.
        resize: how an image becomes the input: letterbox, corner or stretch.
        max_16bit: the value of a 16-bit image that becomes white.
        score_threshold: the score above which detections are reported by default.
        lowest_score: the score above which the file returns detections.
        iou_threshold: of the NMS in the file.
        max_detections: K, the most detections in an image.
        raw: whether postprocessing was left out.
        about: provenance: source, licence, sha256 of the checkpoint, version of yolo_lite.

    Example:
        >>> info = ExportInfo("classify", "lenet", class_names=("a", "b"), image_size=(32, 32))
        >>> ExportInfo.from_text(info.to_text(), "a.onnx") == info
        True
    """

    task: str
    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    category_ids: tuple[int, ...] = ()
    channels: int = 3
    resize: str = "letterbox"
    max_16bit: int = 65535
    score_threshold: float = 0.25
    lowest_score: float = 0.05
    iou_threshold: float = 0.6
    max_detections: int = 300
    raw: bool = False
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_text(self) -> str:
        """Return the description as JSON, for the file's metadata."""
        return json.dumps({"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str, source: str) -> ExportInfo:
        """Read a description; raise InputError, naming `source`, if it is damaged or of a newer version."""
        try:
            content = json.loads(text)
            version = content.pop("format_version")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(f"{source}: its metadata is damaged; export the checkpoint again") from error
        if type(version) is not int or version < 1:
            raise InputError(f"{source}: its metadata has no format version; export the checkpoint again")
        if version > FORMAT_VERSION:
            raise InputError(
                f"{source} was written by a newer yolo_lite (format {short(version)}); this one reads {FORMAT_VERSION}"
            )
        return cls._checked(content, source)

    @classmethod
    def _checked(cls, content: dict[str, Any], source: str) -> ExportInfo:
        for key in ("class_names", "category_ids", "image_size"):
            if isinstance(content.get(key), list):
                content[key] = tuple(content[key])
        try:
            info = cls(**content)
            valid = (
                info.task in _TASKS
                and info.resize in _RESIZES
                and info.channels in (1, 3)
                and len(info.image_size) == 2
                and all(type(side) is int and side > 0 for side in info.image_size)
                and len(info.class_names) > 0
                and all(isinstance(name, str) for name in info.class_names)
                and all(type(number) is int for number in info.category_ids)
                and all(0 <= value <= 1 for value in (info.score_threshold, info.lowest_score, info.iou_threshold))
                and type(info.max_detections) is int
                and info.max_detections > 0
                and type(info.max_16bit) is int
                and isinstance(info.about, dict)
                and (info.task == "classify" or len(info.category_ids) == len(info.class_names))
            )
        except TypeError as error:
            raise InputError(f"{source}: its metadata is damaged; export the checkpoint again") from error
        if not valid:
            raise InputError(f"{source}: its metadata has values that make no sense; export the checkpoint again")
        return info
