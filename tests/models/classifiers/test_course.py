"""The networks of the course: their layers against loops, the published ones against torchvision's and the papers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torchvision
from torch import Tensor, nn

from yolo_lite.models.classifiers import course
from yolo_lite.models.classifiers.capsule import Capsules, PrimaryCapsules
from yolo_lite.models.classifiers.course import (
    COURSE,
    LENET_TABLE,
    Parallel,
    Parts,
    ScaledTanh,
    TableConv2d,
    Task,
    TrainedPool,
)

DIGITS = Task(1, (28, 28), 10)

# LeCun et al. 1998, table I, as it is printed: a row for each of six maps, a column for each of the sixteen.
TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Draw the same weights every time."""
    torch.manual_seed(0)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network on torch's meta device: shapes without numbers."""
    with torch.device("meta"):
        return build()


def whole(parts: Parts) -> nn.Sequential:
    return nn.Sequential(*parts)


def outputs_of(module: nn.Module, kinds: tuple[type[nn.Module], ...], x: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Run a network and return the name and output's shape, without the batch, of each layer of these kinds, in order."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    for layer in module.modules():
        if type(layer) in kinds:
            layer.register_forward_hook(lambda layer, _, y: seen.append((type(layer).__name__, tuple(y.shape[1:]))))
    module(x)
    return seen


def test_every_network_is_listed_under_its_own_name() -> None:
    assert {name: build.__name__ for name, build in COURSE.items()} == {name: name for name in COURSE}


# The networks for digits and small images


def test_the_perceptron_is_three_matrices() -> None:
    features, last = course.mlp(Task(2, (3, 4), 5))
    x = torch.randn(6, 2, 3, 4)
    weights = [parameter.detach().double() for parameter in (*features.parameters(), *last.parameters())]
    assert [tuple(weight.shape) for weight in weights[::2]] == [(512, 24), (512, 512), (5, 512)]
    wanted = x.double().reshape(6, 24)
    for number, (weight, bias) in enumerate(zip(weights[::2], weights[1::2])):
        wanted = wanted @ weight.T + bias
        if number < 2:
            wanted = wanted * (wanted > 0)
    torch.testing.assert_close(last(features(x)).double(), wanted, rtol=1e-4, atol=1e-5)


def test_lenet_is_the_papers_layer_by_layer() -> None:
    """Trained parameters from section II B: C1 156, S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164, together 60,000."""
    features, last = course.lenet(Task(1, (32, 32), 10))
    layers = [layer for layer in features if count(layer)]
    assert [count(layer) for layer in layers] == [156, 12, 1516, 32, 48120, 10164]
    assert count(features) == 60_000
    assert count(last) == 84 * 10 + 10
    kinds = (nn.Conv2d, TrainedPool, TableConv2d, nn.Linear)
    layers[2].parts = nn.ModuleList()  # the table's small convolutions are layers of their own; leave them out
    layers[2].forward = lambda x: x.new_zeros(len(x), 16, x.shape[2] - 4, x.shape[3] - 4)
    assert outputs_of(features, kinds, torch.zeros(1, 1, 32, 32)) == [
        ("Conv2d", (6, 28, 28)),
        ("TrainedPool", (6, 14, 14)),
        ("TableConv2d", (16, 10, 10)),
        ("TrainedPool", (16, 5, 5)),
        ("Conv2d", (120, 1, 1)),
        ("Linear", (84,)),
    ]


def test_lenet_squashes_after_every_layer() -> None:
    features, _ = course.lenet(Task(1, (32, 32), 10))
    layers = [layer for layer in features if not isinstance(layer, nn.Flatten)]
    assert [isinstance(layer, ScaledTanh) for layer in layers] == [False, True] * 6


def test_the_scaled_tanh_is_the_papers() -> None:
    """Appendix A: f(1) = 1, f(-1) = -1, and the limits are +-1.7159; the slope at 0 is the product of both numbers."""
    found = ScaledTanh()(torch.tensor([-100.0, -1, 0, 1, 100]))
    torch.testing.assert_close(found, torch.tensor([-1.7159, -1, 0, 1, 1.7159]), rtol=1e-4, atol=0)
    x = torch.zeros((), requires_grad=True)
    (slope,) = torch.autograd.grad(ScaledTanh()(x), x)
    assert slope.item() == pytest.approx(1.7159 * 2 / 3)


def test_the_trained_pool_agrees_with_a_loop() -> None:
    layer = TrainedPool(3)
    nn.init.normal_(layer.factor)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 5, 6)  # the fifth row falls off
    y = layer(x)
    assert y.shape == (2, 3, 2, 3)
    for b, c, row, column in [
        (b, c, row, column) for b in (0, 1) for c in range(3) for row in (0, 1) for column in range(3)
    ]:
        four = [x[b, c, 2 * row + i, 2 * column + k].item() for i in (0, 1) for k in (0, 1)]
        wanted = sum(four) / 4 * layer.factor[c].item() + layer.bias[c].item()
        assert y[b, c, row, column].item() == pytest.approx(wanted, abs=1e-5)


