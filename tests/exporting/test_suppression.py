"""NMS of plain operators, in a file of torch.export, equals the package's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from yolo_lite.exporting.suppression import float32_floor, suppress
from yolo_lite.ops import nms_padded

CANDIDATES, MOST = 30, 8
Suppress = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]


class Rows(nn.Module):
    """The NMS alone."""

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return suppress(boxes, scores, labels=labels, iou_threshold=0.6, score_threshold=0.25, max_detections=MOST)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Suppress:
    """Return the NMS after a round trip through a file, with any number of images."""
    path, batch = tmp_path_factory.mktemp("rows") / "rows.pt2", torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(Rows(), scenes(2, 0), dynamic_shapes=({0: batch}, {0: batch}, {0: batch}))
    torch.export.save(program, path)
    loaded: Suppress = torch.export.load(path).module()
    return loaded


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return crowded boxes with whole corners, descending scores of which many are equal, and labels."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 12, (count, CANDIDATES, 2), generator=generator).float()
    sizes = torch.randint(4, 20, (count, CANDIDATES, 2), generator=generator).float()
    scores = torch.randint(0, 16, (count, CANDIDATES), generator=generator).sort(1, descending=True).values / 16
    labels = torch.randint(0, 2, (count, CANDIDATES), generator=generator)
    return torch.cat([corners, corners + sizes], -1), scores, labels


@pytest.mark.parametrize("count", [1, 5, 64])
@pytest.mark.parametrize("seed", range(3))
def test_rows_are_those_of_the_package(saved: Suppress, count: int, seed: int) -> None:
    boxes, scores, labels = scenes(count, seed)
    indices, counts = nms_padded(
        boxes, scores, labels=labels, iou_threshold=0.6, score_threshold=0.25, max_detections=MOST
    )
    assert counts.max() == MOST or count == 1  # some images have more than there is room for
    rows = saved(boxes, scores, labels)
    assert torch.equal(rows[3], counts)
    for i, number in enumerate(counts.tolist()):
        kept = indices[i, :number]
        for values, source in zip(rows, (boxes, scores, labels)):
            assert torch.equal(values[i, :number], source[i, kept])
            assert not values[i, number:].any()


def test_a_batch_gives_what_its_images_give_alone(saved: Suppress) -> None:
    parts = scenes(64, 7)
    together = saved(*parts)
    for i in range(64):
        for whole, alone in zip(together, saved(*(part[i : i + 1] for part in parts))):
            assert torch.equal(whole[i], alone[0])


@pytest.mark.parametrize("chain", [2, 9, 30])
def test_long_chains_take_as_many_rounds_as_they_need(saved: Suppress, chain: int) -> None:
    """Each box overlaps the next alone, so every second one is kept: the slowest case for rounds."""
    left = torch.arange(30).float() * 2
    left[chain:] += 1000
    boxes = torch.stack([left, torch.zeros(30), left + 10, torch.full((30,), 10.0)], -1)[
        None
    ]  # IoU 8 / 12 with the next
    scores = torch.linspace(0.9, 0.5, 30)[None].clone()
    scores[0, chain:] = 0.1
    kept = saved(boxes, scores, torch.zeros(1, 30, dtype=torch.int64))
    assert kept[0][0, : kept[3][0], 0].tolist() == left[:chain:2][:MOST].tolist()


def test_images_without_candidates_have_no_rows(saved: Suppress) -> None:
    boxes, scores, labels = scenes(3, 1)
    scores[1] = 0.25  # not above the threshold
    counts = saved(boxes, scores, labels)[3]
    assert counts[1] == 0 < counts[0]
    assert saved(boxes[1:2], scores[1:2], labels[1:2])[3].tolist() == [0]


def test_thresholds_are_rounded_down() -> None:
    for value in (0.05, 0.1, 0.3, 0.6, 0.7):
        floor = torch.tensor(float32_floor(value), dtype=torch.float64)
        assert floor <= value < float(torch.nextafter(floor.float(), torch.tensor(1.0)))
    assert float32_floor(0.5) == 0.5
