"""What several tests share: drawn data sets, the place of the real ones, and a closed network."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for tests that import onnxruntime themselves
SHAPES = ("disc", "square")
_FILL = {"disc": (220, 40, 40), "square": (40, 80, 220)}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test open a connection; local pairs of sockets, which processes talk through, stay open."""

    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a test tried to reach the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread: sums depend on how they are split, and small networks gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_preflight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the preflight out, which has tests of its own: it would take longer than these trainings."""
    monkeypatch.setattr("yolo_lite.training.recipe.check_it_learns", lambda *args, **settings: "preflight: left out")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets; skip where there is none."""
    named = os.environ.get("YOLO_LITE_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "voc5").is_dir():
        pytest.skip("no real data: set YOLO_LITE_DATA")
    return folder


def draw_image(generator: np.random.Generator, hw: tuple[int, int], count: int) -> tuple[Image.Image, list[Any]]:
    """Draw discs and squares on grey noise; return the image and (class, x, y, width, height) of each, in pixels."""
    height, width = hw
    noise = generator.integers(90, 150, (height, width, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    objects: list[Any] = []
    while len(objects) < count:
        side = int(generator.integers(min(hw) // 4, min(hw) // 2))
        x, y = int(generator.integers(0, width - side)), int(generator.integers(0, height - side))
        if any(abs(x - ox) < max(side, s) and abs(y - oy) < max(side, s) for _, ox, oy, s, _ in objects):
            continue
        name = SHAPES[int(generator.integers(2))]
        shape = draw.ellipse if name == "disc" else draw.rectangle
        shape((x, y, x + side - 1, y + side - 1), fill=_FILL[name])
        objects.append((name, x, y, side, side))
    return image, objects


def write_coco_set(
    root: Path, sizes: dict[str, int], seed: int = 0, hw: tuple[int, int] = (96, 128), objects: int = 2
) -> Path:
    """Write a drawn data set with COCO annotations; category ids are 7 and 3, so that ids and labels differ."""
    generator = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    image_id = 0
    for split, count in sizes.items():
        images, annotations = [], []
        for _ in range(count):
            image_id += 1
            image, found = draw_image(generator, hw, objects)
            image.save(root / "images" / f"{image_id:04d}.png")
            images.append({"id": image_id, "file_name": f"{image_id:04d}.png", "height": hw[0], "width": hw[1]})
            for name, x, y, width, height in found:
                category = {"disc": 7, "square": 3}[name]
                row = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "iscrowd": 0}
                annotations.append({**row, "bbox": [x, y, width, height], "area": width * height})
        categories = [{"id": 7, "name": "disc"}, {"id": 3, "name": "square"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def coco_set(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a drawn data set into a folder of this test."""
    return lambda sizes=None, **options: write_coco_set(tmp_path / "set", sizes or {"train": 8, "val": 4}, **options)


SMALL = (
    "input.image_size=[96, 128]",
    "model.stem_width=8",
    "model.widths=[16, 32, 64, 96]",
    "model.neck_width=48",
    "model.head_width=32",
    "augment=none",
    "train.workers=0",
    "train.batch_size=8",
    "train.precision=fp32",
)  # a network and settings with which a test trains in seconds


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train once on eight drawn images until they are known by heart; return (run folder, data folder)."""
    from yolo_lite.config.resolve import override_config, read_config
    from yolo_lite.training.recipe import train

    root = write_coco_set(tmp_path_factory.mktemp("finished_run") / "set", {"train": 8})
    annotations = root / "annotations"
    (annotations / "instances_val.json").write_text((annotations / "instances_train.json").read_text())
    overrides = (*SMALL, "train.epochs=60", "train.evaluate_every=60", "train.lr=0.006", "loss.static_share=0.2")
    config = override_config(read_config(None), overrides)
    torch.set_num_threads(1)
    return train(root, config=config, out=root.parent / "run", device="cpu"), root


@pytest.fixture(scope="session")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return yolo_lite-pico-voc5 as an ONNX file for 96 x 96, which takes seconds to write."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from yolo_lite import export

    return export("yolo_lite-pico-voc5", tmp_path_factory.mktemp("exported") / "pico.onnx", image_size=96)