def test_a_fresh_trained_pool_is_the_mean() -> None:
    assert TrainedPool(1)(torch.tensor([[[[1.0, 2], [3, 6]]]])).item() == 3


@pytest.mark.parametrize("column", range(16))
def test_each_of_lenets_sixteen_maps_sees_what_table_i_says(column: int) -> None:
    rows = TABLE_I.split()
    assert (len(rows), {len(row) for row in rows}) == (6, {16})
    assert set(LENET_TABLE[column]) == {number for number, row in enumerate(rows) if row[column] == "X"}
    assert len(LENET_TABLE[column]) == len(set(LENET_TABLE[column]))


def test_a_table_convolution_is_one_with_zeros_where_nothing_is_connected() -> None:
    """A table out of order: the weights of an output lie in the order of the inputs."""
    table = ((2, 0), (1,), (0, 1, 2, 3), (3, 1, 0))
    layer = TableConv2d(table, 3)
    assert sum(len(inputs) for inputs in table) * 9 + 4 == count(layer)
    weight = torch.zeros(4, 4, 3, 3)
    for output, (part, inputs) in enumerate(zip(layer.parts, table)):
        for place, number in enumerate(sorted(inputs)):
            weight[output, number] = part.weight.detach()[0, place]
    bias = torch.cat([part.bias.detach() for part in layer.parts])
    x = torch.randn(2, 4, 6, 7)
    found = layer(x)
    assert found.shape == (2, 4, 4, 5)
    torch.testing.assert_close(found, nn.functional.conv2d(x, weight, bias))


def test_a_table_convolution_does_not_see_the_other_maps() -> None:
    layer = TableConv2d(LENET_TABLE, 5)
    x = torch.randn(1, 6, 7, 7)
    for number, row in enumerate(TABLE_I.split()):
        changed = x.clone()
        changed[:, number] += 1
        moved = (layer(x) - layer(changed)).abs().amax((0, 2, 3)) > 0
        assert moved.tolist() == [mark == "X" for mark in row]


def test_parallel_ways_lie_side_by_side() -> None:
    x = torch.randn(2, 3, 4, 5)
    found = Parallel(nn.Identity(), nn.MaxPool2d(3, 1, 1))(x)
    assert torch.equal(found, torch.cat([x, nn.functional.max_pool2d(x, 3, 1, 1)], 1))


def test_a_2x2_convolution_that_keeps_the_size_sees_right_and_below() -> None:
    """With a weight of 1 at one of the four places and no bias the first layer moves the image; zeros come in."""
    features, _ = course.cifar_cnn(Task(1, (8, 8), 2))
    padding, convolution = features[0], features[1]
    assert isinstance(convolution, nn.Conv2d)
    x = torch.rand(1, 1, 8, 8)
    for row in (0, 1):
        for column in (0, 1):
            nn.init.zeros_(convolution.weight)
            nn.init.zeros_(convolution.bias)
            convolution.weight.data[:, 0, row, column] = 1
            wanted = torch.zeros(8, 8)
            wanted[: 8 - row, : 8 - column] = x[0, 0, row:, column:]
            assert torch.equal(convolution(padding(x))[0, 5], wanted)


