"""Check the CUDA kernels on a real GPU; one command settles whether they may be the default.

    python tests/gpu/check_ops.py

prints a line for each check and ends with status 0 only if all pass. Where compute-sanitizer is on the path, its four
tools run over the kernels as well. `yolo-lite bench ops --device cuda` then gives the times.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from yolo_lite.config.resolve import read_config
from yolo_lite.models.build import build_detector
from yolo_lite.ops import batched_nms, box_iou, nms, nms_padded, warmup
from yolo_lite.ops import cuda as kernels
from yolo_lite.ops.iou import KINDS
from yolo_lite.predict.postprocess import postprocess

SPOILT = (math.nan, math.inf, -math.inf, 0.0, -5.0)


def draw(generator: torch.Generator, batch: int, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw boxes [B, N, 4], scores [B, N] and labels [B, N]: clusters, whole pixels, ties, spoilt and inverted boxes."""

    def chance(share: float) -> bool:
        return bool(torch.rand((), generator=generator) < share)

    corner = torch.rand(batch, total, 2, generator=generator) * (30 if chance(0.5) else 300) - 10
    boxes = torch.cat([corner, corner + torch.rand(batch, total, 2, generator=generator) * 40], -1)
    scores = torch.rand(batch, total, generator=generator)
    if chance(0.4):
        boxes = boxes.round()
    if chance(0.2):
        boxes = boxes[:, :1].expand(-1, total, -1).contiguous()
    if chance(0.4):
        scores = (scores * 4).floor() / 4 - 0.25
    for tensor in (boxes, scores):
        if chance(0.3):
            for value in SPOILT:
                tensor[torch.rand(tensor.shape, generator=generator) < 0.02] = value
    if chance(0.2):
        boxes = boxes[..., [2, 1, 0, 3]].contiguous()
    classes = int(torch.randint(1, 90, (), generator=generator))
    labels = torch.randint(0, classes, (batch, total), generator=generator)
    return boxes, scores, labels * 2**32 if chance(0.1) else labels


def suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, iou_threshold: float = 0.5, *more: Any
) -> tuple[Tensor, Tensor]:
    """Call nms_padded with its arguments in a row: after the IoU threshold that of the score, and max_detections."""
    settings = dict(zip(("score_threshold", "max_detections"), more))
    return nms_padded(boxes, scores, labels=labels, iou_threshold=iou_threshold, **settings)


