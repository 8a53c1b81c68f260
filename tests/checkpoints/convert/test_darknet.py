"""Darknet's files as checkpoints: what is read, what is refused, and what can be done with the result."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from yolo_lite import Detector
from yolo_lite.checkpoints.checkpoint import build_from_checkpoint, load_checkpoint
from yolo_lite.checkpoints.convert.darknet import convert_darknet, fill, load_darknet
from yolo_lite.cli import main
from yolo_lite.errors import InputError
from yolo_lite.models.build import build_detector
from yolo_lite.models.darknet.layers import DarknetBackbone
from yolo_lite.training.plan import plan
from yolo_lite.training.recipe import train
from yolo_lite.training.task import Listener

MakeSet = Callable[..., Path]
Values = npt.NDArray[np.float32]

CFG = (
    "[net]\nheight=64\nwidth=64\nchannels=3\n"
    + "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\nstride=2\npad=1\nactivation=leaky\n" * 5
    + "[convolutional]\nfilters=14\nsize=1\nactivation=linear\n"
    + "[yolo]\nmask=0,1\nanchors=20,24,40,30\nclasses=2\nnum=2\n"
)  # layers 0 to 4 end at strides 2, 4, 8, 16 and 32; 14 = 2 anchors of 4 + 1 + 2 values
# First layer: 4 biases, 4 scales, 4 means, 4 variances, 4 * 3 * 9 weights: 124. The next four: 16 + 4 * 4 * 9 = 160 each.
# The last: 14 biases, 14 * 4 weights: 70.
COUNT = 124 + 4 * 160 + 70
HEADER = struct.pack("<3iq", 0, 2, 5, 12800)


def draw_values(seed: int = 0) -> Values:
    """Draw values in the file's order; objectness begins at 1, so that something is found."""
    generator = np.random.default_rng(seed)
    parts = []
    for inputs in (3, 4, 4, 4, 4):
        parts += [generator.uniform(-0.2, 0.2, 4), generator.uniform(0.5, 1.5, 4), generator.uniform(-0.2, 0.2, 4)]
        parts += [generator.uniform(0.5, 1.5, 4), generator.normal(0, 0.3, 4 * inputs * 9)]
    biases = generator.uniform(-0.3, 0.3, 14)
    biases[[4, 11]] = 1
    values = np.concatenate([*parts, biases, generator.normal(0, 0.5, 56)]).astype("<f4")
    assert len(values) == COUNT
    return values


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    cfg, weights = tmp_path / "tiny.cfg", tmp_path / "tiny.weights"
    cfg.write_text(CFG)
    weights.write_bytes(HEADER + draw_values().tobytes())
    return cfg, weights


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.names"
    path.write_text("disc\nsquare\n")
    return path


def photo(hw: tuple[int, int] = (96, 160)) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (*hw, 3)).astype(np.uint8)


def test_the_values_of_a_convolution_lie_in_darknets_order(files: tuple[Path, Path]) -> None:
    values, state = draw_values(), dict(load_darknet(*files).weights)
    order = [("1.bias", 4), ("1.weight", 4), ("1.running_mean", 4), ("1.running_var", 4), ("0.weight", 108)]
    place = 0
    for name, count in order:
        assert np.array_equal(state[f"backbone.layers.0.{name}"].flatten(), values[place : place + count]), name
        place += count
    assert np.array_equal(state["backbone.layers.5.0.bias"], values[764:778])
    assert np.array_equal(state["backbone.layers.5.0.weight"].flatten(), values[778:])