@pytest.mark.parametrize(
    ("name", "task", "wanted"),
    [
        pytest.param("mnist_cnn", DIGITS, [(32, 28), (64, 14)], id="mnist_cnn"),
        pytest.param(
            "mnist_small",
            DIGITS,
            [(10, 28), (16, 28), (16, 14), (20, 14), (16, 7)],
            id="mnist_small: pooling after 2, 4",
        ),
        pytest.param("cifar_cnn", Task(3, (32, 32), 10), [(16, 32), (32, 16), (64, 8)], id="cifar_cnn"),
        pytest.param("conv_net", DIGITS, [(32, 26), (64, 11), (128, 3)], id="conv_net"),
        pytest.param(
            "binary_cnn",
            Task(3, (180, 180), 1),
            [(32, 178), (64, 87), (128, 41), (256, 18), (256, 7)],
            id="binary_cnn",
        ),
    ],
)
def test_convolutions_have_these_channels_and_sides(name: str, task: Task, wanted: list[tuple[int, int]]) -> None:
    """Worked by hand: 3x3 without padding takes 2 off each side, 2x2 pooling halves it, rounding down."""
    network = without_memory(lambda: whole(COURSE[name](task)))
    found = outputs_of(network.eval(), (nn.Conv2d,), torch.zeros(1, task.channels, *task.hw, device="meta"))
    assert found == [("Conv2d", (width, side, side)) for width, side in wanted]


@pytest.mark.parametrize(
    ("name", "norms"),
    [("mlp", 2), ("mnist_cnn", 2), ("cifar_cnn", 3), ("conv_net", 3), ("binary_cnn", 5), ("vgg16", 13)],
)
def test_batch_normalisation_stands_between_each_layer_and_its_relu(name: str, norms: int) -> None:
    task = Task(3, (96, 96), 4)
    features = without_memory(lambda: COURSE[name](task, batch_norm=True)[0])
    layers = [layer for layer in features.modules() if not isinstance(layer, nn.Sequential)]
    places = [number for number, layer in enumerate(layers) if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(places) == norms
    for number in places:
        assert isinstance(layers[number - 1], nn.Linear if name == "mlp" else nn.Conv2d)
        assert isinstance(layers[number + 1], nn.ReLU)
    plain = without_memory(lambda: COURSE[name](task)[0])
    assert not any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in plain.modules())


def test_trying_the_size_leaves_no_trace_in_the_statistics() -> None:
    for name in ("mnist_cnn", "cifar_cnn", "conv_net"):
        features, _ = COURSE[name](DIGITS, batch_norm=True)
        assert features.training
        for layer in features.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert int(layer.num_batches_tracked) == 0
                assert float(layer.running_mean.abs().max()) == 0


def test_inceptions_blocks_stand_at_these_strides() -> None:
    """A 64 x 96 image: two blocks of 3x3 at strides 4 and 8, two of 1x7 and 7x1 at 16; four ways of equal width each."""
    network = without_memory(lambda: whole(course.inception(Task(3, (64, 96), 5))))
    found = outputs_of(network.eval(), (Parallel, nn.Linear), torch.zeros(1, 3, 64, 96, device="meta"))
    blocks = [("Parallel", shape) for shape in ((128, 16, 24), (192, 8, 12), (256, 4, 6), (256, 4, 6))]
    assert found == [*blocks, ("Linear", (5,))]


def test_inceptions_blocks_have_these_kernels() -> None:
    features, _ = course.inception(Task(3, (64, 64), 5))
    blocks = [layer for layer in features if isinstance(layer, Parallel)]
    square = [[(1, 1)], [(1, 1), (3, 3)], [(1, 1), (3, 3), (3, 3)], [(1, 1)]]
    long = [[(1, 1)], [(1, 1), (1, 7), (7, 1)], [(1, 1), (7, 1), (1, 7), (7, 1), (1, 7)], [(1, 1)]]
    for block, wanted in zip(blocks, (square, square, long, long)):
        ways = [[layer for layer in way.modules() if isinstance(layer, nn.Conv2d)] for way in block.ways]
        assert [[layer.kernel_size for layer in way] for way in ways] == wanted
        assert [isinstance(next(iter(way.children())), nn.AvgPool2d) for way in block.ways] == [False] * 3 + [True]


