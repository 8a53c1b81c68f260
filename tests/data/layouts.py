"""One small detection set written by hand in every layout, so that a test can ask the same of each."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from yolo_lite.config.schema import DataConfig

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, float, float, float, float]  # class, xyxy in pixels
Splits = Mapping[str, Mapping[str, Sequence[Box]]]  # boxes by name of the image (without suffix), by split
HW = (40, 60)
NAMES = ("cat", "dog")


def write_image(path: Path, seed: int, hw: tuple[int, int] = HW) -> None:
    """Write an image of noise, which depends on the seed alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*hw, 3)).astype(np.uint8)).save(path)


def write_coco(root: Path, splits: Splits) -> Path:
    """Write annotations/instances_<split>.json; annotations are numbered from 1 in each file."""
    (root / "annotations").mkdir(parents=True)
    seed = 0
    for split, images in splits.items():
        entries, annotations = [], []
        for image_id, (name, boxes) in enumerate(images.items(), 1):
            seed += 1
            write_image(root / "images" / split / f"{name}.png", seed)
            entries.append({"id": image_id, "file_name": f"{name}.png", "height": HW[0], "width": HW[1]})
            for label, x1, y1, x2, y2 in boxes:
                number = len(annotations) + 1
                annotations.append(
                    {"id": number, "image_id": image_id, "category_id": label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                )
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(NAMES)]
        content = {"images": entries, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def write_roboflow(root: Path, splits: Splits) -> Path:
    """Write <split>/_annotations.coco.json beside the images."""
    write_coco(root, splits)
    for split in splits:
        (root / "images" / split).rename(root / split)
        (root / "annotations" / f"instances_{split}.json").rename(root / split / "_annotations.coco.json")
    (root / "images").rmdir()
    (root / "annotations").rmdir()
    return root


def write_yolo(root: Path, splits: Splits) -> Path:
    """Write images/<split>, labels/<split> and data.yaml."""
    seed = 0
    for split, images in splits.items():
        for name, boxes in images.items():
            seed += 1
            write_image(root / "images" / split / f"{name}.png", seed)
            write_yolo_labels(root / "labels" / split / f"{name}.txt", boxes)
    (root / "data.yaml").write_text(yaml.safe_dump({"names": list(NAMES)}))
    return root


def write_voc(root: Path, splits: Splits) -> Path:
    """Write Annotations, JPEGImages and ImageSets/Main."""
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    seed = 0
    for split, images in splits.items():
        for name, boxes in images.items():
            seed += 1
            write_image(root / "JPEGImages" / f"{name}.png", seed)
            objects = "".join(
                f"<object><name>{NAMES[label]}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
                f"<ymax>{y2}</ymax></bndbox></object>"
                for label, x1, y1, x2, y2 in boxes
            )
            size = f"<size><width>{HW[1]}</width><height>{HW[0]}</height></size>"
            (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))
    return root


def write_merged(root: Path, splits: Splits) -> Path:
    """Write a YAML file that joins a good set in YOLO txt with this one in COCO JSON."""
    write_coco(root / "second", splits)
    boxes = [(0, 1.0, 2.0, 30.0, 20.0), (1, 5.0, 6.0, 50.0, 30.0)]
    for number, split in enumerate(splits):
        write_image(root / "first" / "images" / split / "good.png", 1000 + number)
        write_yolo_labels(root / "first" / "labels" / split / "good.txt", boxes)
    (root / "first" / "data.yaml").write_text(yaml.safe_dump({"names": list(NAMES)}))
    (root / "both.yaml").write_text(yaml.safe_dump({split: ["first", "second"] for split in splits}))
    return root / "both.yaml"


def write_yolo_labels(path: Path, boxes: Sequence[Box]) -> None:
    """Write the labels of one image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for label, x1, y1, x2, y2 in boxes:
        shares = ((x1 + x2) / 2 / HW[1], (y1 + y2) / 2 / HW[0], (x2 - x1) / HW[1], (y2 - y1) / HW[0])
        lines.append(f"{label} " + " ".join(f"{share:.9f}" for share in shares))
    path.write_text("\n".join(lines))


LAYOUTS: Mapping[str, Callable[[Path, Splits], Path]] = {
    "coco": write_coco,
    "roboflow": write_roboflow,
    "yolo": write_yolo,
    "voc": write_voc,
    "merged": write_merged,
}


def images_of(path: Path | str, classes: Sequence[str] = (), **settings: Any) -> DataConfig:
    """Return the section of a configuration that asks for the images at a path."""
    return DataConfig(path=str(path), classes=tuple(classes), **settings)


def write_coco_file(
    path: Path, names: dict[int, str], boxes: list[tuple[int, int]], folder: Path | None = None
) -> None:
    """Write an annotation file for boxes of (image id, category id), 10 x 20 each, and empty images beside it."""
    ids = sorted({image_id for image_id, _ in boxes})
    images = [{"id": i, "file_name": f"{i}.png", "height": 100, "width": 100} for i in ids]
    rows = [{"id": n, "image_id": i, "category_id": c, "bbox": [1, 2, 10, 20]} for n, (i, c) in enumerate(boxes, 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": i, "name": name} for i, name in names.items()]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    for i in ids:
        ((folder or path.parent) / f"{i}.png").touch()


def idx_bytes(values: npt.NDArray[np.uint8]) -> bytes:
    """Write the format as its page describes it: 0, 0, 8 for unsigned bytes, the dimensions, their sizes, the values."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def draw_digits(count: int, seed: int) -> tuple[Pixels, Pixels]:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 5, 7)).astype(np.uint8)
    return images, (np.arange(count) % 3).astype(np.uint8)


def write_mnist(root: Path, packed: bool = True, dash: str = "-") -> Path:
    """Write 30 training and 6 test images of 5 x 7 pixels, labels 0, 1, 2 in turn."""
    root.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", 30, 0), ("t10k", 6, 1)):
        images, labels = draw_digits(count, seed)
        for kind, values in ((f"images{dash}idx3", images), (f"labels{dash}idx1", labels)):
            content = idx_bytes(values)
            file = root / f"{name}-{kind}-ubyte{'.gz' if packed else ''}"
            file.write_bytes(gzip.compress(content) if packed else content)
    return root