def test_the_values_of_dense_and_local_layers_lie_in_darknets_order() -> None:
    """Connected: biases, weights, scales, means, variances; local: a bias for each output, then weights place by place."""
    cfg = (
        "[net]\nheight=2\nwidth=2\n[local]\nfilters=2\nsize=1\nactivation=linear\n"
        "[connected]\noutput=3\nbatch_normalize=1\nactivation=linear\n[connected]\noutput=2\nactivation=linear\n"
    )
    local, connected, last = 8 + 4 * 2 * 3, 3 + 3 * 8 + 9, 2 + 2 * 3
    values = np.arange(local + connected + last, dtype="<f4")
    backbone = DarknetBackbone(cfg, levels=(2,))
    fill(backbone, HEADER + values.tobytes(), source=Path("some.weights"))
    first, second, third = backbone.layers
    assert first.bias.flatten().tolist() == list(range(8))
    assert first.weight.flatten().tolist() == list(range(8, 32))
    assert first.weight.shape == (4, 2, 3)
    assert second[2].bias.tolist() == [32, 33, 34]
    assert second[1].weight.flatten().tolist() == list(range(35, 59))
    rest = (second[2].weight, second[2].running_mean, second[2].running_var)
    assert [tensor.tolist() for tensor in rest] == [[59, 60, 61], [62, 63, 64], [65, 66, 67]]
    assert third[1].bias.tolist() == [68, 69]
    assert third[1].weight.flatten().tolist() == list(range(70, 76))


@pytest.mark.parametrize("version", [(1001, 0), (0, 1001)], ids=str)
def test_dense_layers_are_transposed_above_version_1000(version: tuple[int, int]) -> None:
    backbone = DarknetBackbone("[net]\nheight=1\nwidth=1\n[connected]\noutput=2\n", levels=(0,))
    content = struct.pack("<4i", *version, 0, 0) + np.array([7, 8, 0, 1, 2, 3, 4, 5], "<f4").tobytes()
    fill(backbone, content, source=Path("some.weights"))
    assert backbone.layers[0][1].bias.tolist() == [7, 8]
    assert backbone.layers[0][1].weight.tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(-1, "it holds 833 values, the layers 834; 1 value is missing", id="one short"),
        pytest.param(-800, "it holds 34 values, the layers 834; 800 values are missing", id="short"),
        pytest.param(-COUNT, "it holds 0 values, the layers 834; 834 values are missing", id="header only"),
        pytest.param(1, "it holds 835 values, the layers 834; 1 value is left over", id="one over"),
        pytest.param(1500, "it holds 2,334 values, the layers 834; 1,500 values are left over", id="long"),
    ],
)
def test_weights_that_do_not_fit_are_counted(change: int, message: str, files: tuple[Path, Path]) -> None:
    values = np.resize(draw_values(), COUNT + change) if change > -COUNT else np.zeros(0, "<f4")
    files[1].write_bytes(HEADER + values.astype("<f4").tobytes())
    with pytest.raises(InputError, match=rf"tiny\.weights does not fit the cfg: {message}"):
        load_darknet(*files)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is not a .weights file of Darknet: 0 bytes", id="empty"),
        pytest.param(HEADER[:15], "is not a .weights file of Darknet: 15 bytes", id="less than any header"),
        pytest.param(HEADER[:16], "is not a .weights file of Darknet: 16 bytes", id="less than its header"),
        pytest.param(HEADER[:18], "is ", id="between"),
        pytest.param(b"<html>not found</html>", "is not a .weights file of Darknet: its version would be", id="text"),
        pytest.param(b"PK\x03\x04" + bytes(100), "is not .* its version would be 67324752.0", id="zip"),
        pytest.param(struct.pack("<3iq", -1, 2, 0, 0), "is not .* its version would be -1.2", id="negative version"),
        pytest.param(HEADER + bytes(4 * COUNT - 1), "is cut short: 3,355 bytes are not a header and float32", id="odd"),
        pytest.param(HEADER + bytes(4 * COUNT + 2), "is cut short: 3,358 bytes", id="odd, longer"),
    ],
)
def test_what_is_no_weights_file_is_refused_in_one_line(content: bytes, message: str, files: tuple[Path, Path]) -> None:
    files[1].write_bytes(content)
    with pytest.raises(InputError, match=rf"tiny\.weights {message}") as refused:
        load_darknet(*files)
    assert "\n" not in str(refused.value)


