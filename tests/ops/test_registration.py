"""The ops as torch.library knows them: compiled, exported, mapped or traced they give what they give when called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from tests.ops.test_nms import Case, batch_of, odd_scores, random_case, tied
from yolo_lite.ops import box_iou, native, nms_padded
from yolo_lite.predict.postprocess import postprocess
from yolo_lite.structures.batches import RawPredictions

OP, IOU_OP = torch.ops.yolo_lite.nms_padded.default, torch.ops.yolo_lite.box_iou.default
Results = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> None:
    torch.compiler.reset()


@pytest.fixture(params=["torch", "native"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "native" and native.MISSING:
        pytest.skip(native.MISSING)
    monkeypatch.setenv("YOLO_LITE_OPS", request.param)


each_implementation = pytest.mark.usefixtures("implementation")


def drawn(seed: int, batch: int = 2, count: int = 90) -> Case:
    return batch_of(random_case, batch, count, torch.Generator().manual_seed(seed))


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor | None) -> Results:
    return nms_padded(boxes, scores, labels=labels, iou_threshold=0.4, score_threshold=0.1, max_detections=40)


def assert_equal(found: Results, wanted: Results) -> None:
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    assert (found[0].dtype, found[1].dtype) == (torch.int64, torch.int32)


@each_implementation
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda boxes, scores, labels: (boxes, scores, labels, 0.4, 0.1, 40), id="plain"),
        pytest.param(lambda boxes, scores, labels: (boxes, scores, None, 0.4, 0.1, 40), id="no labels"),
        pytest.param(
            lambda boxes, scores, labels: (boxes.half(), scores.bfloat16(), labels.int(), 1, 0, 99), id="half"
        ),
        pytest.param(lambda boxes, scores, labels: (boxes.double(), scores, labels, 0.4, 0.1, 40), id="double"),
        pytest.param(
            lambda boxes, scores, labels: (boxes.requires_grad_(), scores.requires_grad_(), labels, 0.4, 0.1, 40),
            id="with gradient",
        ),
        pytest.param(lambda boxes, scores, labels: (boxes[:, ::2], scores[:, ::2], None, 0.4, 0.1, 40), id="strided"),
        pytest.param(lambda boxes, scores, labels: (boxes[:0], scores[:0], labels[:0], 0.4, 0.1, 40), id="B = 0"),
        pytest.param(lambda boxes, scores, labels: (boxes[:, :0], scores[:, :0], None, 0.4, 0.1, 40), id="N = 0"),
        pytest.param(lambda boxes, scores, labels: (boxes, scores, labels, 0.4, 0.1, 0), id="K = 0"),
        pytest.param(lambda boxes, scores, labels: (boxes[:1], scores[:1], None, 0.4, 0.1, 1), id="B = K = 1"),
    ],
)
def test_torch_finds_the_op_well_registered(change: Any) -> None:
    torch.library.opcheck(OP, change(*drawn(0)))


@pytest.mark.parametrize("seed", range(3))
def test_a_compiled_function_equals_the_call(seed: int) -> None:
    case = drawn(seed)
    for dynamic in (False, True):
        compiled = torch.compile(suppress, fullgraph=True, backend="aot_eager", dynamic=dynamic)
        assert_equal(compiled(*case), suppress(*case))
        assert_equal(compiled(case.boxes, case.scores, None), suppress(case.boxes, case.scores, None))


def test_one_compilation_serves_every_size() -> None:
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(nms_padded, fullgraph=True, backend=backend, dynamic=True)
    for seed, (batch, count, most) in enumerate(((2, 90, 40), (3, 50, 60), (5, 200, 7), (4, 9, 11))):
        case = drawn(seed, batch, count)
        assert_equal(
            compiled(*case[:2], labels=case[2], iou_threshold=0.4, score_threshold=0.1, max_detections=most),
            nms_padded(*case[:2], labels=case[2], iou_threshold=0.4, score_threshold=0.1, max_detections=most),
        )
    assert len(graphs) == 1


def test_a_compiled_function_heeds_other_thresholds() -> None:
    compiled = torch.compile(nms_padded, fullgraph=True, backend="aot_eager")
    case = drawn(4)
    for iou_threshold, score_threshold in ((0.4, 0.1), (0.6, 0.1), (0.3, 0.5), (0.7, 0.2), (0.0, -1.0)):
        wanted = nms_padded(
            *case[:2], labels=case[2], iou_threshold=iou_threshold, score_threshold=score_threshold, max_detections=90
        )
        assert_equal(
            compiled(
                *case[:2],
                labels=case[2],
                iou_threshold=iou_threshold,
                score_threshold=score_threshold,
                max_detections=90,
            ),
            wanted,
        )


def decode(raw: RawPredictions, indices: Tensor) -> Tensor:
    return raw.box_outputs.gather(1, indices.unsqueeze(-1).expand(-1, -1, 4))


def choose(boxes: Tensor, logits: Tensor) -> Results:
    raw = RawPredictions(boxes, logits, points=torch.zeros(boxes.shape[1], 2), strides=torch.ones(boxes.shape[1]))
    return postprocess(raw, decode, score_threshold=0.3, iou_threshold=0.5, max_detections=20)


def test_postprocess_compiles_as_one_graph() -> None:
    compiled = torch.compile(choose, fullgraph=True, backend="aot_eager")
    for seed in (5, 6):
        boxes = drawn(seed).boxes
        logits = torch.randn(2, 90, 4, generator=torch.Generator().manual_seed(seed))
        found, wanted = compiled(boxes, logits), choose(boxes, logits)
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1], wanted[1])
        assert int(wanted[1].min()) > 0


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="inductor needs a compiler")
def test_inductor_compiles_postprocess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    boxes, logits = drawn(7).boxes, torch.randn(2, 90, 4, generator=torch.Generator().manual_seed(7))
    found, wanted = torch.compile(choose, fullgraph=True)(boxes, logits), choose(boxes, logits)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-6, atol=1e-6)  # its sigmoid is its own
    assert torch.equal(found[1], wanted[1])


class Module(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Results:
        indices, counts = nms_padded(
            boxes * 2, scores + 0.5, labels=labels, iou_threshold=0.4, score_threshold=0.6, max_detections=40
        )
        return indices, counts


@pytest.mark.slow
def test_an_exported_module_is_loaded_in_this_and_another_process(tmp_path: Path) -> None:
    batch, count = torch.export.Dim("batch"), torch.export.Dim("count")
    shapes = {name: {0: batch, 1: count} for name in ("boxes", "scores", "labels")}
    program = torch.export.export(Module(), tuple(drawn(8)), dynamic_shapes=shapes)
    assert [node.target for node in program.graph.nodes].count(OP) == 1
    torch.export.save(program, tmp_path / "module.pt2")
    loaded = torch.export.load(tmp_path / "module.pt2").module()
    other = drawn(9, 5, 33)
    for case in (drawn(8), other):
        assert_equal(program.module()(*case), Module()(*case))
        assert_equal(loaded(*case), Module()(*case))
    torch.save((tuple(other), Module()(*other)), tmp_path / "wanted.pt")
    code = """
