"""Building a classifier by name: its size, its first weights, what may be chosen, and how outputs become scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError
from yolo_lite.models.classifiers.build import CLASSIFIERS, INITS, LOSSES, ClassifierNet, build_classifier
from yolo_lite.shipped import shipped

CONFIGS = shipped("configs/classify", ".yaml")
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
DIGITS = ("mlp", "mnist_cnn", "mnist_small", "conv_net")  # 28 x 28 grey pixels, quick to build
QUICK = (*DIGITS, "lenet", "cifar_cnn", "binary_cnn", "inception", "yolo_lite-n-cls", "yolo_lite-shuffle-cls")

# 1,000 classes for the networks of ImageNet, two for the one with one output, otherwise ten; sums in the tests below.
PARAMETERS = {
    "mlp": 669_706,
    "lenet": 60_850,
    "mnist_cnn": 220_234,
    "mnist_small": 9_920,
    "cifar_cnn": 528_054,
    "conv_net": 104_202,
    "binary_cnn": 991_041,
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "resnet50": 25_557_032,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "capsule": 6_804_224,
}


@pytest.fixture(autouse=True)
def no_stored_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let torchvision keep its weights in an empty folder of this test; return it."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def slim(no_stored_weights: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Let a slim ResNet stand for ResNet-50, store weights of it as torchvision does, and return these."""

    def build() -> nn.Module:
        return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], width_per_group=2)

    monkeypatch.setattr(torchvision.models, "resnet50", build)
    torch.manual_seed(1)
    stored: dict[str, Tensor] = build().state_dict()
    for key, tensor in stored.items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)  # of norms, so that fresh ones differ; and of the bias of the last layer
        assert tensor.is_floating_point() or key.endswith("num_batches_tracked")
    torch.save(stored, no_stored_weights / "resnet50-11ad3fa6.pth")
    return stored


def settings_of(name: str, **settings: Any) -> Config:
    """Read the shipped configuration, with other values: classifier=..., or input__image_size=... for input.image_size."""
    changed = {key.replace("__", ".") if "__" in key else f"classifier.{key}": value for key, value in settings.items()}
    return override_config(read_config(CONFIGS[name]), changed)


def classes_of(name: str) -> int:
    return {"alexnet": 1000, "vgg16": 1000, "resnet50": 1000, "binary_cnn": 2}.get(
        name, 1000 if "efficientnet" in name else 10
    )


def build(name: str, seed: int = 0, **settings: Any) -> ClassifierNet:
    return build_classifier(settings_of(name, **settings), classes_of(name), seed=seed)


def without_memory(name: str, **settings: Any) -> ClassifierNet:
    """Build on torch's meta device: shapes without numbers, so that the large ones cost nothing."""
    with torch.device("meta"):
        return build(name, **settings)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def images(model: str, batch: int = 2) -> Tensor:
    given = settings_of(model).input
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, given.channels, *given.image_size), dtype=torch.uint8, generator=generator)


# Names and sizes