def test_missing_files_are_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    none = tmp_path / "none"
    for cfg, weights, names in ((none, files[1], None), (files[0], none, None), (*files, none)):
        with pytest.raises(InputError, match="none does not exist"):
            load_darknet(cfg, weights, names=names)


def test_errors_of_the_cfg_name_the_file(files: tuple[Path, Path]) -> None:
    files[0].write_text(CFG.replace("activation=linear", "activation=snake"))
    with pytest.raises(InputError, match=r"tiny\.cfg: the cfg's \[convolutional\] at line 40: the activation 'snake'"):
        load_darknet(*files)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("disc\n", r"tiny\.names names 1 class, but the cfg has 2", id="too few"),
        pytest.param("disc\nsquare\nstar\n", r"tiny\.names names 3 classes, but the cfg has 2", id="too many"),
        pytest.param("disc\ndisc\n", r"tiny\.names names a class twice", id="twice"),
    ],
)
def test_names_that_do_not_fit_are_refused(text: str, message: str, files: tuple[Path, Path], names: Path) -> None:
    names.write_text(text)
    with pytest.raises(InputError, match=message):
        load_darknet(*files, names=names)


def test_names_are_read_line_by_line(files: tuple[Path, Path], names: Path) -> None:
    names.write_text(" disc \r\n\n traffic light\n\n")
    assert load_darknet(*files, names=names).class_names == ("disc", "traffic light")
    assert load_darknet(*files).class_names == ("class 0", "class 1")


def test_a_byte_order_mark_belongs_to_no_name_and_no_section(files: tuple[Path, Path], names: Path) -> None:
    for path in (files[0], names):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_darknet(*files, names=names).class_names == ("disc", "square")


