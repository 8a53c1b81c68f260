"""Reading ncnn's files, and NanoDet-Plus-m as a network of ours."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from yolo_lite import Detector
from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.checkpoints.convert.nanodet import COCO_CLASSES, convert_nanodet, load_nanodet
from yolo_lite.checkpoints.convert.ncnn import Convolution, read_convolutions, read_layers
from yolo_lite.cli import main
from yolo_lite.config.resolve import read_config
from yolo_lite.errors import InputError
from yolo_lite.models.build import build_detector
from yolo_lite.ops import box_iou
from yolo_lite.predict.files import sample_image
from yolo_lite.shipped import find_config, find_weights

PARAM = """7767517
4 4
Input data 0 1 data
Convolution first 1 1 data a 0=2 1=3 -23310=1,1.000000e-01 11=3 12=1 13=2 14=1 2=1 3=2 4=1 5=1 6=54 9=2
ConvolutionDepthWise second 1 1 a b 0=2 1=1 11=1 12=1 13=1 14=0 2=1 3=1 4=0 5=1 6=2 7=2
Sigmoid last 1 1 b c
"""
FIRST = np.arange(54, dtype=np.float32) / 8  # exact in half precision
SECOND = np.array([0.1, -3.25], np.float32)
BIASES = np.array([0.3, -0.7], np.float32)


def _bin() -> bytes:
    half = struct.pack("<I", 0x01306B47) + FIRST.astype("<f2").tobytes()  # 108 bytes, a multiple of 4
    return half + BIASES.tobytes() + struct.pack("<I", 0) + SECOND.tobytes() + BIASES[::-1].tobytes()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    param, weights = tmp_path / "net.param", tmp_path / "net.bin"
    param.write_text(PARAM)
    weights.write_bytes(_bin())
    return param, weights


def test_layers_are_read_in_order(files: tuple[Path, Path]) -> None:
    layers = read_layers(files[0])
    assert [(layer.kind, layer.name) for layer in layers][1:3] == [
        ("Convolution", "first"),
        ("ConvolutionDepthWise", "second"),
    ]
    assert layers[1].inputs == ("data",)
    assert layers[1].outputs == ("a",)
    assert layers[1].parameters[0] == "2"


def test_a_byte_order_mark_is_passed_over_and_another_encoding_refused(files: tuple[Path, Path]) -> None:
    files[0].write_bytes(b"\xef\xbb\xbf" + PARAM.encode())
    assert len(read_layers(files[0])) == 4
    files[0].write_bytes(PARAM.replace("second", "zweite Faltung").replace("Faltung", "F\xe4ltung").encode("latin-1"))
    with pytest.raises(InputError, match=r"net\.param: line 5 is not UTF-8 text"):
        read_layers(files[0])


def test_convolutions_are_read_in_half_and_single_precision(files: tuple[Path, Path]) -> None:
    first, second = read_convolutions(*files)
    assert (first.stride, first.padding, first.groups, first.slope) == (2, 1, 1, 0.1)
    assert (second.stride, second.padding, second.groups, second.slope) == (1, 0, 2, None)
    assert np.array_equal(first.weight, FIRST.reshape(2, 3, 3, 3))
    assert np.array_equal(second.weight, SECOND.reshape(2, 1, 1, 1))
    assert np.array_equal(first.bias, BIASES)
    assert np.array_equal(second.bias, BIASES[::-1])


def test_half_precision_is_padded_to_four_bytes(tmp_path: Path) -> None:
    param, weights = tmp_path / "net.param", tmp_path / "net.bin"
    param.write_text("7767517\n1 2\nConvolution only 1 1 a b 0=1 1=1 5=1 6=3\n")
    values = np.array([1, 2, 3], "<f2")
    weights.write_bytes(struct.pack("<I", 0x01306B47) + values.tobytes() + b"??" + np.float32(4).tobytes())
    (only,) = read_convolutions(param, weights)
    assert only.weight.tolist() == [[[[1]], [[2]], [[3]]]]
    assert only.bias.tolist() == [4]


def _cut(data: bytes) -> bytes:
    return data[:-3]


def _tag(data: bytes) -> bytes:
    return b"\x01\x02\x03\x04" + data[4:]


def _infinite(data: bytes) -> bytes:
    return data[:4] + np.array([np.inf], "<f2").tobytes() + data[6:]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_cut, r"layer second: the biases need 8 bytes from byte 132 on, the file ends at 137", id="cut"),
        pytest.param(lambda data: data[:50], "layer first: the weights need 108 bytes from byte 4 on", id="cut early"),
        pytest.param(lambda data: b"", "layer first, byte 0: the file ends", id="empty"),
        pytest.param(_tag, "layer first, byte 0: the tag is 0x04030201", id="foreign tag"),
        pytest.param(lambda data: data + b"abcd", "4 bytes are left after the last layer, at byte 140", id="too long"),
        pytest.param(_infinite, "layer first, from byte 0: weights that are not finite", id="infinite"),
    ],
)
def test_a_damaged_bin_is_refused_with_layer_and_byte(
    spoil: Callable[[bytes], bytes], message: str, files: tuple[Path, Path]
) -> None:
    files[1].write_bytes(spoil(_bin()))
    with pytest.raises(InputError, match=message):
        read_convolutions(*files)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("7767517", "7767516", "its first line must be 7767517", id="magic"),
        pytest.param("4 4", "5 4", "announces 5 layers and holds 4", id="layer count"),
        pytest.param("4 4", "9" * 5000 + " 4", "line 2: expected the numbers", id="a count of 5,000 digits"),
        pytest.param("4 4", "99999999999999999999 4", "line 2: expected the numbers", id="a count of 20 digits"),
        pytest.param("1 1 data a", "1000000000000 1 data a", "layer first announces 1000000000001 blobs", id="blobs"),
        pytest.param("0=2 1=3", f"0={'9' * 5000} 1=3", "layer first: 0=999", id="a number of 5,000 digits"),
        pytest.param("4 4", "many", "line 2: expected the numbers", id="no counts"),
        pytest.param("1 1 data a", "1 x data a", "line 4: expected a layer's type", id="blob count"),
        pytest.param("0=2 1=3", "0=two 1=3", "layer first: 0=two is not a whole number", id="not a number"),
        pytest.param("6=54", "6=53", "layer first: 53 weights do not fit 2 outputs", id="weight count"),
        pytest.param("6=54", "6=-54", "layer first: -54 weights do not fit", id="negative"),
        pytest.param(
            "6=54", "6=99999999999998", "layer first: 6=99999999999998 is not a whole number up to", id="huge"
        ),
        pytest.param("6=54", "6=56", "layer first: 56 weights do not fit a 3 x 3 kernel", id="kernel"),
        pytest.param("11=3", "11=5", "layer first: only square, undilated", id="not square"),
        pytest.param(" 9=2", " 9=1", "layer first: activation 9=1 is not read", id="activation"),
        pytest.param("-23310=1,1.000000e-01", "-23310=2,1,2", "layer first: expected the slope", id="slope"),
        pytest.param("Sigmoid", "InnerProduct", "layer last is of type InnerProduct", id="other weights"),
    ],
)
def test_a_damaged_param_is_refused_with_its_place(old: str, new: str, message: str, files: tuple[Path, Path]) -> None:
    assert old in PARAM
    files[0].write_text(PARAM.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_convolutions(*files)


def test_missing_and_foreign_files_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*none\.param"):
        read_convolutions(tmp_path / "none.param", files[1])
    with pytest.raises(InputError, match=r"cannot read .*none\.bin"):
        read_convolutions(files[0], tmp_path / "none.bin")
    with pytest.raises(InputError, match="is not UTF-8|zero byte"):
        read_convolutions(find_weights("yolo_lite-shuffle-coco"), files[1])


def test_another_network_is_refused(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.pt"
    arguments = ["--param", str(files[0]), "--bin", str(files[1]), "--out", str(out)]
    assert main(["convert", "nanodet", *arguments]) == 2
    assert "is not NanoDet-Plus-m: it has 2 convolutions, expected 110" in capsys.readouterr().err
    assert not out.exists()


def test_a_file_is_never_replaced_and_sizes_are_checked(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "mine.pt"
    kept.write_text("mine")
    base = ["convert", "nanodet", "--param", str(files[0]), "--bin", str(files[1])]
    assert main([*base, "--out", str(kept)]) == 2
    assert "mine.pt already exists; choose another --out" in capsys.readouterr().err
    assert kept.read_text() == "mine"
    assert main([*base, "--out", str(tmp_path / "new.pt"), "--image-size", "100"]) == 2
    assert "must be multiples of 32, got 100 x 100" in capsys.readouterr().err


def test_a_layer_that_does_not_fit_is_named() -> None:
    config = read_config(find_config("shuffle"))
    wrong = Convolution(
        "convrelu_0",
        2,
        padding=1,
        groups=1,
        slope=0.1,
        weight=np.zeros((23, 3, 3, 3), np.float32),
        bias=np.zeros(23, np.float32),
    )
    with pytest.raises(InputError, match=r"layer convrelu_0 has weights \[23, 3, 3, 3\].*expected \[24, 3, 3, 3\]"):
        load_nanodet(config, [wrong] * 110, source=Path("some.param"))


@pytest.mark.shared_data
@pytest.mark.parametrize("size", [320, 416])
def test_raw_outputs_are_those_of_ncnn(size: int, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "nanodet_plus"
    stem = folder / f"nanodet-plus-m_{size}"
    convert_nanodet(
        stem.with_suffix(".param"), stem.with_suffix(".bin"), out=tmp_path / "out.pt", image_size=size, resize="stretch"
    )
    checkpoint = load_checkpoint(tmp_path / "out.pt")
    model = build_detector(checkpoint.config, 80).eval()
    model.load_state_dict({name: value.float() for name, value in checkpoint.weights.items()})
    recorded = np.load(folder / f"reference_{size}.npz")
    for image in ("dog", "person"):
        rgb = recorded[f"{image}_input_bgr"][..., ::-1].transpose(2, 0, 1)
        with torch.inference_mode():
            raw = model(torch.from_numpy(np.ascontiguousarray(rgb))[None])
        scores = torch.from_numpy(recorded[f"{image}_scores"]).float()
        distances = torch.from_numpy(recorded[f"{image}_distances"]).float()
        assert (raw.class_logits[0].sigmoid() - scores).abs().max() < 1e-3
        assert (raw.box_outputs[0] - distances).abs().max() < 2e-2


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("stored", "weights"),
    [
        pytest.param("nanodet-plus-m_416", "yolo_lite-shuffle-coco", id="1x"),
        pytest.param("nanodet-plus-m-1.5x_416", "yolo_lite-shuffle-1.5x-coco", id="1.5x"),
    ],
)
def test_the_shipped_weights_are_the_converted_ones(
    shared_data: Path, tmp_path: Path, stored: str, weights: str
) -> None:
    stem = shared_data / "nanodet_plus" / stored
    converted = convert_nanodet(
        stem.with_name(f"{stored}.param"), stem.with_name(f"{stored}.bin"), out=tmp_path / "out.pt", resize="stretch"
    )
    shipped = load_checkpoint(find_weights(weights))
    defaults = converted.config.train  # of training, which this file has not seen: they may change
    assert dataclasses.replace(shipped.config, train=defaults) == converted.config
    assert shipped.class_names == converted.class_names
    assert shipped.category_ids == converted.category_ids
    assert all(torch.equal(value, shipped.weights[name]) for name, value in converted.weights.items())


# What ncnn 1.0 gives for matplotlib's grace_hopper.jpg from nanodet-plus-m_416, the image stretched to 416 x 416 by area;
# scores above 0.3, suppression at IoU 0.6.
BY_NCNN = (
    ("person", 0.8991, (0.8, 20.2, 511.9, 600.0)),
    ("person", 0.3826, (0.0, 6.6, 141.1, 597.3)),
    ("tie", 0.3478, (225.9, 406.6, 297.4, 534.7)),
    ("person", 0.3332, (0.1, 279.6, 31.5, 598.8)),
)


def test_the_shipped_weights_find_what_ncnn_finds() -> None:
    found = Detector("yolo_lite-shuffle-coco", "cpu", score_threshold=0.3, iou_threshold=0.6)(sample_image())[0:10]
    assert found.names == [name for name, _, _ in BY_NCNN]
    assert np.allclose(found.scores, [score for _, score, _ in BY_NCNN], atol=0.01)
    overlaps = box_iou(torch.from_numpy(found.boxes), torch.tensor([box for _, _, box in BY_NCNN]))
    assert overlaps.diagonal().min() > 0.97


def test_the_card_of_the_shipped_weights_names_its_source() -> None:
    checkpoint = load_checkpoint(find_weights("yolo_lite-shuffle-coco"))
    assert checkpoint.class_names == tuple(COCO_CLASSES.split(", "))
    assert len(set(checkpoint.class_names)) == 80
    assert (checkpoint.category_ids[0], checkpoint.category_ids[11], checkpoint.category_ids[-1]) == (1, 13, 90)
    assert "NanoDet-Plus-m" in checkpoint.about["source"]
    assert checkpoint.about["licence"] == "Apache-2.0"
    assert len(checkpoint.about["bin_sha256"]) == 64