def test_configurations_and_networks_agree() -> None:
    assert set(CONFIGS) == set(CLASSIFIERS)
    assert len(CLASSIFIERS) == 17


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_shipped_configuration_builds_the_network_of_its_name(name: str) -> None:
    config = settings_of(name)
    assert (config.name, config.classifier.model) == (name, name)
    network = without_memory(name).eval()
    outputs = network(images(name).to("meta"))
    assert outputs.shape == (2, 1 if config.classifier.loss == "binary" else classes_of(name))
    assert network.scores(outputs).shape == (2, classes_of(name))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_has_as_many_parameters_as_its_sources_say(name: str) -> None:
    """Torchvision's tables for the last three; the capsules' paper says 6.8 M without the drawing network; see below."""
    assert count(without_memory(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", [name for name in PARAMETERS if "parameters" in CONFIGS[name].read_text()])
def test_the_count_in_a_configurations_comment_is_right(name: str) -> None:
    assert f" {PARAMETERS[name]:,} parameters" in CONFIGS[name].read_text()


def test_the_small_networks_parameters_worked_by_hand() -> None:
    """Weights and biases layer by layer; what is left of the sides is worked out in test_course.py."""
    assert PARAMETERS["mlp"] == (784 * 512 + 512) + (512 * 512 + 512) + (512 * 10 + 10)
    assert PARAMETERS["mnist_cnn"] == (9 * 32 + 32) + (9 * 32 * 64 + 64) + (49 * 64 * 64 + 64) + (64 * 10 + 10)
    narrow = 9 * (10 + 10 * 16 + 16 * 16 + 16 * 20 + 20 * 16) + 2 * (10 + 16 + 16 + 20 + 16)
    assert PARAMETERS["mnist_small"] == narrow + 16 * 10 + 10 < 10_000
    cifar = 4 * (3 * 16 + 16 * 32 + 32 * 64) + 16 + 32 + 64
    assert PARAMETERS["cifar_cnn"] == cifar + (4 * 4 * 64 * 500 + 500) + (500 * 10 + 10)
    assert PARAMETERS["conv_net"] == 9 * (32 + 32 * 64 + 64 * 128) + 32 + 64 + 128 + (9 * 128 * 10 + 10)
    wide = 9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 256) + 32 + 64 + 128 + 256 + 256
    assert PARAMETERS["binary_cnn"] == wide + 7 * 7 * 256 + 1
    assert PARAMETERS["lenet"] == 60_000 + 850  # the paper's trained parameters, and a linear layer
    assert PARAMETERS["capsule"] == 20_992 + 5_308_672 + 1_474_560


def conv(inputs: int, outputs: int, area: int = 1) -> int:
    """Count a convolution without bias and its normalisation."""
    return inputs * outputs * area + 2 * outputs


def test_inceptions_parameters_worked_by_hand() -> None:
    def square(inputs: int, width: int) -> int:
        half = width // 2
        ways = (
            conv(inputs, width),
            conv(inputs, half) + conv(half, width, 9),
            conv(inputs, half) + conv(half, width, 9) + conv(width, width, 9),
            conv(inputs, width),
        )
        return sum(ways)

    def long(inputs: int) -> int:  # four ways of 64, narrow inside: 32
        ways = (
            conv(inputs, 64),
            conv(inputs, 32) + conv(32, 32, 7) + conv(32, 64, 7),
            conv(inputs, 32) + 3 * conv(32, 32, 7) + conv(32, 64, 7),
            conv(inputs, 64),
        )
        return sum(ways)

    stem = conv(3, 32, 9) + conv(32, 64, 9)
    wanted = stem + square(64, 32) + square(128, 48) + long(192) + long(256) + 256 * 10 + 10
    assert count(without_memory("inception")) == wanted


def test_the_small_detectors_classifier_has_its_backbones_parameters() -> None:
    """Stem 16, then stages to 32, 64, 128, 256 with 1, 2, 2, 1 bottlenecks of two 3x3; pooling's 1x1 and the last layer."""

    def stage(inputs: int, width: int, depth: int) -> int:
        half = width // 2
        steps = depth * 2 * conv(half, half, 9)
        return conv(inputs, width, 9) + conv(width, width) + steps + conv((2 + depth) * half, width)

    stages = stage(16, 32, 1) + stage(32, 64, 2) + stage(64, 128, 2) + stage(128, 256, 1)
    pooling = conv(256, 128) + conv(4 * 128, 256)
    assert count(without_memory("yolo_lite-n-cls")) == conv(3, 16, 9) + stages + pooling + 256 * 10 + 10


def test_the_shuffle_classifier_has_torchvisions_parameters_up_to_its_last_convolution() -> None:
    """ShuffleNetV2 x1.0 less a 1x1 convolution to 1,024 with its norm, and less 1,000 classes; plus ten classes."""
    theirs = torchvision.models.ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1.meta["num_params"]
    wanted = theirs - conv(464, 1024) - (1024 * 1000 + 1000) + 464 * 10 + 10
    assert count(without_memory("yolo_lite-shuffle-cls")) == wanted


def test_vgg_with_batch_normalisation_has_torchvisions_parameters() -> None:
    wanted = torchvision.models.VGG16_BN_Weights.IMAGENET1K_V1.meta["num_params"]
    assert count(without_memory("vgg16", batch_norm=True)) == wanted


# The smallest side worked backwards: what comes before 2x2 pooling is twice as long, before a 3x3 without padding 2 longer.
SMALLEST = [
    ("mlp", 1),
    ("lenet", 32),  # ((1 + 4) * 2 + 4) * 2 + 4
    ("mnist_cnn", 4),
    ("mnist_small", 4),
    ("cifar_cnn", 8),
    ("conv_net", 18),  # ((1 + 2) * 2 + 2) * 2 + 2
    ("binary_cnn", 78),
    ("alexnet", 63),  # pooling 3 of stride 2 thrice: 1 from 3 from 7 from 15, which is 14 * 4 + 11 - 2 * 2
    ("vgg16", 32),
    ("inception", 1),
    ("resnet50", 1),
    ("efficientnet_lite0", 1),
    ("efficientnet_lite1", 1),
    ("efficientnet_lite2", 1),
    ("capsule", 17),  # 9 kernels of stride 2 from 9, from 17
    ("yolo_lite-n-cls", 1),
    ("yolo_lite-shuffle-cls", 1),
]


@pytest.mark.parametrize(("name", "side"), SMALLEST)
def test_the_smallest_image_that_fits_is_taken(name: str, side: int) -> None:
    network = without_memory(name, input__image_size=[side, side + 1]).eval()
    outputs = network(torch.empty(2, settings_of(name).input.channels, side, side + 1, device="meta"))
    assert outputs.shape[0] == 2


@pytest.mark.parametrize(("name", "side"), [(name, side - 1) for name, side in SMALLEST if side > 1])
@pytest.mark.parametrize("other", [0, 64], ids=["both sides", "one side"])
def test_an_image_that_is_a_pixel_too_small_is_refused(name: str, side: int, other: int) -> None:
    hw = [side + other, side]
    with pytest.raises(InputError, match=rf"{hw[0]} x {hw[1]} is too small for {name}; use a larger --image-size"):
        without_memory(name, input__image_size=hw)


def test_too_large_an_image_is_not_called_too_small() -> None:
    """512 weights for each of 4e10 pixels are 82 TB: more than any machine has."""
    with pytest.raises((InputError, RuntimeError, MemoryError)) as caught:
        build("mlp", input__image_size=[400_000, 300_000])
    assert "too small" not in str(caught.value)


@pytest.mark.parametrize("hw", [(64, 96), (33, 47)], ids=str)
@pytest.mark.parametrize("name", ["yolo_lite-n-cls", "yolo_lite-shuffle-cls", "inception"])
def test_fully_convolutional_networks_take_any_sides(name: str, hw: tuple[int, int]) -> None:
    network = build(name).eval()
    outputs = network(torch.zeros(1, 3, *hw, dtype=torch.uint8))
    assert outputs.shape == (1, 10)
    assert bool(outputs.isfinite().all())


# What may be chosen


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "lenet5"}, "classifier.model must be one of mlp, .*, got 'lenet5'; did you mean 'lenet'"),
        ({"loss": "hinge"}, "classifier.loss must be one of cross_entropy, mse, binary, margin, got 'hinge'"),
        ({"init": "xavier"}, "classifier.init must be one of he, glorot, uniform, torch, got 'xavier'"),
        ({"loss": "binary"}, "classifier.loss binary is for two classes, but the data has 10; use cross_entropy"),
        ({"loss": "margin"}, "margin and the model capsule go together, got margin and mlp"),
        ({"model": "capsule", "dropout": [], "loss": "cross_entropy"}, "go together, got cross_entropy and capsule"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("mlp", **settings)


DROPOUT: list[tuple[str, list[float], list[float]]] = [
    ("mlp", [0.1], [0.1, 0.1]),
    ("mnist_cnn", [0.1, 0.2], [0.1, 0.2]),
    ("mnist_small", [0.1], [0.1]),
    ("cifar_cnn", [0.1, 0.2], [0.1, 0.2]),
    ("conv_net", [0.1], [0.1]),
    ("binary_cnn", [0.1], [0.1]),
    ("alexnet", [0.1, 0.2], [0.1, 0.2]),
    ("vgg16", [0.1, 0.2], [0.1, 0.2]),
    ("inception", [0.1], [0.1]),
    ("yolo_lite-n-cls", [0.1], [0.1]),
    ("yolo_lite-shuffle-cls", [0.0], [0.0]),
]
DEFAULT_DROPOUT = {
    "mlp": [0.2, 0.2],  # the configuration's
    "mnist_cnn": [0.25, 0.5],  # the configuration's
    "mnist_small": [0],
    "cifar_cnn": [0.3, 0.4],
    "conv_net": [0],
    "binary_cnn": [0.5],
    "alexnet": [0.5, 0.5],
    "vgg16": [0.5, 0.5],
    "inception": [0.2],
    "yolo_lite-n-cls": [0],
    "yolo_lite-shuffle-cls": [0],
}


def dropouts(network: nn.Module) -> list[float]:
    return [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)]