def on_cpu(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Run nms_padded on the CPU."""
    with forced(""):
        return suppress(*arguments)


@contextlib.contextmanager
def forced(name: str) -> Iterator[None]:
    """Force another backend for a while."""
    os.environ["YOLO_LITE_OPS"] = name
    yield
    os.environ["YOLO_LITE_OPS"] = "cuda"


def random_cases(count: int) -> str:
    """nms_padded equals the CPU's bit for bit, with either kernel and every number of threads."""
    generator = torch.Generator().manual_seed(0)
    default = kernels.NMS_THREADS, kernels.SHARED_BYTES
    try:
        for number in range(count):
            batch, total = (int(torch.randint(1, high, (), generator=generator)) for high in (5, 400))
            if number % 50 == 0:
                total *= 20
            boxes, scores, labels = draw(generator, batch, total)
            boxes = (boxes, boxes.double(), boxes.double() + 2.0**40)[number % 11 % 3]  # float64, and far from zero
            chosen = labels if number % 3 else None
            iou_threshold = (0.0, 0.3, 1 / 3, 0.5, 0.6, 0.7, 1.0)[number % 7]
            score_threshold = (-math.inf, 0.0, 0.25)[number % 3]
            most = (300, 5, total, 1, total + 7)[number % 5]
            kernels.NMS_THREADS = (64, 128, 256, 512)[number % 4]
            kernels.SHARED_BYTES = 0 if number % 6 == 0 else default[1]
            settings = (iou_threshold, score_threshold, most)
            wanted = on_cpu(boxes, scores, chosen, *settings)
            on_gpu = (boxes.cuda(), scores.cuda(), None if chosen is None else chosen.cuda())
            found = suppress(*on_gpu, *settings)
            for name, a, b in zip(("indices", "counts"), wanted, found):
                assert torch.equal(a, b.cpu()), f"case {number}: {name} differ"
    finally:
        kernels.NMS_THREADS, kernels.SHARED_BYTES = default
    return f"{count} cases"


def overlaps() -> str:
    """box_iou equals the definition on the CPU: bit for bit, CIoU within 2e-7."""
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for rows, columns in ((1, 1), (16, 128), (17, 129), (300, 1000), (1, 5000), (0, 4)):
        for kind in KINDS:
            a, _, _ = draw(generator, 2, rows) if rows else (torch.zeros(2, 0, 4), None, None)
            b, _, _ = draw(generator, 2, columns)
            if rows > 16:
                a, b = a.double(), b.double()
            wanted, found = box_iou(a, b, kind=kind), box_iou(a.cuda(), b.cuda(), kind=kind).cpu()
            assert torch.equal(wanted.isnan(), found.isnan()), f"{kind}: NaN elsewhere"
            gap = torch.where(wanted == found, 0.0, wanted - found).nan_to_num(0.0).abs()
            if kind == "ciou":
                usual = gap[wanted.abs() <= 3]
                worst = max(worst, float(usual.max()) if usual.numel() else 0.0)
                assert worst <= 2e-7, f"ciou differs by {worst}"
            else:
                assert not gap.any(), f"{kind} differs by {float(gap.max())}"
    return f"4 kinds, CIoU within {worst:.1e}"


def graph() -> str:
    """Model and suppression in one CUDA graph: 100 replays on new images equal the eager results."""
    model = build_detector(read_config(None), 80, seed=0).cuda().eval()
    generator = torch.Generator().manual_seed(2)
    image = torch.zeros(4, 3, 320, 320, dtype=torch.uint8, device="cuda")

    def step() -> tuple[Tensor, Tensor]:
        return postprocess(model(image), model.decode, score_threshold=0.001, iou_threshold=0.6)

    with torch.inference_mode():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.synchronize()
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            rows, counts = step()
        for number in range(100):
            picture = torch.randint(0, 256, image.shape, dtype=torch.uint8, generator=generator)
            image.copy_(picture)
            captured.replay()
            torch.cuda.synchronize()
            kept_rows, kept_counts = rows.clone(), counts.clone()
            eager_rows, eager_counts = step()
            assert torch.equal(kept_counts, eager_counts), f"replay {number}: counts differ"
            assert torch.allclose(kept_rows, eager_rows, atol=1e-3), f"replay {number}: rows differ"
    return "100 replays"


def no_waiting() -> str:
    """nms_padded and box_iou never wait for the device."""
    boxes, scores, labels = (tensor.cuda() for tensor in draw(torch.Generator().manual_seed(3), 4, 1000))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        nms_padded(boxes, scores, labels=labels, iou_threshold=0.5)
        nms_padded(boxes, scores, labels=None, iou_threshold=0.5, score_threshold=0.1, max_detections=5000)
        nms_padded(boxes.double(), scores.double(), labels=labels, iou_threshold=0.5)
        for kind in KINDS:
            box_iou(boxes, boxes, kind=kind)
            box_iou(boxes.double(), boxes, kind=kind)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "under set_sync_debug_mode('error')"


def streams() -> str:
    """Two streams at once, and every device, give the same results."""
    generator = torch.Generator().manual_seed(4)
    cases = [draw(generator, 8, 2000) for _ in range(2)]
    wanted = [on_cpu(*case, 0.5)[0] for case in cases]
    lanes = [torch.cuda.Stream() for _ in cases]
    placed = [[tensor.cuda() for tensor in case] for case in cases]
    torch.cuda.synchronize()
    found: list[list[Tensor]] = [[], []]
    for _ in range(20):
        for lane, case, into in zip(lanes, placed, found):
            with torch.cuda.stream(lane):
                into.append(nms_padded(case[0], case[1], labels=case[2], iou_threshold=0.5)[0])
    torch.cuda.synchronize()
    assert all(torch.equal(a, b.cpu()) for a, into in zip(wanted, found) for b in into)
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        warmup(device)
        result = suppress(*(tensor.to(device) for tensor in cases[0]))[0]
        assert result.device == device
        assert torch.equal(result.cpu(), wanted[0])
    return f"2 streams, {torch.cuda.device_count()} device(s)"


def poison() -> str:
    """Whatever the memory held before, every entry of the result is written."""
    case = draw(torch.Generator().manual_seed(5), 3, 500)
    placed = [tensor.cuda() for tensor in case]
    for most in (1, 100, 499, 500, 3000):
        wanted = on_cpu(*case, 0.4, 0.2, most)
        for value in (0, -1, 0x5A):
            rubbish = [
                torch.full((size,), value, dtype=torch.int8, device="cuda") for size in (2**12, 2**16, 2**20) * 8
            ]
            del rubbish  # its memory is what the op gets
            found = nms_padded(
                placed[0], placed[1], labels=placed[2], iou_threshold=0.4, score_threshold=0.2, max_detections=most
            )
            assert all(torch.equal(a, b.cpu()) for a, b in zip(wanted, found)), f"max_detections {most}"
    return "5 sizes, 3 patterns"


def misuse() -> str:
    """Tensors on two devices are refused by name; half precision, strides, empty input and drop-ins work."""
    boxes, scores, labels = draw(torch.Generator().manual_seed(6), 2, 50)
    for arguments in (
        (boxes, scores.cuda(), labels),
        (boxes.cuda(), scores, None),
        (boxes.cuda(), scores.cuda(), labels),
    ):
        with contextlib.suppress(ValueError):
            suppress(*arguments)
            raise AssertionError("tensors on two devices were accepted")
    half = boxes.half()
    found = nms_padded(half.cuda(), scores.half().cuda(), labels=labels.cuda(), iou_threshold=0.5)
    assert torch.equal(found[0].cpu(), on_cpu(half, scores.half(), labels, 0.5)[0])
    found = nms_padded(boxes.cuda().transpose(0, 1), scores.cuda().T, labels=labels.cuda().T.int(), iou_threshold=0.5)
    assert torch.equal(found[0].cpu(), on_cpu(boxes.transpose(0, 1), scores.T, labels.T, 0.5)[0])
    assert nms_padded(boxes[:, :0].cuda(), scores[:, :0].cuda(), labels=None, iou_threshold=0.5)[1].tolist() == [0, 0]
    kept = batched_nms(boxes[0].cuda(), scores[0].cuda(), idxs=labels[0].cuda(), iou_threshold=0.5).cpu()
    with forced(""):
        assert torch.equal(kept, batched_nms(boxes[0], scores[0], idxs=labels[0], iou_threshold=0.5))
        alone = nms(boxes[0], scores[0], iou_threshold=0.5)
    assert torch.equal(nms(boxes[0].cuda(), scores[0].cuda(), iou_threshold=0.5).cpu(), alone)
    return "refused by name; half, strided and empty input right"


def compiled() -> str:
    """torch.compile(fullgraph=True) and torch.vmap take the op on the GPU."""
    boxes, scores, labels = (tensor.cuda() for tensor in draw(torch.Generator().manual_seed(7), 4, 300))
    wanted = nms_padded(boxes, scores, labels=labels, iou_threshold=0.5)[0]
    run = torch.compile(lambda *case: suppress(*case)[0], fullgraph=True)
    assert torch.equal(run(boxes, scores, labels), wanted)
    mapped = torch.vmap(lambda *case: suppress(*(tensor[None] for tensor in case))[0])
    assert torch.equal(mapped(boxes, scores, labels)[:, 0], wanted)
    return "compile and vmap"


def sanitizers() -> str:
    """memcheck, racecheck, initcheck and synccheck find nothing."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "SKIPPED: no compute-sanitizer on the path"
    for name in ("memcheck", "racecheck", "initcheck", "synccheck"):
        command = [
            tool,
            "--tool",
            name,
            "--error-exitcode",
            "9",
            "--kernel-regex",
            "kns=nms_",
            sys.executable,
            __file__,
        ]
        result = subprocess.run([*command, "--cases", "40", "--only-cases"], capture_output=True, text=True)
        assert result.returncode == 0, f"{name}: {(result.stdout + result.stderr)[-2000:]}"
    return "memcheck, racecheck, initcheck, synccheck"


def checks(cases: int) -> list[tuple[str, Callable[[], str]]]:
    """Return the checks that need nothing but a GPU, with so many random cases in the first."""
    found: list[tuple[str, Callable[[], str]]] = [("random cases", lambda: random_cases(cases))]
    found += [("box_iou", overlaps), ("graph", graph), ("no waiting", no_waiting), ("streams", streams)]
    return [*found, ("poison", poison), ("misuse", misuse), ("compiled", compiled)]


def main() -> int:
    """Run every check and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=2000, help="random cases; default 2000")
    parser.add_argument("--only-cases", action="store_true", help="leave out all but the random cases")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing was checked")
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    os.environ["YOLO_LITE_OPS"] = "cuda"
    warmup("cuda")
    chosen = checks(args.cases)[:1] if args.only_cases else [*checks(args.cases), ("sanitizers", sanitizers)]
    failed = 0
    for name, check in chosen:
        try:
            print(f"{name:<14} ok: {check()}", flush=True)
        except Exception:
            failed += 1
            print(f"{name:<14} FAILED\n{traceback.format_exc()}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
