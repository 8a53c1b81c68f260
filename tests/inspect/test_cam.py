"""Where a network looked: against gradients and class activation maps worked out by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from yolo_lite.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yolo_lite.cli import main
from yolo_lite.config.resolve import config_from_dict
from yolo_lite.errors import InputError
from yolo_lite.inspect.cam import attention, last_maps
from yolo_lite.inspect.look import _share_inside, look
from yolo_lite.models.build import build_detector
from yolo_lite.models.classifiers.build import build_classifier

pytest.importorskip("captum")


class Averaged(nn.Module):
    """Convolutions, an average over all places, one dense layer: what class activation maps are defined for."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).mean((2, 3)))


def image(seed: int = 0, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_after_an_average_it_is_the_class_activation_map() -> None:
    """Zhou et al. 2016, equation 2: the maps, weighted by the dense layer's row of the class."""
    torch.manual_seed(0)
    net = Averaged().eval()
    found = attention(net, image(), layer="backbone.3", output=lambda out: out[0, 2])
    with torch.no_grad():
        cam = torch.einsum("k,khw->hw", net.head.weight[2], net.backbone(image().float())[0]).clamp(min=0)
    np.testing.assert_allclose(found.map, (cam / cam.max()).numpy(), atol=1e-5)
    assert found.map.max() == 1
    assert found.value == pytest.approx(float(net(image().float())[0, 2]), rel=1e-5)


def test_places_that_an_output_does_not_see_have_no_part_in_it() -> None:
    """The output reads one place of the second convolution, so that only its 3 x 3 window of the first counts."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    found = attention(net, image(side=9), layer="0", output=lambda out: out[0, 1, 3, 4].abs())
    seen = np.zeros((9, 9), bool)
    seen[3:6, 4:7] = True
    assert not found.map[~seen].any()


def test_an_output_that_nothing_speaks_for_gives_zeros() -> None:
    net = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Conv2d(1, 1, 1, bias=False)).eval()
    nn.init.constant_(net[0].weight, 1.0)
    nn.init.constant_(net[2].weight, -1.0)
    assert not attention(net, image(), layer="1", output=lambda out: out.sum()).map.any()


def test_what_cannot_be_explained_is_refused() -> None:
    net = Averaged().eval()
    with pytest.raises(InputError, match="no layer 'backbone.9'"):
        attention(net, image(), layer="backbone.9", output=lambda out: out[0, 0])
    with pytest.raises(InputError, match="has no maps"):
        attention(net, image(), layer="head", output=lambda out: out[0, 0])
    with pytest.raises(InputError, match="no layer with maps"):
        last_maps(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)), image().float())


def test_the_last_maps_are_those_of_the_stride() -> None:
    net = build_detector(config_from_dict({}, "test"), 2).eval()
    assert [last_maps(net, image(side=64), stride=stride) for stride in (8, 16, 32, 64, None)] == [
        "backbone.stages.1",
        "backbone.stages.2",
        "backbone.stages.3",
        "backbone.stages.3",
        "backbone.stages.3",
    ]


def test_the_share_inside_a_box_counts_parts_of_places() -> None:
    """Two by two places of a 4 x 8 input; the box covers all of the first and a quarter of the second."""
    heat = np.array([[1.0, 1.0], [0, 0]], np.float32)
    assert _share_inside(heat, (0, 0, 5, 2), (4, 8)) == pytest.approx(1.25 / 2)
    assert _share_inside(heat, (-9, -9, 99, 99), (4, 8)) == pytest.approx(1)
    assert _share_inside(0 * heat, (0, 0, 4, 4), (4, 8)) == 0


def test_of_a_detector_it_explains_the_prediction_that_fits(tmp_path: Path) -> None:
    image = np.array(Image.open(Path("weights/pictures/found.jpg")).convert("RGB"))
    best = look("yolo_lite-shuffle-coco", image)
    assert best.box is not None
    assert 0 <= (best.inside or 0) <= 1
    named = look("yolo_lite-shuffle-coco", image, name="zebra")
    assert named.said.startswith("zebra")
    with pytest.raises(InputError, match="no class 'zbra'.*zebra"):
        look("yolo_lite-shuffle-coco", image, name="zbra")
    with pytest.raises(InputError, match="no prediction overlaps"):
        look("yolo_lite-shuffle-coco", image, box=(1, 1, 2, 2))


@pytest.mark.parametrize("loss", ["cross_entropy", "binary", "margin"])
def test_of_a_classifier_the_two_classes_disagree(tmp_path: Path, loss: str) -> None:
    """What speaks for one of two classes does not speak for the other where they share one output."""
    name = {"margin": "capsule"}.get(loss, "cifar_cnn")
    values = {"classifier": {"model": name, "loss": loss}, "input": {"image_size": [32, 32], "channels": 3}}
    if name == "capsule":
        values["input"] = {"image_size": [28, 28], "channels": 3}
    config = config_from_dict(values, "test")
    net = build_classifier(config, 2)
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    save_checkpoint(
        tmp_path / "c.pt", Checkpoint(config, ("a", "b"), category_ids=(1, 2), weights=weights, about={}, training={})
    )
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    first, second = (look(tmp_path / "c.pt", image, name=name) for name in ("a", "b"))
    assert first.box is None
    assert first.attention.shape == second.attention.shape
    if loss == "binary":
        assert not (first.attention * second.attention).any()
        assert first.attention.any() or second.attention.any()
    with pytest.raises(InputError, match="--box is for detectors"):
        look(tmp_path / "c.pt", image, box=(0, 0, 5, 5))


def test_the_command_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "cam.png"
    assert main(["inspect", "cam", "--out", str(out)]) == 0
    assert Image.open(out).width > 600
    told = capsys.readouterr().out
    assert told.startswith("person ")
    assert "of the evidence for it lies inside its box" in told
    assert main(["inspect", "cam", "--class", "persn", "--out", str(out)]) == 2
    assert main(["inspect", "cam", "--layer", "backbone.nothing", "--out", str(out)]) == 2
    assert "backbone." in capsys.readouterr().err