@pytest.mark.parametrize(("name", "given", "wanted"), DROPOUT, ids=[name for name, *_ in DROPOUT])
def test_dropout_is_what_was_chosen_in_each_place(name: str, given: list[float], wanted: list[float]) -> None:
    assert dropouts(without_memory(name, dropout=given)) == wanted
    assert dropouts(without_memory(name)) == DEFAULT_DROPOUT[name]


@pytest.mark.parametrize("name", ["lenet", "resnet50", "capsule"])
def test_dropout_is_refused_where_there_is_none(name: str) -> None:
    with pytest.raises(InputError, match=f"classifier.dropout cannot be chosen for {name}"):
        without_memory(name, dropout=[0.1])


@pytest.mark.parametrize(("name", "given", "wanted"), DROPOUT, ids=[name for name, *_ in DROPOUT])
def test_dropout_for_another_number_of_places_is_refused(name: str, given: list[float], wanted: list[float]) -> None:
    for other in ([*given, 0.3], given[:-1]):
        if other:  # none means the network's own
            with pytest.raises(InputError, match=rf"{name} has .*(batch normalisation|{len(given)} places?, got)"):
                without_memory(name, dropout=other)


def test_dropout_is_off_in_evaluation_and_on_in_training() -> None:
    network, x = build("cifar_cnn", dropout=[0.5, 0.5]), images("cifar_cnn", 4)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