def test_the_capsule_networks_parts_are_the_papers() -> None:
    """Section 4: 256 9x9 kernels, 32 x 6 x 6 capsules of 8, ten of 16. Weights 20,992 + 5,308,672 + 1,474,560."""
    features, last = course.capsule(DIGITS)
    assert isinstance(features[2], PrimaryCapsules)
    assert isinstance(last, Capsules)
    x = torch.rand(1, 1, 28, 28)
    assert features[:2](x).shape == (1, 256, 20, 20)
    assert features(x).shape == (1, 32 * 6 * 6, 8)
    assert last.weight.shape == (10, 1152, 8, 16)
    assert [count(layer) for layer in (features[0], features[2], last)] == [20_992, 5_308_672, 1_474_560]
    lengths = last(features(x))
    assert lengths.shape == (1, 10)
    assert bool(((lengths > 0) & (lengths < 1)).all())


# The published networks, against torchvision's with the same weights


class Pair(NamedTuple):
    ours: nn.Module
    theirs: nn.Module


LARGE: dict[str, tuple[Callable[[Task], Parts], Callable[[], nn.Module]]] = {
    "alexnet": (course.alexnet, torchvision.models.alexnet),
    "vgg16": (course.vgg16, torchvision.models.vgg16),
    "vgg16 batch_norm": (lambda task: course.vgg16(task, batch_norm=True), torchvision.models.vgg16_bn),
}


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Draw every number anew, of a size with which signals neither vanish nor explode."""
    for name, tensor in module.state_dict().items():
        if tensor.ndim > 1:
            bound = (6 / tensor[0].numel()) ** 0.5
            tensor.uniform_(-bound, bound)
        elif name.endswith("num_batches_tracked"):
            tensor.zero_()
        else:
            tensor.uniform_(0.5, 1.5) if name.endswith(("weight", "var")) else tensor.uniform_(0, 0.2)


def share_weights(ours: nn.Module, theirs: nn.Module) -> Pair:
    """Put our weights, in order, into the other network, which must have as many of the same shapes."""
    state = ours.state_dict()
    assert len(state) == len(theirs.state_dict())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state.values())), assign=True)
    return Pair(ours.eval(), theirs.eval())


@pytest.fixture(scope="module", params=LARGE)
def pair(request: pytest.FixtureRequest) -> Pair:
    """Build ours without numbers, fill them in once, and share them with torchvision's."""
    build, theirs = LARGE[request.param]
    torch.manual_seed(0)
    ours = without_memory(lambda: whole(build(Task(3, (224, 224), 1000)))).to_empty(device="cpu")
    fill(ours)
    return share_weights(ours, without_memory(theirs))


@pytest.mark.parametrize("hw", [(224, 224), (64, 96)], ids=str)
def test_alexnet_and_vgg_answer_as_torchvisions(pair: Pair, hw: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *hw)
    with torch.no_grad():
        found, wanted = pair.ours(images), pair.theirs(images)
    assert found.shape == (2, 1000)
    assert float((wanted[0] - wanted[1]).abs().max()) > 1e-2  # the image gets through
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_alexnet_and_vgg_drop_out_where_torchvisions_do(pair: Pair) -> None:
    """The same share, beside the same layers."""

    def places(network: nn.Module) -> list[tuple[str, float]]:
        layers = [layer for layer in network.modules() if not list(layer.children())]
        kinds = [layer for layer in layers if isinstance(layer, nn.Linear | nn.ReLU | nn.Dropout)]
        return [(type(layer).__name__, getattr(layer, "p", 0.0)) for layer in kinds]

    assert places(pair.ours) == places(pair.theirs)


def slim_resnet() -> nn.Module:
    """Return a ResNet with one narrow bottleneck a stage instead of 3, 4, 6 and 3."""
    return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], width_per_group=2)


