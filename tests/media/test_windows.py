"""Images that are read in parts: the same pixels as when they are read as a whole, and a line for every other file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PillowImage

from yolo_lite.errors import InputError
from yolo_lite.media import images, windows
from yolo_lite.media.images import read_image
from yolo_lite.media.windows import Windows, read_in_parts
from yolo_lite.structures import tiles
from yolo_lite.structures.results import Detections
from yolo_lite.structures.tiles import Tiling, detect_in_tiles

Pixels = npt.NDArray[np.uint8]


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def save(path: Path, pixels: Pixels, *, rows: int = 7, **settings: Any) -> Path:
    """Write a TIFF with Pillow, in strips of a few rows."""
    tags = {278: rows, **({317: settings.pop("predictor")} if "predictor" in settings else {})}
    PillowImage.fromarray(pixels).save(path, "TIFF", tiffinfo=tags, **settings)
    return path


def write_tiled(path: Path, pixels: Pixels, *, side: int = 16, deflate: bool = True) -> Path:
    """Write a TIFF in tiles, which Pillow cannot: a directory of 12-byte entries, in the order of tags (TIFF 6.0, 15)."""
    height, width, samples = pixels.shape
    padded = np.zeros((-(-height // side) * side, -(-width // side) * side, samples), np.uint8)
    padded[:height, :width] = pixels
    blocks = [
        padded[y : y + side, x : x + side].tobytes()
        for y in range(0, padded.shape[0], side)
        for x in range(0, padded.shape[1], side)
    ]
    blocks = [zlib.compress(block) for block in blocks] if deflate else blocks
    sizes, count = [len(block) for block in blocks], len(blocks)
    arrays = 8 + 2 + 11 * 12 + 4  # after the header and the directory: bits, then places and sizes of tiles
    first = arrays + 2 * samples + 8 * count
    places = [first + sum(sizes[:number]) for number in range(count)]
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, samples, arrays),
        (259, 3, 1, 8 if deflate else 1),
        (262, 3, 1, 2),
        (277, 3, 1, samples),
        (284, 3, 1, 1),
        (322, 4, 1, side),
        (323, 4, 1, side),
        (324, 4, count, arrays + 2 * samples),
        (325, 4, count, arrays + 2 * samples + 4 * count),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    lists = struct.pack(f"<{samples}H{2 * count}I", *[8] * samples, *places, *sizes)
    path.write_bytes(head + struct.pack("<I", 0) + lists + b"".join(blocks))
    return path


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain, a single strip": {"rows": 1000},
    "plain, a prime number of rows": {"rows": 53},
    "Deflate": {"compression": "tiff_adobe_deflate"},
    "Deflate with a predictor": {"compression": "tiff_adobe_deflate", "predictor": 2},
}


@pytest.fixture(params=[*KINDS, "grey", "with transparency", "tiles", "plain tiles"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a TIFF of 101 x 75 pixels."""
    path = tmp_path / "image.tif"
    if "tiles" in request.param:
        return write_tiled(path, noise(75, 101, 3), deflate=request.param == "tiles")
    shape = {"grey": (75, 101), "with transparency": (75, 101, 4)}.get(request.param, (75, 101, 3))
    return save(path, noise(*shape), **KINDS.get(request.param, {"compression": "tiff_adobe_deflate", "predictor": 2}))


@pytest.mark.parametrize("cache", [256_000_000, 1])
def test_parts_are_those_of_the_whole_image(file: Path, monkeypatch: pytest.MonkeyPatch, cache: int) -> None:
    """Pillow, which shares no code, reads the whole."""
    whole, parts = read_image(file), Windows(file)
    monkeypatch.setattr(windows, "_CACHE", cache)
    assert parts.shape == whole.shape == (75, 101, 3)
    for top, bottom, left, right in (
        (0, 75, 0, 101),
        (3, 4, 100, 101),
        (20, 61, 15, 33),
        (74, 90, 90, 200),
        (5, 5, 0, 9),
    ):
        assert np.array_equal(parts[top:bottom, left:right], whole[top:bottom, left:right])


@pytest.mark.parametrize("big_tiff", [False, True])
def test_big_tiff_is_read_too(tmp_path: Path, big_tiff: bool) -> None:
    path = save(tmp_path / "a.tif", noise(75, 101, 3), big_tiff=big_tiff)
    assert (path.read_bytes()[2] == 43) == big_tiff
    assert np.array_equal(Windows(path)[0:75, 0:101], read_image(path))