@pytest.mark.parametrize("name", ["mlp", "mnist_cnn", "cifar_cnn", "conv_net", "binary_cnn", "vgg16"])
def test_batch_normalisation_can_be_chosen(name: str) -> None:
    assert not any(isinstance(layer, NORMS) for layer in without_memory(name).modules())
    assert any(isinstance(layer, NORMS) for layer in without_memory(name, batch_norm=True).modules())


@pytest.mark.parametrize(
    "name", ["lenet", "mnist_small", "alexnet", "inception", "resnet50", "efficientnet_lite0", "capsule"]
)
def test_batch_normalisation_is_refused_where_there_is_no_choice(name: str) -> None:
    with pytest.raises(InputError, match=f"classifier.batch_norm cannot be chosen for {name}"):
        without_memory(name, batch_norm=True)


# The detectors' own backbones


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_norm": True}, "has batch normalisation already"),
        ({"input__channels": 1}, "takes colour images: input.channels must be 3, got 1"),
        ({"model__widths": [8, 8]}, "model.widths and depths must have"),
        ({"model__norm": "layer"}, "model.norm must be one of batch, none, got 'layer'"),
    ],
    ids=["batch_norm", "grey", "widths", "norm"],
)
@pytest.mark.parametrize("name", ["yolo_lite-n-cls", "yolo_lite-shuffle-cls"])
def test_what_a_detectors_backbone_cannot_do_is_refused(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        without_memory(name, **settings)


@pytest.mark.parametrize(
    ("name", "own", "other"), [("yolo_lite-n-cls", "csp", "shuffle"), ("yolo_lite-shuffle-cls", "shuffle", "csp")]
)
def test_another_detectors_backbone_is_refused(name: str, own: str, other: str) -> None:
    with pytest.raises(InputError, match=f"{name} has the backbone '{own}', got model.backbone '{other}'"):
        without_memory(name, model__backbone=other)


def test_a_detectors_backbone_can_be_built_without_norms() -> None:
    """The norms are fresh, so that folding them divides weights by sqrt(1 + 1e-5): outputs are the same up to that."""
    plain, folded = build("yolo_lite-n-cls").eval(), build("yolo_lite-n-cls", model__norm="none").eval()
    assert any(isinstance(layer, NORMS) for layer in plain.modules())
    assert not any(isinstance(layer, NORMS) for layer in folded.modules())
    x = images("yolo_lite-n-cls")
    torch.testing.assert_close(folded(x), plain(x), rtol=1e-3, atol=1e-4)


def test_the_coarsest_level_is_pooled() -> None:
    """Means over cells of the last level, then one matrix."""
    network, x = build("yolo_lite-n-cls").eval(), images("yolo_lite-n-cls")
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    levels = network.backbone((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert [tuple(level.shape[1:]) for level in levels] == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    weight, bias = network.head[-1].weight, network.head[-1].bias  # type: ignore[index, union-attr]
    torch.testing.assert_close(network(x), levels[-1].mean((2, 3)) @ weight.T + bias)


# First weights


@pytest.mark.parametrize(
    ("name", "init"), [*((name, "he") for name in QUICK), *(("lenet", init) for init in INITS if init != "he")]
)
def test_the_seed_decides_all_weights_and_the_global_state_stays(name: str, init: str) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = build(name, 5, init=init).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    again, other = build(name, 5, init=init).state_dict(), build(name, 6, init=init).state_dict()
    assert list(first) == list(again)
    assert all(torch.equal(first[key], again[key]) for key in first)
    matrices = [key for key in first if first[key].ndim > 1 and key.endswith("weight")]
    assert matrices
    assert not any(torch.equal(first[key], other[key]) for key in matrices)
    assert torch.initial_seed() == 4


def test_a_refused_network_leaves_the_global_state() -> None:
    before = torch.get_rng_state()
    with pytest.raises(InputError):
        build("lenet", input__image_size=[16, 16])
    assert torch.equal(torch.get_rng_state(), before)


def fans(weight: Tensor) -> tuple[int, int]:
    """Return what one output sees, and what sees one input: maps times the area of the kernel."""
    area = weight[0, 0].numel() if weight.ndim == 4 else 1
    return weight.shape[1] * area, weight.shape[0] * area


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("name", ["cifar_cnn", "mlp", "conv_net"])
def test_first_weights_are_spread_as_their_scheme_says(name: str, init: str) -> None:
    """Standard deviation, and the largest weight: of n uniform ones the bound nearly, of normal ones above three sigmas.

    He et al. 2015: variance 2 / inputs. Glorot and Bengio 2010: uniform, variance 2 / (inputs + outputs), so a bound of
    sqrt(6 / (inputs + outputs)). Torch: uniform up to 1 / sqrt(inputs). A uniform variable's deviation is bound / sqrt 3.
    """
    seen = 0
    for parameter in build(name, init=init).parameters():
        weight = parameter.detach()
        if weight.ndim == 1 or weight.numel() < 2000:
            continue
        seen += 1
        inputs, outputs = fans(weight)
        bound = {"glorot": (6 / (inputs + outputs)) ** 0.5, "uniform": 0.05, "torch": inputs**-0.5, "he": 0.0}[init]
        deviation = bound / 3**0.5 if bound else (2 / inputs) ** 0.5
        spread = 5 / weight.numel() ** 0.5  # five times what the sample's size allows, at most
        assert weight.std().item() == pytest.approx(deviation, rel=spread)
        assert abs(weight.mean().item()) < spread * deviation
        largest = weight.abs().max().item()
        assert 0.98 * bound < largest <= bound if bound else largest > 3 * deviation
    assert seen >= 2


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("name", ["lenet", "cifar_cnn", "inception", "yolo_lite-shuffle-cls"])
def test_biases_begin_at_zero_but_for_torchs_own(name: str, init: str) -> None:
    layers = [layer for layer in build(name, init=init).modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    biases = [layer.bias for layer in layers if layer.bias is not None]
    assert biases
    assert all(bool((bias == 0).all()) == (init != "torch") for bias in biases)


@pytest.mark.parametrize("init", INITS)
def test_no_scheme_touches_norms(init: str) -> None:
    for layer in build("mlp", init=init, batch_norm=True).modules():
        if isinstance(layer, nn.BatchNorm1d):
            assert bool((layer.weight == 1).all())
            assert bool((layer.bias == 0).all())


@pytest.mark.parametrize("init", INITS)
def test_stored_imagenet_weights_stay_and_the_last_layer_is_drawn(slim: dict[str, Tensor], init: str) -> None:
    network = build_classifier(settings_of("resnet50", init=init), 5)
    found = network.backbone.state_dict()
    assert {*found, "fc.weight", "fc.bias"} == set(slim)
    assert all(torch.equal(found[key], slim[key]) for key in found)
    assert network.head.weight.shape == (5, 2048)  # type: ignore[union-attr]
    other = build_classifier(settings_of("resnet50", init=init), 5, seed=1)
    assert not torch.equal(network.head.weight, other.head.weight)  # type: ignore[arg-type]


def test_a_resnet_of_grey_images_is_drawn_whole(slim: dict[str, Tensor]) -> None:
    """The deviation of the 64 7x7 kernels is that of He et al.; norms are fresh."""
    network = build_classifier(settings_of("resnet50", input__channels=1), 5)
    found = network.backbone.state_dict()
    assert found["conv1.weight"].shape == (64, 1, 7, 7)
    assert found["conv1.weight"].std().item() == pytest.approx((2 / 49) ** 0.5, rel=0.06)
    assert bool((found["bn1.weight"] == 1).all())


def test_stored_weights_that_cannot_be_read_are_named(slim: dict[str, Tensor], no_stored_weights: Path) -> None:
    """A file that was cut off has nothing to do with the size of the image."""
    file = no_stored_weights / "resnet50-11ad3fa6.pth"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=file.name) as caught:
        build_classifier(settings_of("resnet50"), 5)
    assert "too small" not in str(caught.value)


# Training the last layer only


@pytest.fixture(params=["cifar_cnn", "yolo_lite-n-cls", "resnet50"])
def frozen(request: pytest.FixtureRequest, slim: dict[str, Tensor]) -> ClassifierNet:
    """Build networks with norms, of which the last layer only is trained."""
    norms = {"batch_norm": True} if request.param == "cifar_cnn" else {}
    sides = {"cifar_cnn": 32}.get(request.param, 64)
    return build(request.param, freeze=True, input__image_size=sides, **norms)


def coloured(network: ClassifierNet) -> Tensor:
    side = 32 if isinstance(network.backbone, nn.Sequential) else 64
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8, generator=generator)


def backbone_of(network: ClassifierNet) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in network.backbone.state_dict().items()}


def test_only_the_last_layer_of_a_frozen_network_learns(frozen: ClassifierNet) -> None:
    before, x = backbone_of(frozen), coloured(frozen)
    assert any(isinstance(layer, NORMS) for layer in frozen.backbone.modules())
    frozen.train()
    optimizer = torch.optim.SGD([one for one in frozen.parameters() if one.requires_grad], 0.1)
    outputs = frozen(x)
    outputs.square().sum().backward()
    optimizer.step()
    assert not torch.equal(frozen(x), outputs)
    assert all(parameter.grad is None for parameter in frozen.backbone.parameters())
    assert all(parameter.grad is not None for parameter in frozen.head.parameters())
    after = frozen.backbone.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_frozen_backbone_stays_in_evaluation_mode(frozen: ClassifierNet) -> None:
    for mode in (True, False, True):
        assert frozen.train(mode) is frozen
        assert frozen.training == frozen.head.training == mode
        assert not any(layer.training for layer in frozen.backbone.modules())


def test_a_frozen_backbone_does_not_move_before_train_was_called(frozen: ClassifierNet) -> None:
    """A module begins in training mode, in which norms move at every image they see."""
    before = backbone_of(frozen)
    frozen(coloured(frozen))
    after = frozen.backbone.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_backbone_that_is_not_frozen_learns_and_its_norms_move() -> None:
    network = build("cifar_cnn", batch_norm=True)
    before = backbone_of(network)
    network.train()(images("cifar_cnn", 4)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    after = network.backbone.state_dict()
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert {key.split(".")[-1] for key in moved} == {"running_mean", "running_var", "num_batches_tracked"}


# Pixels in, scores out


def bare(channels: int, loss: str = "cross_entropy") -> ClassifierNet:
    """Return a network that hands its normalised pixels through."""
    mean, std = torch.tensor([10.0, 20, 30])[:channels], torch.tensor([2.0, 4, 5])[:channels]
    return ClassifierNet(nn.Flatten(), nn.Identity(), mean=mean, std=std, loss=loss)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
def test_pixels_are_normalised_channel_by_channel(dtype: torch.dtype) -> None:
    """(12 - 10) / 2, (12 - 20) / 4, (0 - 30) / 5: no unsigned arithmetic before the subtraction."""
    images = torch.tensor([12, 12, 0], dtype=dtype).view(1, 3, 1, 1)
    found = bare(3)(images)
    assert found.dtype == torch.float32
    assert found.tolist() == [[1, -2, -6]]
    assert images.flatten().tolist() == [12, 12, 0]


@pytest.mark.parametrize("name", [*DIGITS, "lenet", "capsule"])
def test_grey_images_are_normalised_by_the_first_mean_and_deviation(name: str) -> None:
    network = build(name, input__mean=[10, 20, 30], input__std=[2, 4, 5])
    assert network.mean.tolist() == [[[[10]]]]
    assert network.std.tolist() == [[[[2]]]]


def test_grey_normalisation_worked_by_hand() -> None:
    """MNIST's mean and deviation, 0.1307 and 0.3081 of 255: (255 - 33.3) / 78.6 = 2.8206 and -33.3 / 78.6 = -0.4237."""
    network = build("mlp")
    seen: list[Tensor] = []
    network.backbone.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    network.eval()(torch.stack([torch.zeros(1, 28, 28), torch.full((1, 28, 28), 255.0)]))
    assert seen[0].shape == (2, 1, 28, 28)
    assert [values.unique().tolist() for values in seen[0]] == [
        [pytest.approx(-0.4237, abs=1e-4)],
        [pytest.approx(2.8206, abs=1e-4)],
    ]


def test_of_several_levels_the_last_is_taken() -> None:
    class Levels(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x, 2 * x, 3 * x]

    network = ClassifierNet(Levels(), nn.Flatten(), mean=torch.zeros(1), std=torch.ones(1), loss="cross_entropy")
    assert network(torch.tensor([[[[1.0, 2]]]])).tolist() == [[3, 6]]


def test_mean_and_deviation_travel_with_the_weights() -> None:
    network = build("mlp")
    assert {"mean", "std"} <= set(network.state_dict())
    assert not any(name in ("mean", "std") for name, _ in network.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_scores_sum_to_one_for_every_loss(loss: str, dtype: torch.dtype) -> None:
    outputs = torch.randn(50, 1 if loss == "binary" else 4, generator=torch.Generator().manual_seed(0)) * 5
    if loss == "margin":
        outputs = outputs.sigmoid()
    outputs = outputs.to(dtype)
    before = outputs.clone()
    scores = bare(3, loss).scores(outputs)
    assert scores.dtype == torch.float32
    assert scores.shape == (50, 2 if loss == "binary" else 4)
    assert bool(((scores >= 0) & (scores <= 1)).all())
    torch.testing.assert_close(scores.sum(1), torch.ones(50))
    if loss != "binary":
        assert torch.equal(scores.argmax(1), outputs.float().argmax(1))
    assert torch.equal(outputs, before)


@pytest.mark.parametrize(
    ("loss", "outputs", "wanted"),
    [
        # exp(0) : exp(log 3) = 1 : 3; a logit of log 3 is 3 to 1 for label 1; lengths 0.2 and 0.6 are 1 : 3
        pytest.param("cross_entropy", [0.0, 1.0986123], [0.25, 0.75], id="cross_entropy"),
        pytest.param("mse", [0.0, 1.0986123], [0.25, 0.75], id="mse"),
        pytest.param("binary", [1.0986123], [0.25, 0.75], id="binary"),
        pytest.param("margin", [0.2, 0.6], [0.25, 0.75], id="margin"),
    ],
)
def test_scores_worked_by_hand(loss: str, outputs: list[float], wanted: list[float]) -> None:
    assert bare(3, loss).scores(torch.tensor([outputs])).tolist() == [pytest.approx(wanted)]


@pytest.mark.parametrize("name", [*QUICK, "capsule"])
def test_scores_of_a_real_network_sum_to_one(name: str) -> None:
    network = build(name).eval()
    with torch.no_grad():
        scores = network.scores(network(images(name)))
    assert scores.shape == (2, classes_of(name))
    torch.testing.assert_close(scores.sum(1), torch.ones(2))
