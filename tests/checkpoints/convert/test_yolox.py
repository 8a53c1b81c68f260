"""YOLOX as a network of ours: its sizes, its own files, and YOLOX-nano in ncnn's format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.checkpoints.convert.yolox_files import yolox_state
from yolo_lite import Detector
from yolo_lite.checkpoints.checkpoint import load_checkpoint, network
from yolo_lite.checkpoints.convert.yolox import _structure, convert_yolox, convert_yolox_ncnn
from yolo_lite.cli import main
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError
from yolo_lite.models.build import outline_detector
from yolo_lite.models.yolox import Focus, YoloxHead, joint_logits
from yolo_lite.predict.files import sample_image
from yolo_lite.structures.batches import RawPredictions
from yolo_lite.structures.geometry import Letterbox

DATA = Path(os.environ.get("YOLO_LITE_DATA", "shared/data")) / "yolox"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs $YOLO_LITE_DATA/yolox")
TINY = {"stem": 4, "base": 1, "head": 4, "classes": 3}
SIZES = {  # width, depth, depthwise, millions of parameters as YOLOX's README has them
    "nano": (0.25, 0.33, True, 0.91),
    "tiny": (0.375, 0.33, False, 5.06),
    "s": (0.5, 0.33, False, 9.0),
    "m": (0.75, 0.67, False, 25.3),
    "l": (1.0, 1.0, False, 54.2),
    "x": (1.25, 1.33, False, 99.1),
}


def _shape(size: str) -> dict[str, Any]:
    """Return the arguments of `yolox_state` for a published network."""
    width, depth, depthwise, _ = SIZES[size]
    return {
        "stem": int(64 * width),
        "base": max(round(depth * 3), 1),
        "head": int(256 * width),
        "depthwise": depthwise,
    }


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_the_published_number_of_parameters(size: str) -> None:
    """The file has it, laid out from the paper, and so has the network that its structure leads to."""
    state = yolox_state(**_shape(size))
    model, classes = _structure(state, source=Path("a.pth"))
    network = outline_detector(Config(model=model), classes)
    learned = sum(value.numel() for name, value in state.items() if "running" not in name and "num_b" not in name)
    assert sum(parameter.numel() for parameter in network.parameters()) == learned
    digits = 2 if SIZES[size][3] < 9 else 1
    assert round(learned / 1e6, digits) == pytest.approx(SIZES[size][3], abs=0.011 if digits == 2 else 0.051)


def _save(state: dict[str, Tensor], path: Path) -> Path:
    torch.save({"start_epoch": 300, "model": state, "optimizer": {"state": {}}}, path)
    return path


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_pth_file_gives_the_network_that_it_holds(tmp_path: Path, depthwise: bool) -> None:
    """The first layer of the plain kind takes B, G, R; the answer to an image must not depend on how it is stored."""
    state = yolox_state(**TINY, depthwise=depthwise)
    checkpoint = convert_yolox(_save(state, tmp_path / "a.pth"), out=tmp_path / "a.pt", image_size=64)
    config = checkpoint.config
    assert (config.model.depths, config.model.widths) == ((1, 3, 3, 1), (8, 16, 32, 64))
    assert config.model.depthwise is depthwise
    assert config.input.resize == "corner"
    assert (config.input.mean, config.input.std) == ((0, 0, 0), (1, 1, 1))
    for name in ("head.cls_preds.0.weight", "neck.C3_p4.conv3.1.running_var", "backbone.dark5.2.conv1.0.weight"):
        theirs = {
            "head.cls_preds.0.weight": "head.cls_preds.0.weight",
            "neck.C3_p4.conv3.1.running_var": "backbone.C3_p4.conv3.bn.running_var",
            "backbone.dark5.2.conv1.0.weight": "backbone.backbone.dark5.2.conv1.conv.weight",
        }[name]
        torch.testing.assert_close(checkpoint.weights[name].float(), state[theirs], atol=1e-3, rtol=1e-3)
    first = state["backbone.backbone.stem.conv.conv.weight"]
    ours = checkpoint.weights["backbone.stem.conv.0.weight"].float()
    for patch in range(4):
        for theirs_channel, our_channel in ((0, 2), (1, 1), (2, 0)):  # B, G, R
            torch.testing.assert_close(
                ours[:, 3 * patch + our_channel], first[:, 3 * patch + theirs_channel], atol=1e-3, rtol=1e-3
            )
    assert all(
        norm.eps == 1e-3
        for norm in network(load_checkpoint(tmp_path / "a.pt"), tmp_path / "a.pt").modules()
        if isinstance(norm, nn.BatchNorm2d)
    )


def test_legacy_files_keep_their_channels_and_take_normalised_pixels(tmp_path: Path) -> None:
    state = yolox_state(**TINY, depthwise=False)
    path = _save(state, tmp_path / "a.pth")
    checkpoint = convert_yolox(path, out=tmp_path / "a.pt", image_size=64, legacy=True)
    first = state["backbone.backbone.stem.conv.conv.weight"]
    torch.testing.assert_close(checkpoint.weights["backbone.stem.conv.0.weight"].float(), first, atol=1e-3, rtol=1e-3)
    assert checkpoint.config.input.mean[0] == pytest.approx(123.675)


def test_focus_stacks_pixels_in_yolox_order() -> None:
    """A 1x1 identity kernel in the middle shows the order: (even row, even column), (odd, even), (even, odd), (odd, odd)."""
    focus = Focus(12).eval()
    convolution, norm = focus.conv[0], focus.conv[1]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.zeros_(convolution.weight)
    with torch.no_grad():
        for channel in range(12):
            convolution.weight[channel, channel, 1, 1] = 1
    focus.conv[2] = nn.Identity()
    image = torch.arange(4.0).view(1, 1, 2, 2).repeat(1, 3, 1, 1)  # rows 0 1 / 2 3
    assert focus(image).flatten().round().tolist() == [0] * 3 + [2] * 3 + [1] * 3 + [3] * 3


def test_boxes_are_decoded_as_in_the_paper() -> None:
    """In the cell (2, 1) of stride 8, offsets 0.25 and 0.5, sides e^1 and e^0: centre 18, 12, sides 21.7 and 8."""
    raw = RawPredictions(
        torch.tensor([[[0.25, 0.5, 1.0, 0.0]]]),
        torch.zeros(1, 1, 1),
        points=torch.tensor([[20.0, 12.0]]),
        strides=torch.tensor([8.0]),
    )
    e = float(np.e)
    box = YoloxHead.decode(raw, torch.zeros(1, 1, dtype=torch.int64))[0, 0].tolist()
    assert box == pytest.approx([18 - 4 * e, 8, 18 + 4 * e, 16], rel=1e-6)


@pytest.mark.parametrize("size", [1.0, 30.0, 200.0])
def test_joint_logits_are_finite_and_have_gradients(size: float) -> None:
    a = (torch.tensor([-1.0, 1, -1, 1]) * size).requires_grad_()
    b = torch.tensor([-1.0, -1, 1, 1]) * size
    logits = joint_logits(a, b)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert a.grad is not None
    assert a.grad.isfinite().all()
    expected = a.double().sigmoid() * b.double().sigmoid()
    torch.testing.assert_close(logits.sigmoid().double(), expected.detach(), atol=1e-6, rtol=1e-5)


def test_the_image_lies_in_the_upper_left_corner() -> None:
    """100 x 201 into 64 x 64: the factor 64 / 201 makes 31.8 rows, rounded down to 31."""
    letterbox = Letterbox.fit((100, 201), (64, 64), resize="corner")
    assert letterbox.content_hw == (31, 64)
    pixels = letterbox.apply(np.full((100, 201, 3), 7, np.uint8))
    assert (pixels[:31] == 7).all()
    assert (pixels[31:] == 114).all()
    box = [[10.0, 20, 150, 90]]
    np.testing.assert_allclose(letterbox.boxes_to_original(letterbox.boxes_to_input(box)), box, atol=1e-4)


def test_what_is_no_yolox_is_refused_in_one_line(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch evil",)

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    torch.save({"model": {"a.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.pth")
    state = yolox_state(**TINY, depthwise=False)
    missing = {name: value for name, value in state.items() if name != "head.obj_preds.1.bias"}
    _save(missing, tmp_path / "missing.pth")
    _save({**state, "head.obj_preds.1.bias": torch.tensor([float("nan")])}, tmp_path / "nan.pth")
    (tmp_path / "text.pth").write_text("hello")
    for name, message in {
        "evil": "is not a file of YOLOX, or is damaged",
        "other": r"is not a file of YOLOX: the layer backbone.backbone.stem.conv.conv is missing",
        "numbers": "expected its tensors under the key 'model'",
        "missing": "'head.obj_preds.1.bias' should be",
        "nan": "head.obj_preds.1.bias has values that are not finite",
        "text": "is not a file of YOLOX, or is damaged",
        "nothing": "does not exist",
    }.items():
        with pytest.raises(InputError, match=message):
            convert_yolox(tmp_path / f"{name}.pth", out=tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()
    assert not Path("evil").exists()


def test_the_command_takes_one_kind_of_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = str(_save(yolox_state(**TINY, depthwise=False), tmp_path / "a.pth")), str(tmp_path / "a.pt")
    assert main(["convert", "yolox", "--out", out]) == 2
    assert main(["convert", "yolox", "--weights", path, "--param", "p", "--bin", "b", "--out", out]) == 2
    assert main(["convert", "yolox", "--param", "p", "--out", out]) == 2
    assert capsys.readouterr().err.count("name either --weights") == 3
    assert main(["convert", "yolox", "--weights", path, "--out", out, "--image-size", "64"]) == 0
    assert "yolox-custom" in capsys.readouterr().out
    assert main(["convert", "yolox", "--weights", path, "--out", out]) == 2
    assert "already exists" in capsys.readouterr().err
    for name in ("yolox.onnx", "yolox.XML", "yolox.pt2", "yolox.json"):  # other commands take these for something else
        assert main(["convert", "yolox", "--weights", path, "--out", str(tmp_path / name)]) == 2
        assert "--out takes the name of a checkpoint such as yolox.pt, got " in capsys.readouterr().err
    assert Detector(out, "cpu")(sample_image()).class_names == ("class 0", "class 1", "class 2")


@needs_data
def test_nano_computes_what_ncnn_computed(tmp_path: Path) -> None:
    """Recorded outputs, rounded to half precision: scores within 1e-3, box outputs within 2e-3."""
    nano = tmp_path / "nano.pt"
    convert_yolox_ncnn(DATA / "yolox-nano.param", DATA / "yolox-nano.bin", out=nano)
    _check_reference(nano)


@needs_data
def test_nano_survives_the_way_through_its_own_file_format(tmp_path: Path) -> None:
    """The folded weights, written as YOLOX names them with norms that change nothing, give the same outputs."""
    nano = tmp_path / "nano.pt"
    folded = convert_yolox_ncnn(DATA / "yolox-nano.param", DATA / "yolox-nano.bin", out=nano).weights
    state = yolox_state(**_shape("nano"))
    for name in state:
        ours = name.replace("backbone.backbone.", "BODY.").replace("backbone.", "neck.").replace("BODY.", "backbone.")
        if ".bn." not in name:
            key = ours.replace(".conv.weight", ".0.weight") if "preds" not in name else ours
            state[name] = folded[key].float()
        elif name.endswith("running_mean"):
            state[name] = torch.zeros_like(state[name])
        elif name.endswith("running_var"):
            state[name] = torch.ones_like(state[name])
        elif name.endswith("bn.weight"):
            state[name] = torch.full_like(state[name], (1 + 1e-3) ** 0.5)
        elif name.endswith("bn.bias"):
            state[name] = folded[ours.replace(".bn.bias", ".0.bias")].float()
    convert_yolox(_save(state, tmp_path / "yolox_nano.pth"), out=tmp_path / "again.pt", legacy=True)
    _check_reference(tmp_path / "again.pt")


def _check_reference(weights: Path) -> None:
    checkpoint = load_checkpoint(weights)
    assert checkpoint.config.name == "yolox-nano"
    model = network(checkpoint, weights)
    reference = np.load(DATA / "reference_416.npz")
    for name in ("dog", "person"):
        image = torch.from_numpy(reference[f"{name}_input"][..., ::-1].copy()).permute(2, 0, 1).unsqueeze(0)
        expected = reference[f"{name}_output"].astype(np.float32)
        with torch.inference_mode():
            raw = model(image)
        scores = raw.class_logits[0].sigmoid().numpy()
        np.testing.assert_allclose(scores, expected[:, 4:5] * expected[:, 5:], atol=1e-3)
        np.testing.assert_allclose(raw.box_outputs[0].numpy(), expected[:, :4], atol=2e-3)
