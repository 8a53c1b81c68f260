"""Filters, activations and grids: values worked by hand, and the commands that draw them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import nn

from yolo_lite.cli import main
from yolo_lite.errors import InputError
from yolo_lite.inspect.activations import activations
from yolo_lite.inspect.filters import KERNELS, filter_image, grey
from yolo_lite.inspect.fit import grid_fit
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord


def test_brightness_weighs_the_channels() -> None:
    """0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601)."""
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    np.testing.assert_allclose(grey(image)[0], [76.245, 149.685, 29.07, 255], atol=1e-3)


def test_filters_agree_with_scipy() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    for name, (kernel, result) in filter_image(image).items():
        expected = ndimage.correlate(grey(image).astype(np.float64), kernel.astype(np.float64), mode="constant")
        np.testing.assert_allclose(result, expected, atol=0.01, err_msg=name)


def test_blurs_keep_the_brightness_and_edges_lose_it() -> None:
    sums = {name: float(np.sum(rows)) for name, rows in KERNELS.items()}
    assert all(sums[name] == pytest.approx(1) for name in ("blur 3x3", "blur 21x21", "sharpen", "emboss"))
    assert all(sums[name] == 0 for name in ("Laplacian", "edge", "Sobel x", "Sobel y"))


def test_activations_are_what_the_layer_gives() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    image = torch.rand(1, 3, 8, 8)
    found = activations(net, image)
    assert found.layer == "0"
    np.testing.assert_allclose(found.maps, net[0](image)[0].detach().numpy())
    assert found.kernels is not None
    assert found.kernels.shape == (4, 3, 3, 3)
    assert activations(net, image, layer="1").kernels is None
    with pytest.raises(InputError, match="no layer '7'"):
        activations(net, image, layer="7")
    with pytest.raises(InputError, match="has no maps"):
        activations(nn.Sequential(nn.Conv2d(3, 1, 8), nn.Flatten()), image, layer="1")


def test_grid_fit_counts_boxes_that_no_point_can_serve() -> None:
    """Points at 4, 12, 20, 28: the box 5..11 lies between them, 3..5 is narrower than a cell, 0..32 is neither."""
    boxes = np.array([[5, 5, 11, 11], [3, 3, 5, 30], [0, 0, 32, 32.0]])
    record = ImageRecord(
        Path("x"), 1, hw=(32, 32), boxes=boxes, labels=np.zeros(3, np.int64), crowd=np.zeros(3, bool), areas=np.ones(3)
    )
    places = np.arange(4, 32, 8, dtype=np.float32)
    points = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2)
    fit = grid_fit(
        DetectionSet((record,), ("a",), category_ids=(1,), source="drawn"),
        (32, 32),
        resize="letterbox",
        points=points,
        strides=[8],
    )
    assert fit.boxes == 3
    assert fit.below_cell == pytest.approx(2 / 3)
    assert fit.unserved == pytest.approx(1 / 3)
    np.testing.assert_allclose(fit.sides, [6, np.sqrt(2 * 27), 32], rtol=1e-6)


@pytest.mark.slow
def test_commands_draw_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)).save(photo)
    assert main(["inspect", "filters", "--image", str(photo), "--out", str(tmp_path / "f.png")]) == 0
    assert main(["inspect", "activations", "--image", str(photo), "--out", str(tmp_path / "new" / "a.png")]) == 0
    assert Image.open(tmp_path / "f.png").width > 500
    assert Image.open(tmp_path / "new" / "a.png").width > 500
    assert "24 maps of 208 x 208" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["filters", "activations", "cam", "grid"])
def test_a_drawing_never_replaces_the_image_that_it_is_of(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(image)
    before = image.read_bytes()
    (tmp_path / "link.png").symlink_to(image)
    for out in (image, tmp_path / "link.png"):
        assert main(["inspect", what, "--image", str(image), "--out", str(out)]) == 2
        assert f"{out} is an input file, which would be replaced" in capsys.readouterr().err
    assert image.read_bytes() == before


def test_inspect_model_prints_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "model", "--config", "mnist_cnn"]) == 0
    printed = capsys.readouterr().out
    assert "220,234 parameters" in printed
    assert "backbone.3" in printed
    assert main(["inspect", "model", "--config", "nano", "--image-size", "100"]) == 2
    assert main(["inspect", "model", "--config", "nano", "--weights", "yolo_lite-n-voc5"]) == 2
    assert main(["inspect", "model", "--config", "mnist_cnn", "--data", "x"]) == 2