def test_the_reduced_image_is_the_mean_of_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(80, 120, 3)
    path = save(tmp_path / "a.tif", pixels)
    expected = pixels.reshape(20, 4, 30, 4, 3).mean((1, 3))
    for band in (64_000_000, 1, 5000):
        monkeypatch.setattr(windows, "_BAND", band)
        reduced = Windows(path).reduced(30)
        assert reduced.shape == (20, 30, 3)
        assert abs(reduced - expected).max() <= 0.5
    assert Windows(save(tmp_path / "b.tif", noise(75, 101, 3))).reduced(30).shape == (19, 26, 3)


def no_deflate(path: Path) -> None:
    save(path, noise(75, 101, 3), compression="tiff_lzw")


def deep(path: Path) -> None:
    PillowImage.fromarray(np.zeros((9, 9), np.uint16)).save(path, "TIFF")


def bits(path: Path) -> None:
    PillowImage.new("1", (9, 9)).save(path, "TIFF")


def turned(path: Path) -> None:
    PillowImage.new("RGB", (9, 9)).save(path, "TIFF", tiffinfo={274: 6})


def palette(path: Path) -> None:
    PillowImage.new("P", (9, 9)).save(path, "TIFF")


def photograph(path: Path) -> None:
    PillowImage.new("RGB", (9, 9)).save(path, "JPEG")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(save(path, noise(75, 101, 3)).read_bytes()[:7])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (no_deflate, "its compression has the number 5"),
        (deep, "it has not 8 bits a channel"),
        (bits, "it has not 8 bits a channel"),
        (turned, "it is stored turned or mirrored"),
        (palette, "its colours are neither grey nor RGB"),
        (photograph, "it is not a TIFF file"),
        (empty, "it is not a TIFF file"),
        (cut_in_the_header, "it is not a TIFF file"),
    ],
)
def test_other_files_are_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, words: str
) -> None:
    write(tmp_path / "a.tif")
    with pytest.raises(InputError, match=f"a.tif is too large .* parts: {words}; parts are read of TIFF files"):
        Windows(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["plain", "Deflate"])
def test_damaged_files_are_errors(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path / "a.tif", noise(75, 101, 3), **KINDS[kind])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if content[4] < 16 else content[:8] + bytes(5000) + content[5008:])
    with pytest.raises(InputError, match="a.tif"):
        np.array(Windows(path)[0:75, 0:101])


def test_only_images_that_are_too_large_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.tif", noise(75, 101, 3))
    assert isinstance(read_in_parts(path), np.ndarray)
    monkeypatch.setattr(images, "MAX_PIXELS", 75 * 101 - 1)
    assert isinstance(read_in_parts(path), Windows)
    with pytest.raises(InputError, match="has more than"):
        read_image(path)


@pytest.mark.parametrize("reduced", [2048, 700])
def test_detection_in_parts_is_that_in_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reduced: int) -> None:
    """A detector that returns the box of what is not black: exact in tiles; in the reduced image, to a pixel of it."""
    pixels = np.zeros((900, 1400, 3), np.uint8)
    pixels[100:130, 1300:1340] = 255  # in a tile
    pixels[300:800, 200:1000] = 255  # too long for one

    def detect(crops: list[Pixels]) -> list[Detections]:
        results = []
        for crop in crops:
            boxes = []
            for half in (slice(0, crop.shape[0] // 4), slice(crop.shape[0] // 4, None)):
                ys, xs = np.nonzero(crop[half, :, 0])
                if len(ys):
                    start = half.start or 0
                    boxes.append([xs.min(), ys.min() + start, xs.max() + 1, ys.max() + 1 + start])
            results.append(Detections(boxes, [0.9] * len(boxes), labels=[0] * len(boxes), class_names=("box",)))
        return results

    monkeypatch.setattr(tiles, "REDUCED", reduced)
    settings: Any = {"tiling": Tiling(400), "batch_size": 5, "iou_threshold": 0.5, "max_detections": 9}
    (expected,) = detect_in_tiles([pixels], detect, **settings)
    (found,) = detect_in_tiles([Windows(save(tmp_path / "a.tif", pixels))], detect, **settings)
    assert np.array_equal(found.boxes, expected.boxes)
    assert [1300, 100, 1340, 130] in found.boxes.tolist()
    assert [200, 300, 1000, 800] in found.boxes.tolist()