import torch, yolo_lite.ops
inputs, wanted = torch.load("wanted.pt")
found = torch.export.load("module.pt2").module()(*inputs)
print([torch.equal(*pair) for pair in zip(found, wanted)])
"""
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert result.stdout.strip() == "[True, True]", result.stderr


# vmap


def looped(calls: list[Results]) -> Results:
    return torch.stack([indices for indices, _ in calls]), torch.stack([counts for _, counts in calls])


@each_implementation
@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
@pytest.mark.parametrize("make", [random_case, tied, odd_scores], ids=lambda make: make.__name__)
def test_vmap_equals_a_loop(make: Any, labelled: bool) -> None:
    generator = torch.Generator().manual_seed(10)
    cases = [batch_of(make, 2, 60, generator) for _ in range(3)]
    boxes, scores, labels = (torch.stack(list(part)) for part in zip(*cases))
    if labelled:
        found = torch.vmap(suppress)(boxes, scores, labels)
    else:
        found = torch.vmap(lambda boxes, scores: suppress(boxes, scores, None))(boxes, scores)
    assert_equal(found, looped([suppress(*case[:2], case.labels if labelled else None) for case in cases]))


@pytest.mark.parametrize(
    "in_dims",
    [
        (0, 0, None),
        (0, None, 0),
        (None, 0, 0),
        (0, None, None),
        (None, 0, None),
        (None, None, 0),
        (1, 2, 0),
        (-1, 1, -1),
    ],
    ids=str,
)
def test_vmap_over_any_dimension_of_any_argument(in_dims: tuple[int | None, ...]) -> None:
    cases = [drawn(seed, 2, 50) for seed in (11, 12, 13)]
    inputs = [parts[0] if dim is None else torch.stack(list(parts), dim) for parts, dim in zip(zip(*cases), in_dims)]
    found = torch.vmap(suppress, in_dims=in_dims)(*inputs)
    calls = [
        suppress(*(part if dim is not None else first for part, first, dim in zip(case, cases[0], in_dims)))
        for case in cases
    ]
    assert_equal(found, looped(calls))


def test_vmap_puts_the_result_where_it_is_told() -> None:
    cases = [drawn(seed, 2, 50) for seed in (14, 15, 16)]
    indices, counts = torch.vmap(suppress, out_dims=(1, -1))(*(torch.stack(list(part)) for part in zip(*cases)))
    wanted = looped([suppress(*case) for case in cases])
    assert_equal((indices.movedim(1, 0), counts.movedim(-1, 0)), wanted)


def test_vmap_of_vmap_equals_two_loops() -> None:
    cases = [[drawn(3 * row + column, 2, 50) for column in range(3)] for row in range(4)]
    boxes = torch.stack([torch.stack([case.boxes for case in row]) for row in cases])  # [4, 3, 2, 50, 4]
    scores = torch.stack([case.scores for case in cases[0]])  # [3, 2, 50]: the same for every row
    labels = torch.stack([row[0].labels for row in cases])  # [4, 2, 50]: the same for every column
    found = torch.vmap(torch.vmap(suppress, in_dims=(0, 0, None)), in_dims=(0, None, 0))(boxes, scores, labels)
    wanted = [looped([suppress(boxes[i, j], scores[j], labels[i]) for j in range(3)]) for i in range(4)]
    assert_equal(found, looped(wanted))


@each_implementation
@pytest.mark.parametrize("shape", [(3, 0, 50), (3, 2, 0), (0, 2, 50)], ids=["B = 0", "N = 0", "nothing to map over"])
def test_vmap_over_nothing_gives_nothing(shape: tuple[int, int, int]) -> None:
    indices, counts = torch.vmap(suppress)(torch.zeros(*shape, 4), torch.zeros(shape), torch.zeros(shape).long())
    assert torch.equal(indices, torch.full((*shape[:2], 40), -1))
    assert torch.equal(counts, torch.zeros(shape[:2], dtype=torch.int32))


def test_vmap_inside_compile_equals_a_loop() -> None:
    cases = [drawn(seed, 2, 50) for seed in (17, 18)]
    compiled = torch.compile(torch.vmap(suppress), fullgraph=True, backend="aot_eager")
    found = compiled(*(torch.stack(list(part)) for part in zip(*cases)))
    assert_equal(found, looped([suppress(*case) for case in cases]))


# Boxes of float64 that lie where float32 would not tell them apart


def on_a_map(case: Case) -> Case:
    return case._replace(boxes=case.boxes.double() + 2.0**40)


@each_implementation
@pytest.mark.parametrize("make", [random_case, tied], ids=lambda make: make.__name__)
def test_boxes_on_a_map_are_suppressed_alike_however_the_op_is_called(make: Any) -> None:
    generator = torch.Generator().manual_seed(26)
    cases = [on_a_map(batch_of(make, 2, 60, generator)) for _ in range(3)]
    wanted = looped([suppress(*case) for case in cases])
    stacked = [torch.stack(list(part)) for part in zip(*cases)]
    assert_equal(torch.vmap(suppress)(*stacked), wanted)
    compiled = torch.compile(suppress, fullgraph=True, backend="aot_eager")
    assert_equal(looped([compiled(*case) for case in cases]), wanted)
    graph = make_fx(suppress)(*cases[0])
    assert_equal(looped([graph(*case) for case in cases]), wanted)
    narrow = looped([suppress(case.boxes.float(), case.scores, case.labels) for case in cases])
    assert not torch.equal(narrow[0], wanted[0])


def test_boxes_on_a_map_are_suppressed_alike_by_an_exported_module() -> None:
    class Far(torch.nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
            return *suppress(boxes, scores, labels), box_iou(boxes, boxes, kind="ciou")

    case = on_a_map(drawn(27))
    program = torch.export.export(Far(), tuple(case)).module()
    for other in (case, on_a_map(drawn(28))):
        indices, counts, overlaps = program(*other)
        assert_equal((indices, counts), suppress(*other))
        assert torch.equal(overlaps, box_iou(other.boxes, other.boxes, kind="ciou"))


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_overlaps_on_a_map_are_alike_however_they_are_asked_for(kind: str) -> None:
    boxes1, boxes2 = on_a_map(drawn(29)).boxes, on_a_map(drawn(30)).boxes
    wanted = box_iou(boxes1, boxes2, kind=kind)
    compiled = torch.compile(box_iou, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(boxes1, boxes2, kind=kind), wanted)
    assert torch.equal(torch.vmap(lambda a, b: box_iou(a, b, kind=kind))(boxes1, boxes2), wanted)
    assert torch.equal(IOU_OP(boxes1, boxes2, kind, 1e-7), wanted)
    assert torch.equal(torch.vmap(lambda a, b: IOU_OP(a, b, kind, 1e-7))(boxes1, boxes2), wanted)
    assert not torch.equal(box_iou(boxes1.float(), boxes2.float(), kind=kind), wanted)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="inductor needs a compiler")
def test_inductor_keeps_overlaps_in_their_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes -0.0 + 0.0 for -0.0."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    boxes = torch.tensor([[0.0, 0, 0, -0.0], [0, 0, 5, 5], [1, 0, 1, -0.0]])
    torch.testing.assert_close(
        torch.compile(box_iou, fullgraph=True)(boxes, boxes, kind="ciou"), box_iou(boxes, boxes, kind="ciou")
    )


# Tracing, shapes, gradients


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_a_traced_graph_holds_the_op_and_equals_the_call(mode: str) -> None:
    graph = make_fx(suppress, tracing_mode=mode)(*drawn(19))
    assert [node.target for node in graph.graph.nodes].count(OP) == 1
    for seed in (19, 20):
        assert_equal(graph(*drawn(seed)), suppress(*drawn(seed)))


def test_fake_tensors_give_fake_results() -> None:
    with FakeTensorMode() as mode:
        found = suppress(*(mode.from_tensor(part) for part in drawn(21)))
    assert all(isinstance(part, FakeTensor) for part in found)
    assert [(part.shape, part.dtype, part.device.type) for part in found] == [
        ((2, 40), torch.int64, "cpu"),
        ((2,), torch.int32, "cpu"),
    ]


@pytest.mark.parametrize(("batch", "count", "most"), [(2, 9, 4), (0, 9, 4), (2, 0, 4), (2, 9, 0), (3, 4, 7)])
def test_the_meta_device_has_the_shapes_alone(batch: int, count: int, most: int) -> None:
    boxes, scores = torch.empty(batch, count, 4, device="meta"), torch.empty(batch, count, device="meta")
    for labels in (None, torch.empty(batch, count, dtype=torch.int16, device="meta")):
        found = nms_padded(boxes, scores, labels=labels, iou_threshold=0.4, score_threshold=0.1, max_detections=most)
        assert [(part.shape, part.dtype, part.device.type) for part in found] == [
            ((batch, most), torch.int64, "meta"),
            ((batch,), torch.int32, "meta"),
        ]


@each_implementation
def test_inputs_with_gradient_give_results_without() -> None:
    case = drawn(22)
    boxes, scores = case.boxes.clone().requires_grad_(), case.scores.clone().requires_grad_()
    found = suppress(boxes * 1, scores * 1, case.labels)
    assert_equal(found, suppress(*case))
    assert [part.requires_grad for part in found] == [False, False]
    chosen = scores.gather(1, found[0].clamp(min=0))
    chosen.sum().backward()
    assert scores.grad is not None
    assert boxes.grad is None


@each_implementation
@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, torch.enable_grad], ids=lambda c: c.__name__)
def test_the_context_of_autograd_does_not_matter(context: Any) -> None:
    wanted = suppress(*drawn(23))
    with context():
        assert_equal(suppress(*drawn(23)), wanted)
        assert_equal(torch.vmap(suppress)(*(part[None] for part in drawn(23))), looped([wanted]))
    case = Case(*(part.clone() for part in drawn(23)))
    with torch.inference_mode():
        assert_equal(suppress(*case), wanted)


def test_autocast_changes_nothing() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_equal(suppress(*drawn(24)), suppress(*drawn(24)))
        found = suppress(*drawn(24))
    assert_equal(found, suppress(*drawn(24)))


@each_implementation
def test_no_way_of_calling_gives_a_warning() -> None:
    """Of ours: torch may well warn of its own parts."""
    case = drawn(25)
    learning = case.boxes.clone().requires_grad_(), case.scores.clone().requires_grad_(), case.labels
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        suppress(*case)
        suppress(*learning)
        torch.compile(suppress, fullgraph=True, backend="aot_eager")(*learning)
        torch.vmap(suppress)(*(part[None] for part in case))
        torch.vmap(torch.vmap(suppress))(*(part[None, None] for part in learning))
        make_fx(suppress)(*case)
        suppress(*(part.to("meta") for part in case))
        torch.export.export(Module(), tuple(case))
    told = [str(warning.message) for warning in caught]
    words = ("yolo_lite", "nms_padded", "autograd", "batching rule", "performance drop", "writable", "numpy")
    assert [message for message in told if any(word in message.lower() for word in words)] == []


# box_iou, which goes through its op on CUDA alone; the op works everywhere

PAIRS = [((5, 4), (7, 4)), ((2, 5, 4), (7, 4)), ((3, 1, 5, 4), (2, 7, 4)), ((0, 4), (7, 4)), ((2, 5, 4), (2, 0, 4))]


def some_boxes(*shape: int) -> Tensor:
    corner = torch.rand(*shape[:-1], 2, generator=torch.Generator().manual_seed(sum(shape)))
    return torch.cat([corner, corner * 2 + 0.1], -1)


@pytest.mark.parametrize(("shape1", "shape2"), PAIRS, ids=str)
def test_torch_finds_the_op_of_box_iou_well_registered(shape1: tuple[int, ...], shape2: tuple[int, ...]) -> None:
    boxes1, boxes2 = some_boxes(*shape1), some_boxes(*shape2)
    torch.library.opcheck(IOU_OP, (boxes1, boxes2, "ciou", 1e-7))
    torch.library.opcheck(IOU_OP, (boxes1.half(), boxes2.double(), "iou", 0.0))
    for kind in ("iou", "giou", "diou", "ciou"):
        wanted = box_iou(boxes1, boxes2, kind=kind)
        assert torch.equal(IOU_OP(boxes1, boxes2, kind, 1e-7), wanted)
        meta = IOU_OP(boxes1.to("meta"), boxes2.to("meta"), kind, 1e-7)
        assert (meta.shape, meta.dtype, meta.device.type) == (wanted.shape, torch.float32, "meta")


@pytest.mark.parametrize(
    ("shape1", "shape2", "in_dims"),
    [
        ((3, 5, 4), (3, 7, 4), (0, 0)),
        ((3, 5, 4), (7, 4), (0, None)),
        ((5, 4), (7, 3, 4), (None, 1)),
        ((3, 5, 4), (2, 7, 4), (0, None)),
        ((2, 5, 4), (3, 7, 4), (None, 0)),
        ((3, 5, 4), (3, 6, 2, 7, 4), (0, 0)),
        ((6, 5, 3, 4), (3, 7, 4), (2, 0)),
    ],
    ids=str,
)
def test_vmap_of_the_op_of_box_iou_equals_a_loop(
    shape1: tuple[int, ...], shape2: tuple[int, ...], in_dims: tuple[int | None, int | None]
) -> None:
    boxes = some_boxes(*shape1), some_boxes(*shape2)
    found = torch.vmap(lambda a, b: IOU_OP(a, b, "diou", 1e-7), in_dims)(*boxes)
    for number in range(3):
        a, b = (part if dim is None else part.select(dim, number) for part, dim in zip(boxes, in_dims))
        assert torch.equal(found[number], box_iou(a, b, kind="diou"))


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_the_box_iou_op_has_the_gradient_of_the_definition(kind: str) -> None:
    generator = torch.Generator().manual_seed(8)
    corners = torch.rand(2, 5, 2, generator=generator) * 10
    a, b = torch.cat([corners, corners + 3 + torch.rand(2, 5, 2, generator=generator) * 8], -1).unbind()
    weight = torch.rand(5, 5, generator=generator)

    def gradients(function: Any) -> tuple[Tensor, ...]:
        leaves = a.clone().requires_grad_(), b.clone().requires_grad_()
        return torch.autograd.grad((function(*leaves) * weight).sum(), leaves)

    wanted = gradients(lambda x, y: box_iou(x, y, kind=kind))
    found = gradients(lambda x, y: torch.ops.yolo_lite.box_iou(x, y, kind, 1e-7))
    assert all(torch.equal(x, y) for x, y in zip(wanted, found))
    assert all(x.abs().sum() > 0 for x in wanted)