@pytest.mark.parametrize("encoding", ["gbk", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_in_another_encoding_is_refused_with_its_line(
    encoding: str, files: tuple[Path, Path], names: Path
) -> None:
    names.write_bytes("人\nsquare\n".encode(encoding))
    with pytest.raises(InputError, match=r"tiny\.names: line [12] .*save the file as UTF-8"):
        load_darknet(*files, names=names)
    files[0].write_bytes(f"[net]\n# 人\n{CFG}".encode(encoding))
    with pytest.raises(InputError, match=r"tiny\.cfg: line [12] .*save the file as UTF-8"):
        load_darknet(*files)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_the_checkpoint_says_what_it_is(files: tuple[Path, Path], names: Path, tmp_path: Path, resize: str) -> None:
    convert_darknet(*files, out=tmp_path / "new" / "out.pt", names=names, resize=resize)
    checkpoint = load_checkpoint(tmp_path / "new" / "out.pt")
    settings = checkpoint.config.input
    assert (settings.image_size, settings.resize) == ((64, 64), resize)
    assert (settings.mean, settings.std) == ((0, 0, 0), (255, 255, 255))
    assert checkpoint.config.name == "tiny"
    assert checkpoint.config.model.darknet == CFG
    assert (checkpoint.class_names, checkpoint.category_ids) == (("disc", "square"), (0, 1))
    assert checkpoint.about["converted_from"] == ["tiny.cfg", "tiny.weights"]
    assert checkpoint.about["sha256"]["tiny.weights"] == hashlib.sha256(files[1].read_bytes()).hexdigest()
    assert checkpoint.about["sha256"]["tiny.cfg"] == hashlib.sha256(files[0].read_bytes()).hexdigest()


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_converted_file_finds_what_the_darknet_files_find(
    files: tuple[Path, Path], names: Path, tmp_path: Path, resize: str
) -> None:
    convert_darknet(*files, out=tmp_path / "out.pt", names=names, resize=resize)
    direct = Detector.from_darknet(*files, names=names, resize=resize, device="cpu", score_threshold=0.1)(photo())
    stored = Detector(tmp_path / "out.pt", device="cpu", score_threshold=0.1)(photo())
    assert len(direct) > 0
    assert direct.class_names == stored.class_names == ("disc", "square")
    for name in ("boxes", "scores", "labels"):
        assert np.array_equal(getattr(direct, name), getattr(stored, name))


def test_the_two_ways_of_resizing_differ(files: tuple[Path, Path]) -> None:
    found = [
        Detector.from_darknet(*files, resize=how, device="cpu", score_threshold=0.1) for how in ("stretch", "letterbox")
    ]
    first, second = (detector(photo()) for detector in found)
    assert len(first) != len(second) or not np.allclose(first.boxes, second.boxes)


def test_paths_may_be_text(files: tuple[Path, Path], names: Path) -> None:
    detector = Detector.from_darknet(str(files[0]), str(files[1]), names=str(names), device="cpu", classes=["square"])
    assert set(detector(photo()).names) <= {"square"}


def test_an_existing_file_is_never_replaced(files: tuple[Path, Path], tmp_path: Path) -> None:
    kept = tmp_path / "mine.pt"
    kept.write_text("mine")
    for until in (None, 4):
        with pytest.raises(InputError, match=r"mine\.pt already exists; choose another --out"):
            convert_darknet(*files, out=kept, until=until)
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("cfg", "until"),
    [
        pytest.param(CFG.replace("filters=14", "filters=13"), None, id="cfg"),
        pytest.param(CFG.replace("filters=4", "filters=5", 1), None, id="weights"),
        pytest.param(CFG, 3, id="until"),
        pytest.param(CFG.replace("mask=0,1", "mask=0,2"), None, id="anchors"),
        pytest.param(CFG.replace("height=64", "height=72"), None, id="a size that no detector takes"),
    ],
)
def test_nothing_is_written_where_conversion_fails(
    cfg: str, until: int | None, files: tuple[Path, Path], tmp_path: Path
) -> None:
    files[0].write_text(cfg)
    with pytest.raises(InputError):
        convert_darknet(*files, out=tmp_path / "out.pt", until=until)
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.parametrize(("until", "levels"), [(4, (2, 3, 4)), (5, (2, 3, 5))])
def test_a_start_has_the_last_layer_of_each_stride(
    until: int, levels: tuple[int, ...], files: tuple[Path, Path], tmp_path: Path
) -> None:
    start = convert_darknet(*files, out=tmp_path / "start.pt", until=until)
    assert start.config.model.darknet_levels == levels
    assert (start.config.model.neck, start.config.model.head) == ("pan", "anchor_free")
    whole = load_darknet(*files).weights
    stored = load_checkpoint(tmp_path / "start.pt")
    taken = [name for name in stored.weights if name.startswith("backbone.")]
    assert len(taken) == 6 * 5 + (2 if until >= 5 else 0)  # count of images seen beside five of each convolution
    assert all(torch.equal(stored.weights[name], whole[name]) for name in taken)
    assert stored.about["until"] == until
    model = build_detector(stored.config, 2)
    model.load_state_dict(dict(stored.weights))
    assert model(torch.zeros(1, 3, 64, 64)).box_outputs.shape == (1, 64 + 16 + 4, 4)


@pytest.mark.parametrize(
    ("until", "message"),
    [
        pytest.param(1, "up to layer 1 no map has the stride 8; choose a later layer", id="no stride 8"),
        pytest.param(3, "up to layer 3 no map has the stride 32", id="no stride 32"),
        pytest.param(-1, "--until must be a layer from 0 to 5, got -1", id="negative"),
        pytest.param(6, "--until must be a layer from 0 to 5, got 6", id="beyond the last before an output"),
    ],
)
def test_a_start_without_the_strides_is_refused(
    until: int, message: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        convert_darknet(*files, out=tmp_path / "start.pt", until=until)


SETTINGS: dict[str, object] = {
    "input.image_size": [64, 64],
    "augment": "none",
    "train.workers": 0,
    "train.batch_size": 2,
    "train.epochs": 1,
    "train.lr": 1e-9,
    "train.precision": "fp32",
}


@pytest.mark.slow
def test_training_takes_a_start(files: tuple[Path, Path], names: Path, tmp_path: Path, coco_set: MakeSet) -> None:
    start = tmp_path / "start.pt"
    source = convert_darknet(*files, out=start, names=names, until=4).weights
    data = coco_set({"train": 4, "val": 2})
    run = plan(data, weights=start, config="nano")
    assert run.config.model.darknet_levels == (2, 3, 4)
    assert run.config.input.mean == (0, 0, 0)
    assert run.config.input.resize == "stretch"
    lines: list[str] = []
    out = train(
        data,
        weights=start,
        config="nano",
        settings=SETTINGS,
        out=tmp_path / "run",
        device="cpu",
        listener=Listener(say=lines.append),
    )
    assert any("took its backbone" in line for line in lines)
    with pytest.raises(InputError, match="with an untrained head; train it with --config nano"):
        plan(data, weights=start)
    best = load_checkpoint(out / "best.pt")
    assert best.config.model.darknet == CFG
    trained = {n: v for n, v in best.weights.items() if n.startswith("backbone.") and n.endswith(".0.weight")}
    assert len(trained) == 5
    for name, value in trained.items():  # with hardly any rate the kernels stay, up to half precision
        torch.testing.assert_close(value.float(), source[name], rtol=1e-3, atol=1e-4)
    assert Detector(out / "best.pt", device="cpu", score_threshold=0)(photo()).class_names == ("disc", "square")


def test_training_refuses_a_whole_darknet_network_and_names_until(
    files: tuple[Path, Path], names: Path, tmp_path: Path, coco_set: MakeSet
) -> None:
    """Its head is fixed by the cfg and no loss here is the one it was trained with."""
    convert_darknet(*files, out=tmp_path / "whole.pt", names=names)
    data = coco_set({"train": 2, "val": 1})  # of as many classes as the network has
    with pytest.raises(InputError, match=r"whole\.pt .*--until"):
        train(data, weights=tmp_path / "whole.pt", config="nano", settings=SETTINGS, out=tmp_path / "run", device="cpu")


DENSE = (
    "[net]\nheight=32\nwidth=32\n[maxpool]\nsize=8\nstride=8\n[connected]\noutput=28\nactivation=linear\n"
    "[detection]\nclasses=2\ncoords=4\nnum=1\nside=2\nsqrt=1\n"
)


def test_a_network_with_dense_layers_refuses_another_size_in_one_line(tmp_path: Path) -> None:
    cfg, weights = tmp_path / "dense.cfg", tmp_path / "dense.weights"
    cfg.write_text(DENSE)
    weights.write_bytes(HEADER + np.full(28 + 28 * 48, 0.01, "<f4").tobytes())
    assert len(Detector.from_darknet(cfg, weights, device="cpu", score_threshold=0)(photo())) > 0
    detector = Detector.from_darknet(cfg, weights, device="cpu", image_size=64)
    with pytest.raises(InputError, match="32 x 32"):
        detector(photo())


def test_the_command_converts_and_says_what_it_wrote(
    files: tuple[Path, Path], names: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["convert", "darknet", "--cfg", str(files[0]), "--weights", str(files[1]), "--names", str(names)]
    assert main([*base, "--out", str(tmp_path / "out.pt"), "--resize", "letterbox"]) == 0
    printed = capsys.readouterr().out
    assert "tiny" in printed
    assert "64 x 64, 2 classes" in printed
    assert "yolo-lite train" not in printed
    assert load_checkpoint(tmp_path / "out.pt").config.input.resize == "letterbox"
    start = tmp_path / "start.pt"
    assert main([*base, "--out", str(start), "--until", "4"]) == 0
    assert f"yolo-lite train --config nano --weights {start} --data" in capsys.readouterr().out
    assert main([*base, "--out", str(start)]) == 2
    assert capsys.readouterr().err == f"error: {start} already exists; choose another --out\n"


def test_the_command_refuses_in_one_line(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.pt"
    files[1].write_bytes(files[1].read_bytes()[:-8])
    base = ["convert", "darknet", "--cfg", str(files[0]), "--weights", str(files[1]), "--out", str(out)]
    assert main(base) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "2 values are missing" in error
    assert not out.exists()


REFERENCE = Path(__file__).with_name("darknet_reference.npz")  # by record_darknet.py
IMAGES = ("dog", "eagle", "giraffe", "horses", "person", "scream")


@pytest.mark.shared_data
@pytest.mark.parametrize("network", ["yolo-fastest-1.1", "yolo-fastest-1.1-xl"])
def test_raw_outputs_of_real_files_are_those_of_opencv(network: str, shared_data: Path) -> None:
    """Compare the rows in which OpenCV 4 scores a class above 0.2, and see that no other row scores more."""
    folder = shared_data / "darknet"
    checkpoint = load_darknet(folder / f"{network}.cfg", folder / f"{network}.weights", names=folder / "coco.names")
    model = build_from_checkpoint(checkpoint, folder)
    recorded = np.load(REFERENCE)
    for name in IMAGES:
        rows, boxes, scores = (recorded[f"{network}/{name}/{part}"] for part in ("rows", "boxes", "scores"))
        pixels = cv2.resize(cv2.imread(str(folder / f"{name}.jpg")), (320, 320), interpolation=cv2.INTER_LINEAR)
        with torch.inference_mode():
            raw = model(torch.from_numpy(pixels[..., ::-1].transpose(2, 0, 1).copy())[None])
        assert raw.class_logits.shape == (1, 3 * (10 * 10 + 20 * 20), 80)
        mine = raw.class_logits[0].sigmoid().numpy()
        assert len(rows) > 0
        np.testing.assert_allclose(raw.box_outputs[0, rows] / 320, boxes, atol=1e-3)
        np.testing.assert_allclose(mine[rows][scores > 0], scores[scores > 0], atol=1e-3)
        assert mine[rows][scores == 0].max() < 0.2 + 1e-3
        assert set(np.flatnonzero(mine.max(1) > 0.2 + 1e-3)) <= set(rows.tolist())


# What a person sees in Darknet's own sample images.
@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("image", "expected"),
    [("dog", {"dog", "bicycle", "truck"}), ("horses", {"horse"}), ("person", {"person", "dog"})],
)
def test_the_real_network_names_what_is_in_the_images(image: str, expected: set[str], shared_data: Path) -> None:
    folder = shared_data / "darknet"
    stem = folder / "yolo-fastest-1.1-xl"
    detector = Detector.from_darknet(f"{stem}.cfg", f"{stem}.weights", names=folder / "coco.names", device="cpu")
    assert expected <= set(detector(folder / f"{image}.jpg").names)


@pytest.mark.shared_data
def test_the_real_network_gives_a_start_for_training(shared_data: Path, tmp_path: Path) -> None:
    """Its layers 0 to 120 end at stride 32, 121 is the first output; 108 is the shortcut after the last block."""
    stem = shared_data / "darknet" / "yolo-fastest-1.1"
    start = convert_darknet(Path(f"{stem}.cfg"), Path(f"{stem}.weights"), out=tmp_path / "start.pt", until=108)
    model = build_detector(start.config, 80)
    model.load_state_dict(dict(start.weights))
    assert model.backbone.strides == (8, 16, 32)
    assert model(torch.zeros(1, 3, 64, 64)).box_outputs.shape == (1, 64 + 16 + 4, 4)