@pytest.fixture
def slim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let torchvision build the slim network as its ResNet-50; return the folder where it keeps weights."""
    monkeypatch.setattr(torchvision.models, "resnet50", slim_resnet)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_resnet_50_has_torchvisions_parameters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """25,557,032 for 1,000 classes, as torchvision's table of weights says; two of three 7x7 x 64 fewer for grey images."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    colour = without_memory(lambda: whole(course.resnet50(Task(3, (224, 224), 1000))))
    grey = without_memory(lambda: whole(course.resnet50(Task(1, (224, 224), 1000))))
    assert count(colour) == torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta["num_params"] == 25_557_032
    assert count(colour) - count(grey) == 2 * 49 * 64


def test_resnet_50_without_its_last_layer_makes_what_that_layer_takes(slim: Path) -> None:
    theirs = slim_resnet().eval()
    features, last = course.resnet50(Task(3, (64, 64), 1000))
    shared = [*features.state_dict().values(), *last.state_dict().values()]
    ours = whole((features, last)).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), shared, strict=True)))
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x))


def test_resnet_50_starts_from_the_stored_weights(slim: Path) -> None:
    stored = slim_resnet().state_dict()
    torch.save(stored, slim / "resnet50-0676ba61.pth")
    features, last = course.resnet50(Task(3, (64, 64), 5))
    found = features.state_dict()
    assert set(stored) - set(found) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(found[key], stored[key]) for key in found)
    assert last.weight.shape == (5, 2048)


def test_resnet_50_of_grey_images_does_not_take_the_stored_weights(slim: Path) -> None:
    stored = slim_resnet().state_dict()
    torch.save(stored, slim / "resnet50-0676ba61.pth")
    features, _ = course.resnet50(Task(1, (64, 64), 5))
    assert features(torch.zeros(2, 1, 64, 64)).shape == (2, 2048)
    assert not torch.equal(features.state_dict()["layer1.0.conv1.weight"], stored["layer1.0.conv1.weight"])


def test_imagenet_weights_are_found_only_where_torchvision_left_them(slim: Path) -> None:
    """Of both versions the later (11ad3fa6) is taken; a download that was cut off and other networks are not."""
    assert course.imagenet_weights("resnet50") is None
    for name in ("resnet50-0676ba61.pth.5f3a.partial", "resnet18-f37072fd.pth", "wide_resnet50_2-95faca4d.pth"):
        (slim / name).touch()
    assert course.imagenet_weights("resnet50") is None
    for name in ("resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth"):
        (slim / name).touch()
        assert course.imagenet_weights("resnet50") == slim / name


def test_imagenet_weights_are_not_looked_for_where_there_is_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "nowhere"))
    assert course.imagenet_weights("resnet50") is None
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", [name for name in COURSE if name not in ("alexnet", "vgg16")])
def test_every_layer_of_a_network_learns(name: str, slim: Path) -> None:
    """A gradient reaches each parameter from two drawn images, on the smallest input that is easy to name."""
    hw = {"lenet": (32, 32), "binary_cnn": (80, 80), "inception": (48, 48), "resnet50": (32, 32)}.get(name, (28, 28))
    network = whole(COURSE[name](Task(1, hw, 3)))
    outputs = network(torch.randn(2, 1, *hw))
    assert outputs.shape == (2, 3)
    (outputs * torch.randn(2, 3)).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key
        if not key.endswith("project.1.bias"):  # the normalisation after the next 1x1 takes every shift away again
            assert float(parameter.grad.abs().max()) > 0, key


def test_the_widths_of_vgg_rise_and_pooling_halves_five_times() -> None:
    """Configuration D of table 1: 2, 2, 3, 3 and 3 convolutions of 64, 128, 256, 512 and 512."""
    network = without_memory(lambda: whole(course.vgg16(Task(3, (224, 224), 10))))
    found = outputs_of(network.eval(), (nn.Conv2d, nn.MaxPool2d), torch.zeros(1, 3, 224, 224, device="meta"))
    sides = [shape[1] for kind, shape in found if kind == "MaxPool2d"]
    assert sides == [112, 56, 28, 14, 7]
    assert all(a == 2 * b for a, b in pairwise(sides))
    widths = [shape[0] for kind, shape in found if kind == "Conv2d"]
    assert widths == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
