"""The CUDA kernels: their own text, run on the CPU by emulator.cpp, through the launcher that a GPU would get.

What stands in for the driver checks what a GPU would take for granted: the number, types, sizes and contiguity of the
arguments, the limits of grids and of shared memory. The emulator finds races and missed barriers, and its answers must
be bit for bit those of plain torch. Compiling for real architectures needs NVRTC, but no GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import os
import random
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.ops.test_iou import random_boxes, real_boxes
from tests.ops.test_nms import INF, MAKERS, NAN, SETTINGS, THRESHOLDS, Case, chain, clustered, every_maker, whole_pixels
from yolo_lite.ops import box_iou, cuda, nms_padded
from yolo_lite.ops import iou as iou_module
from yolo_lite.ops.iou import KINDS
from yolo_lite.ops.nms_torch import nms_padded_torch

nms_module = importlib.import_module("yolo_lite.ops.nms")  # the package has a function of that name

TEXTS = {name: (cuda.FOLDER / name).read_text() for name in (*cuda.SOURCES, "overlap.h")}
C_TYPES = {"int": ctypes.c_int, "long long": ctypes.c_longlong, "float": ctypes.c_float, "double": ctypes.c_double}
DTYPES = {"int": torch.int32, "long long": torch.int64, "float": torch.float32, "double": torch.float64}
BLOCK_BYTES = 48 * 1024  # the shared memory that every device grants a block
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")


class Fault(AssertionError):
    """A launch that a GPU would not survive, or not always."""


class Signature(NamedTuple):
    """What the text of a kernel says of it."""

    parameters: list[str]  # their types
    threads: int  # the most in a block


class Source(NamedTuple):
    """A compiled text."""

    library: ctypes.CDLL
    signatures: dict[str, Signature]
    suffix: str  # of the kernels' names, as the launcher knows them


Build = Callable[..., Source]


def signatures_of(text: str, wide: bool = False) -> dict[str, Signature]:
    """Read the kernels of a .cu file, compiled for boxes of float32 or, wide, of float64."""
    text = re.sub(r"\bReal\b", "double" if wide else "float", text)
    pattern = r'extern "C" __global__ void\s+(?:__launch_bounds__\((\d+)\)\s+)?(\w+)\((.*?)\)'
    found = {}
    for threads, name, parameters in re.findall(pattern, text, re.DOTALL):
        kinds = [" ".join(parameter.split()).rpartition(" ")[0] for parameter in parameters.split(",")]
        found[name] = Signature([kind.removeprefix("const ") for kind in kinds], int(threads or 1024))
    return found


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function that compiles a kernel's source, or a changed text of it, for the emulator."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX") or "g++", "g++", "c++"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("the emulator needs Linux and a C++ compiler")
    folder = tmp_path_factory.mktemp("emulator")
    command = [compiler, "-std=c++17", "-fPIC", str(Path(__file__).with_name("emulator.cpp"))]
    subprocess.run([*command, "-O2", "-c", "-o", folder / "emulator.o"], check=True)
    built: dict[tuple[str, str, bool], Source] = {}

    def compile_and_load(name: str, wide: bool = False, **texts: str) -> Source:
        text, header = texts.get("text", TEXTS[name]), texts.get("header", TEXTS["overlap.h"])
        if (text, header, wide) not in built:
            here = folder / str(len(built))
            here.mkdir()
            (here / "overlap.h").write_text(header)
            signatures = signatures_of(text, wide)
            dynamic = re.compile(r"extern __shared__ ([\w ]+) (\w+)\[\];")
            changed = dynamic.sub(r"\1 *const \2 = (\1 *)emulator_dynamic_shared();", text)
            (here / name).write_text(changed + "".join(f"\nCALLABLE({kernel})" for kernel in signatures))
            options = ["-O1", "-ffp-contract=off", "-fsanitize=thread", f"-I{here}", f'-DCUDA_SOURCE="{name}"']
            options += ["-DWIDE"] if wide else []
            subprocess.run([*command, *options, "-c", "-o", here / "kernels.o"], check=True)
            objects = [folder / "emulator.o", here / "kernels.o"]  # without libtsan: emulator.cpp takes its place
            subprocess.run([compiler, "-shared", "-Wl,-z,defs", *objects, "-o", here / "kernels.so"], check=True)
            library = ctypes.CDLL(str(here / "kernels.so"))
            library.emulator_static_shared.restype = ctypes.c_size_t
            library.emulator_launch.restype = ctypes.c_char_p
            built[text, header, wide] = Source(library, signatures, cuda.WIDE if wide else "")
        return built[text, header, wide]

    return compile_and_load


class Driver:
    """Stands in for cuda.bindings.driver and for a device; a seed for each launch orders its threads."""

    stream, context = 77, object()

    def __init__(self, *sources: Source) -> None:
        self.sources = {name + source.suffix: source for source in sources for name in source.signatures}
        self.current: list[object] = []  # the stack of contexts
        self.seed = 0
        self.launches: list[tuple[str, tuple[int, ...], int, int]] = []  # name, grid, threads, bytes
        self.arguments: list[tuple[Any, Any]] = []  # of the launch at hand, as the launcher got them
        self.cut: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda grid: grid  # what makes of a grid a smaller one
        self.status = 0  # what the next launch answers

    def cuCtxPushCurrent(self, context: object) -> tuple[int]:
        assert context is self.context
        self.current.append(context)
        return (0,)

    def cuCtxPopCurrent(self) -> tuple[int, object]:
        return 0, self.current.pop()

    def cuLaunchKernel(
        self,
        function: str,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        block_x: int,
        block_y: int,
        block_z: int,
        shared_bytes: int,
        stream: int,
        packed: tuple[tuple[Any, ...], tuple[Any, ...]],
        extra: int,
    ) -> tuple[int]:
        if self.status:
            return (self.status,)
        source = self.sources[function]
        kernel = function.removesuffix(source.suffix)
        signature = source.signatures[kernel]
        grid, block = (grid_x, grid_y, grid_z), (block_x, block_y, block_z)
        assert self.current == [self.context]
        assert (stream, extra) == (self.stream, 0)
        assert all(1 <= size <= most for size, most in zip(grid, (2**31 - 1, 65535, 65535))), grid
        assert 1 <= block_x * block_y * block_z <= signature.threads
        assert block_z <= 64
        assert shared_bytes >= 0
        assert source.library.emulator_static_shared() + shared_bytes <= BLOCK_BYTES
        assert [type(part) for part in packed] == [tuple, tuple]
        values, kinds = packed
        assert len(values) == len(kinds) == len(signature.parameters)
        slots = []
        for number, (value, kind, parameter) in enumerate(zip(values, kinds, signature.parameters)):
            given = self.arguments[number][0]
            if parameter.endswith("*"):
                assert kind is ctypes.c_void_p
                assert type(value) is int
                if given is None:
                    assert value == 0
                else:
                    assert value == given.data_ptr()
                    assert given.is_contiguous()
                    assert given.dtype == DTYPES[parameter.removesuffix("*")]
                    where = f"argument {number}".encode(), ctypes.c_void_p(value)
                    source.library.emulator_allow(*where, ctypes.c_size_t(given.nbytes))
            else:
                assert kind is C_TYPES[parameter]
                if parameter in ("float", "double"):
                    assert isinstance(value, int | float)
                else:
                    assert type(value) is int
                    assert kind(value).value == value, "does not fit"
            slots.append(kind(value))
        addresses = (ctypes.c_void_p * len(slots))(*map(ctypes.addressof, slots))
        self.seed += 1
        self.launches.append((function, grid, block_x, shared_bytes))
        fault = source.library.emulator_launch(
            getattr(source.library, f"call_{kernel}"),
            addresses,
            (ctypes.c_uint * 3)(*self.cut(grid)),
            (ctypes.c_uint * 3)(*block),
            ctypes.c_size_t(shared_bytes),
            ctypes.c_ulonglong(self.seed),
        )
        if fault:
            raise Fault(f"{function}: {fault.decode()}")
        return (0,)


def plug_in(patch: pytest.MonkeyPatch, *sources: Source) -> Driver:
    """Make the launcher take a stand-in for the device's driver, and every empty tensor be full of rubbish."""
    driver = Driver(*sources)
    launch = cuda._launch

    def noting(*names: Any, **settings: Any) -> None:
        driver.arguments = settings["arguments"]
        launch(*names, **settings)
        assert driver.current == []

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def wrapped(*arguments: Any, **options: Any) -> Tensor:
            tensor = make(*arguments, **options)
            if tensor.numel():
                tensor.view(torch.uint8).fill_(0xA5)
            return tensor

        return wrapped

    patch.setattr(cuda, "_launch", noting)
    functions = {name: name for name in driver.sources}
    patch.setattr(cuda, "_devices", {0: cuda.Kernels(driver, driver.context, functions)})
    patch.setattr(torch.cuda, "current_device", lambda: 0)
    patch.setattr(torch.cuda, "current_stream", lambda device: types.SimpleNamespace(cuda_stream=driver.stream))
    for name in ("empty", "empty_like"):
        patch.setattr(torch, name, poisoned(getattr(torch, name)))
    return driver


@pytest.fixture
def driver(build: Build, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return plug_in(monkeypatch, *(build(name, wide) for name in cuda.SOURCES for wide in (False, True)))


# ------------------------------------------------------------------------------------------------------ suppression


class Batch(NamedTuple):
    """The arguments of a backend's nms_padded."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor | None
    iou_threshold: float
    score_threshold: float = -INF
    max_detections: int = 300


def batch_of(made: list[Case], iou_threshold: float, score_threshold: float, most: int, use_labels: bool) -> Batch:
    """Stack cases of one size, with thresholds rounded as ops.nms rounds them."""
    boxes, scores, labels = (torch.stack(list(part)) for part in zip(*made))
    thresholds = nms_module._float32_floor(iou_threshold), nms_module._float32_floor(score_threshold)
    return Batch(boxes, scores, labels if use_labels else None, *thresholds, most)


def widened(batch: Batch, shift: float = 0.0) -> Batch:
    """Return the same boxes in float64, moved to where float32 no longer tells them apart."""
    return batch._replace(boxes=batch.boxes.double() + shift)


def differs(batch: Batch) -> bool:
    """Whether the kernels' answer is not that of plain torch."""
    wanted = nms_padded_torch(**batch._asdict())
    found = cuda.nms_padded_cuda(**batch._asdict())
    assert [part.dtype for part in found] == [torch.int64, torch.int32]
    return not all(map(torch.equal, found, wanted))


@every_maker
def test_nms_kernels_agree_with_torch(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, make: Callable[[int, torch.Generator], Case]
) -> None:
    """A hundred and more cases for each maker: every size with eight draws of all the rest."""
    draw = random.Random(make.__name__)
    names = set()
    for count in (1, 2, 3, 9, 63, 64, 65, 100, 127, 128, 129, 200, 300):
        for turn in range(8):
            threads, room = draw.choice((64, 128, 256, 512)), draw.choice((0, cuda.SHARED_BYTES))
            monkeypatch.setattr(cuda, "NMS_THREADS", threads)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cuda, "SHARED_BYTES", room)
                images = draw.choice((1, 1, 2, 3)) if count < 200 else 1
                seeds = [1000 * count + 10 * turn + image for image in range(images)]
                made = [make(count, torch.Generator().manual_seed(seed)) for seed in seeds]
                iou_threshold = draw.choice((*THRESHOLDS, 0.0, 1.0))
                score_threshold, most, use_labels = draw.choice((*SETTINGS, (-0.1, count, True), (INF, 3, False)))
                batch = batch_of(made, iou_threshold, score_threshold, most, use_labels)
                if batch.labels is not None and turn % 2:
                    batch = batch._replace(labels=(batch.labels << 32) - 5)  # agree in their low 32 bits
                assert not differs(batch), (count, turn, threads, room, batch)
                names.add(driver.launches[-1][0])
    assert len(driver.launches) == 2 * 13 * 8
    assert names == {"nms_shared", "nms_global"}


@pytest.mark.parametrize("threads", [64, 128, 256, 512])
@pytest.mark.parametrize("room", [0, cuda.SHARED_BYTES], ids=["global", "shared"])
def test_images_of_a_batch_do_not_meet(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, threads: int, room: int
) -> None:
    """Every maker's image in one batch, so that some are done long before others."""
    monkeypatch.setattr(cuda, "NMS_THREADS", threads)
    monkeypatch.setattr(cuda, "SHARED_BYTES", room)
    made = [make(150, torch.Generator().manual_seed(1)) for make in MAKERS]
    for most in (1, 20, 64, 150, 400):
        assert not differs(batch_of(made, 0.35, 0.1, most, True)), most


def test_labels_are_compared_in_all_their_bits(driver: Driver) -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10]]]).expand(1, 100, 4)
    labels = (torch.arange(100) % 3 << 32)[None]
    indices, counts = cuda.nms_padded_cuda(
        boxes, torch.ones(1, 100), labels=labels, iou_threshold=0.5, score_threshold=-INF, max_detections=5
    )
    assert (indices.tolist(), counts.tolist()) == ([[0, 1, 2, -1, -1]], [3])


@every_maker
def test_wide_nms_kernels_agree_with_torch(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, make: Callable[[int, torch.Generator], Case]
) -> None:
    """In float64, also far from zero, where float32 would put every box in the same place."""
    names = set()
    for number, count in enumerate((1, 9, 64, 65, 130, 200)):
        for room in (0, cuda.SHARED_BYTES):
            monkeypatch.setattr(cuda, "SHARED_BYTES", room)
            made = [make(count, torch.Generator().manual_seed(count + image)) for image in range(1 + number % 2)]
            iou_threshold = (*THRESHOLDS, 0.0)[number]
            for shift in (0.0, 2.0**40):
                batch = widened(batch_of(made, iou_threshold, -INF, (300, 20)[number % 2], True), shift)
                assert not differs(batch._replace(iou_threshold=iou_threshold)), (count, room, shift)
                names.add(driver.launches[-1][0])
    assert names == {"nms_shared_wide", "nms_global_wide"}


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [(torch.float16, ""), (torch.float32, ""), (torch.float64, cuda.WIDE), (torch.int32, cuda.WIDE)],
    ids=str,
)
def test_the_op_reaches_the_kernels(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, suffix: str
) -> None:
    """With its casts, its rounding of thresholds and its image that has no boxes."""
    case = whole_pixels(200, torch.Generator().manual_seed(4))
    scores = case.scores.to(dtype) if dtype.is_floating_point else case.scores
    labels = case.labels.to(torch.int16)[None]
    arguments = Batch(case.boxes.to(dtype)[None], scores[None], labels, 0.6, 0.1, 99)._asdict()
    wanted = nms_padded(**arguments)
    for name in nms_module._BACKENDS:
        monkeypatch.setitem(nms_module._BACKENDS, name, cuda.nms_padded_cuda)
    assert all(map(torch.equal, nms_padded(**arguments), wanted))
    assert [launch[0] for launch in driver.launches] == ["nms_keys", f"nms_shared{suffix}"]
    indices, counts = nms_padded(
        torch.zeros(2, 0, 4), torch.zeros(2, 0), labels=None, iou_threshold=0.5, max_detections=3
    )
    assert (indices.tolist(), counts.tolist()) == ([[-1] * 3] * 2, [0, 0])
    assert len(driver.launches) == 2


def test_the_kept_boxes_move_to_global_memory_when_they_are_too_many(driver: Driver) -> None:
    for dtype, suffix in ((torch.float32, ""), (torch.float64, cuda.WIDE)):
        most = cuda.SHARED_BYTES // cuda.KEPT_BYTES[dtype]
        case = chain(most + 40, torch.Generator())
        for room, name in ((most, "nms_shared"), (most + 1, "nms_global")):
            batch = batch_of([case], 0.5, -INF, room, True)
            assert not differs(batch._replace(boxes=batch.boxes.to(dtype)))
            function, grid, threads, shared_bytes = driver.launches[-1]
            assert (function, grid, threads) == (name + suffix, (1, 1, 1), cuda.NMS_THREADS)
            assert shared_bytes == (cuda.KEPT_BYTES[dtype] * most if name == "nms_shared" else 0)


def test_tensors_that_are_not_contiguous_are_copied(driver: Driver) -> None:
    made = [whole_pixels(90, torch.Generator().manual_seed(seed)) for seed in (2, 3)]
    batch = batch_of(made, 0.5, -INF, 50, True)
    assert batch.labels is not None
    boxes = batch.boxes.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    scores, labels = (tensor.T.contiguous().T for tensor in (batch.scores, batch.labels))
    assert not any(tensor.is_contiguous() for tensor in (boxes, scores, labels))
    assert not differs(batch._replace(boxes=boxes, scores=scores, labels=labels))


@pytest.mark.parametrize("count", [1, 255, 256, 257, 700])
@pytest.mark.parametrize("threshold", [-INF, -0.5, 0.0, 0.25, INF], ids=str)
def test_keys_are_scores_above_the_threshold(driver: Driver, count: int, threshold: float) -> None:
    """In all their bits: a radix sort would put -0 below 0."""
    scores = (torch.randn(count, generator=torch.Generator().manual_seed(count)) * 4).round() / 4
    scores[::7], scores[1::7], scores[2::7], scores[3::7] = NAN, INF, -INF, -0.0
    keys = torch.empty_like(scores)
    arguments = [(scores, ctypes.c_void_p), (keys, ctypes.c_void_p), (count, ctypes.c_longlong)]
    arguments.append((threshold, ctypes.c_float))
    cuda._launch(
        "nms_keys", (-(-count // 256), 1, 1), threads=256, shared_bytes=0, arguments=arguments, device=scores.device
    )
    wanted = torch.where(scores > threshold, torch.where(scores == 0, 0.0, scores), -INF)
    assert torch.equal(keys.view(torch.int32), wanted.view(torch.int32))


def test_a_driver_that_refuses_is_an_error_and_leaves_no_context_behind(driver: Driver) -> None:
    driver.status = 719
    with pytest.raises(RuntimeError, match="CUDA error 719"):
        cuda.nms_padded_cuda(
            torch.zeros(1, 2, 4),
            torch.ones(1, 2),
            labels=None,
            iou_threshold=0.5,
            score_threshold=-INF,
            max_detections=2,
        )
    assert driver.current == []


# Each changed text must be found out: by a fault with these words, or, without words, by its answer.
BARRIER = "__syncthreads();"
LAST = "if (threadIdx.x == 0) counts"
MUTANTS = [
    pytest.param("nms.cu", BARRIER, "", number, "race|nobody wrote", id=f"without barrier {number + 1}")
    for number in range(TEXTS["nms.cu"].count(BARRIER))
] + [
    pytest.param(name, old, new, 0, fault, id=id)
    for id, name, old, new, fault in [
        (
            "a barrier that some miss",
            "nms.cu",
            LAST,
            f"if (threadIdx.x < 5) {BARRIER} {LAST}",
            "divergence.* has ended",
        ),
        (
            "two barriers",
            "nms.cu",
            LAST,
            f"if (threadIdx.x) {BARRIER}\nelse\n{BARRIER}\n{LAST}",
            "divergence.* at that",
        ),
        ("a key behind the last", "nms.cu", "place + 1 == total || ", "", "reads 4 bytes .* outside"),
        ("one box too many", "nms.cu", "alive && count + found < most", "alive", "writes . bytes .* outside"),
        ("the label out of place", "nms.cu", "(long long*)memory", "(long long*)((float*)memory + 1)", "a multiple"),
        ("one scratch for all images", "nms.cu", "scratch + blockIdx.x * KEPT_WORDS * room", "scratch", "race"),
        ("IoU equal to the threshold", "overlap.h", "united) > threshold", "united) >= threshold", ""),
        (
            "a threshold not multiplied",
            "overlap.h",
            "intersection >= MUL(threshold, united)",
            "intersection > united",
            "",
        ),
        ("negative overlaps", "overlap.h", "a < 0.0f ? 0.0f : a", "a", ""),
        ("labels of 32 bits", "nms.cu", "const long long label = block_label", "const int label = block_label", ""),
        ("labels unread", "nms.cu", "kept.label[k] != label", "false", ""),
        ("no padding", "nms.cu", "indices[slot] = -1", "", ""),
        ("no count", "nms.cu", "counts[image] = count", "", ""),
        ("rivals of the block forgotten", "nms.cu", "later[first] | ", "", ""),
    ]
]


def changed(text: str, old: str, new: str, number: int) -> str:
    """Replace one occurrence in a text."""
    parts = text.split(old)
    assert len(parts) > number + 1, f"{old!r} is no longer there: think of another mutant"
    return old.join(parts[: number + 1]) + new + old.join(parts[number + 1 :])


def hard_batches() -> Iterator[Batch]:
    """Yield images over several blocks, with exact ratios at the thresholds, wide labels and little room."""
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        made = [whole_pixels(170, generator), clustered(170, generator), chain(170, generator)]
        batch = batch_of(made, (0.5, 0.3)[seed % 2], (-INF, 0.2)[seed // 2], (300, 40)[seed % 2], True)
        assert batch.labels is not None
        yield batch._replace(labels=batch.labels << 32 if seed % 2 else batch.labels)
    yield batch_of([whole_pixels(70, generator)._replace(scores=torch.ones(70))], 0.7, -INF, 70, False)


@pytest.mark.parametrize(("name", "old", "new", "number", "fault"), MUTANTS)
def test_a_broken_kernel_is_found_out(
    build: Build, monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str, number: int, fault: str
) -> None:
    text = changed(TEXTS[name], old, new, number)
    broken = build("nms.cu", text=text) if name == "nms.cu" else build("nms.cu", header=text)
    plug_in(monkeypatch, broken)
    found = []
    for room in (0, cuda.SHARED_BYTES):
        monkeypatch.setattr(cuda, "SHARED_BYTES", room)
        for batch in hard_batches():
            try:
                found.append("differs" if differs(batch) else "agrees")
            except Fault as error:
                found.append(str(error))
    assert any(re.search(fault or "^differs$", words) for words in found), found
    if old == BARRIER:
        assert "agrees" not in found, found


def test_the_hard_batches_pass_with_the_whole_kernel(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (0, cuda.SHARED_BYTES):
        monkeypatch.setattr(cuda, "SHARED_BYTES", room)
        assert not any(map(differs, hard_batches()))


# ---------------------------------------------------------------------------------------------------------- box_iou


def wild_boxes(count: int, seed: int) -> Tensor:
    """Return boxes of which some have NaN or infinite corners."""
    boxes = real_boxes(count, seed)
    spoilt = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    boxes[spoilt < 0.04], boxes[(spoilt > 0.5) & (spoilt < 0.54)], boxes[spoilt > 0.96] = NAN, INF, -INF
    return boxes


def turned_boxes(count: int, seed: int) -> Tensor:
    """Return whole-pixel boxes of which half have their corners in the wrong order."""
    boxes = random_boxes(count, seed)
    boxes[::2] = boxes[::2][:, [2, 1, 0, 3]]
    return boxes


def flat_boxes(count: int, seed: int) -> Tensor:
    """Return boxes of which most are points or lines, with zeros of either sign."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.tensor([-1.0, -0.0, 0.0, 0.0, 2.0])
    ends = torch.randint(0, 5, (count, 2, 2), generator=generator).sort(1).values
    ends[::3, 0] = torch.tensor([2, 2])  # points from 0.0 to -0.0, in height or in both
    ends[::3, 1] = torch.tensor([3, 1])
    return numbers[ends.flatten(1)]


def tiny_boxes(count: int, seed: int) -> Tensor:
    """Return boxes whose areas are denormal or 0, far from 0 beside their size."""
    return real_boxes(count, seed) * 1e-21


@pytest.fixture
def as_if_cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return a context in which ops.box_iou takes every tensor for one on a GPU."""

    @contextlib.contextmanager
    def pretend() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "is_cuda", True)
            patch.setattr(iou_module, "backend", lambda device: "cuda")
            yield

    return pretend


SIZES = [(1, 1), (1, 130), (17, 1), (16, 128), (15, 127), (33, 129), (50, 300)]


def by_kernel(boxes1: Tensor, boxes2: Tensor, kind: str, eps: float = 1e-7) -> Tensor:
    """Run the kernel with angles as ops.box_iou gives them."""
    angles = [iou_module._aspect_angle(boxes) if kind == "ciou" else None for boxes in (boxes1, boxes2)]
    return cuda.box_iou_cuda(boxes1, boxes2, angles1=angles[0], angles2=angles[1], kind=KINDS.index(kind), eps=eps)


def assert_same(found: Tensor, wanted: Tensor, kind: str) -> None:
    """Equal in every value, NaN for NaN; ciou has arctangents, which may be vectorised one way or the other."""
    tolerance = 2e-7 if kind == "ciou" else 0.0
    torch.testing.assert_close(found, wanted, rtol=0.0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "make", [random_boxes, real_boxes, wild_boxes, turned_boxes, flat_boxes, tiny_boxes], ids=lambda make: make.__name__
)
def test_box_iou_kernel_agrees_with_torch(driver: Driver, kind: str, make: Callable[[int, int], Tensor]) -> None:
    for rows, columns in SIZES:
        boxes1, boxes2 = make(2 * rows, rows).view(2, rows, 4), make(2 * columns, columns).view(2, columns, 4)
        for eps in (1e-7, 1e-3):
            assert_same(by_kernel(boxes1, boxes2, kind, eps), box_iou(boxes1, boxes2, kind=kind, eps=eps), kind)
    assert len(driver.launches) == 2 * len(SIZES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "make", [random_boxes, real_boxes, wild_boxes, turned_boxes, flat_boxes, tiny_boxes], ids=lambda make: make.__name__
)
@pytest.mark.parametrize("shift", [0.0, 2.0**40], ids=str)
def test_the_wide_box_iou_kernel_agrees_with_torch(
    driver: Driver, kind: str, make: Callable[[int, int], Tensor], shift: float
) -> None:
    for rows, columns in SIZES[2:6]:
        boxes1, boxes2 = make(2 * rows, rows).view(2, rows, 4), make(2 * columns, columns).view(2, columns, 4)
        boxes1, boxes2 = boxes1.double() + shift, boxes2.double() + shift
        assert_same(by_kernel(boxes1, boxes2, kind), box_iou(boxes1, boxes2, kind=kind), kind)
    assert {launch[0] for launch in driver.launches} == {"box_iou_wide"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_eps_of_zero_is_passed_on(driver: Driver, kind: str) -> None:
    boxes = real_boxes(20, 1)[None]
    assert_same(by_kernel(boxes, boxes.flip(1), kind, 0.0), box_iou(boxes, boxes.flip(1), kind=kind, eps=0.0), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("threads", "rows"), [(32, 16), (128, 1), (128, 7), (64, 40), (256, 10**6)], ids=lambda value: str(value)
)
def test_any_grid_covers_all_the_pairs(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, kind: str, threads: int, rows: int
) -> None:
    """As for more than 65,535 images, or more rows than a grid may have blocks for."""
    monkeypatch.setattr(cuda, "IOU_THREADS", threads)
    monkeypatch.setattr(cuda, "IOU_ROWS", rows)
    driver.cut = lambda grid: (grid[0], grid[1], min(grid[2], 2))
    boxes1, boxes2 = real_boxes(5 * 50, 2).view(5, 50, 4), real_boxes(5 * 70, 3).view(5, 70, 4)
    assert_same(by_kernel(boxes1, boxes2, kind), box_iou(boxes1, boxes2, kind=kind), kind)
    assert driver.launches == [("box_iou", (-(-70 // threads), -(-50 // rows), 5), threads, 0)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64], ids=str)
@pytest.mark.parametrize(
    ("shape1", "shape2"),
    [((9,), (7,)), ((2, 9), (2, 7)), ((3, 1, 9), (2, 7)), ((9,), (2, 3, 7)), ((0, 9), (0, 7)), ((2, 0), (2, 7))],
    ids=str,
)
def test_leading_dimensions_are_broadcast(
    driver: Driver, as_if_cuda: Callable[[], Any], dtype: torch.dtype, shape1: tuple[int, ...], shape2: tuple[int, ...]
) -> None:
    boxes1, boxes2 = (
        random_boxes(math.prod(shape), seed).view(*shape, 4).to(dtype) for seed, shape in enumerate((shape1, shape2))
    )
    for kind in KINDS:
        with as_if_cuda():
            found = box_iou(boxes1, boxes2, kind=kind)
        assert_same(found, box_iou(boxes1, boxes2, kind=kind), kind)
    assert len(driver.launches) == (4 if found.numel() else 0)


@pytest.mark.parametrize(
    ("in_dims", "shape1", "shape2"),
    [
        ((0, 0), (3, 9, 4), (3, 7, 4)),
        ((0, None), (3, 9, 4), (7, 4)),
        ((None, 1), (9, 4), (7, 3, 4)),
        ((2, 0), (9, 4, 3), (3, 2, 7, 4)),
        ((0, None), (3, 9, 4), (2, 5, 7, 4)),
    ],
    ids=str,
)
def test_vmap_is_a_batch(
    driver: Driver,
    as_if_cuda: Callable[[], Any],
    in_dims: tuple[int | None, ...],
    shape1: tuple[int, ...],
    shape2: tuple[int, ...],
) -> None:
    boxes1, boxes2 = torch.rand(shape1), torch.rand(shape2)
    wanted = torch.vmap(box_iou, in_dims)(boxes1, boxes2)
    with as_if_cuda():
        found = torch.vmap(box_iou, in_dims)(boxes1, boxes2)
    assert_same(found, wanted, "iou")
    assert len(driver.launches) == 1


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)], ids=str)
def test_no_pairs_need_no_launch(driver: Driver, shape: tuple[int, int, int]) -> None:
    batch, rows, columns = shape
    for kind in KINDS:
        found = by_kernel(torch.zeros(batch, rows, 4), torch.zeros(batch, columns, 4), kind)
        assert found.shape == shape
        assert found.dtype == torch.float32
    assert driver.launches == []


def test_box_iou_copies_tensors_that_are_not_contiguous(driver: Driver) -> None:
    boxes = real_boxes(60, 4).view(1, 60, 4)
    scattered = boxes.transpose(1, 2).contiguous().transpose(1, 2)
    assert not scattered.is_contiguous()
    for kind in KINDS:
        assert_same(by_kernel(scattered, boxes[:, ::3], kind), box_iou(boxes, boxes[:, ::3], kind=kind), kind)


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("box_iou.cu", "", "", "nothing"),
        ("box_iou.cu", "if (column >= columns) return;", "", "outside"),
        ("box_iou.cu", "first + ROWS < rows ? first + ROWS : rows", "first + ROWS", "outside|race"),
        ("box_iou.cu", "image += gridDim.z", "image += batch", ""),
        ("box_iou.cu", "first += gridDim.y * (long long)ROWS", "first += ROWS", "race"),
        ("box_iou.cu", "hull == 0.0f ? 0.0f : ", "", ""),
        ("overlap.h", "united == 0.0f ? 0.0f : ", "", ""),
        ("overlap.h", "a < 0.0f ? 0.0f : a", "a", ""),
        ("overlap.h", "SUB(ADD(a.area, b.area), intersection)", "ADD(a.area, SUB(b.area, intersection))", ""),
    ],
    ids=["unbroken", "columns", "rows", "images", "grid", "hull", "union", "negative overlaps", "order of a sum"],
)
def test_a_broken_box_iou_is_found_out(
    build: Build, monkeypatch: pytest.MonkeyPatch, name: str, old: str, new: str, fault: str
) -> None:
    text = changed(TEXTS[name], old, new, 0) if old else TEXTS[name]
    broken = build("box_iou.cu", text=text) if name == "box_iou.cu" else build("box_iou.cu", header=text)
    driver = plug_in(monkeypatch, broken)
    driver.cut = lambda grid: (grid[0], grid[1], 1)
    found = []
    for make in (random_boxes, real_boxes, wild_boxes):
        boxes1, boxes2 = make(2 * 45, 5).view(2, 45, 4), make(2 * 70, 6).view(2, 70, 4)
        for kind in ("iou", "giou"):
            try:
                same = torch.isclose(by_kernel(boxes1, boxes2, kind), box_iou(boxes1, boxes2, kind=kind), 0, 0, True)
                found.append("agrees" if same.all() else "differs")
            except Fault as error:
                found.append(str(error))
    if fault == "nothing":
        assert found == ["agrees"] * 6
    else:
        assert any(re.search(fault or "^differs$", words) for words in found), found


# ---------------------------------------------------------------------------------------------------- the compiler


class Use(NamedTuple):
    """What a kernel takes of the device, in registers of a thread and bytes."""

    registers: int
    spilled: int
    shared: int


def used(log: str) -> dict[str, Use]:
    """Read the assembler's report; its lines come kernel by kernel, each after "Compiling entry function"."""
    found = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        (registers,) = re.findall(r"Used (\d+) registers", part)
        stores, loads = re.findall(r"(\d+) bytes spill (?:stores|loads)", part)
        shared = re.findall(r"(\d+) bytes smem", part)
        found[part[: part.index("'")]] = Use(int(registers), int(stores) + int(loads), sum(map(int, shared)))
    return found


@pytest.mark.parametrize("name", cuda.SOURCES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("wide", "most_registers"), [(False, 64), (True, 128)], ids=["float32", "float64"])
def test_kernels_compile_within_their_budget(name: str, architecture: str, wide: bool, most_registers: int) -> None:
    """At most 64 registers, so that blocks of 512 threads fit twice, in float64 once; and none spilled."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
    if int(architecture.removeprefix("sm_")) not in nvrtc.nvrtcGetSupportedArchs()[1]:
        pytest.skip(f"this NVRTC does not know {architecture}")
    compiled = cuda.compile_source(name, architecture, verbose=True, wide=wide)
    assert compiled.cubin.startswith(b"\x7fELF")
    assert "warning" not in compiled.log
    found = used(compiled.log)
    assert sorted(found) == sorted(cuda.SOURCES[name]) == sorted(signatures_of(TEXTS[name]))
    for kernel, use in found.items():
        assert 0 < use.registers <= most_registers, (kernel, use)
        assert use.spilled == 0, (kernel, use)
        assert use.shared + cuda.SHARED_BYTES <= BLOCK_BYTES, (kernel, use)
    for kernel in found:
        assert kernel.encode() in compiled.cubin


@pytest.fixture
def compile_anew() -> Iterable[Callable[..., cuda.Compiled]]:
    """Forget what was compiled, before and after."""
    cuda.compile_source.cache_clear()
    yield cuda.compile_source
    cuda.compile_source.cache_clear()


def test_a_compile_error_is_raised_with_the_log(
    compile_anew: Callable[..., cuda.Compiled], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("cuda.bindings")
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text.replace("int candidates;", "int candidate_count;"))
    monkeypatch.setattr(cuda, "FOLDER", tmp_path)
    with pytest.raises(RuntimeError, match=r'(?s)could not compile nms.cu for sm_90: nms.cu\(\d+\).*"candidates"'):
        compile_anew("nms.cu", "sm_90")
    assert compile_anew("box_iou.cu", "sm_90").cubin  # the other file is whole


def test_an_unknown_architecture_is_an_error_with_the_log(compile_anew: Callable[..., cuda.Compiled]) -> None:
    pytest.importorskip("cuda.bindings")
    with pytest.raises(RuntimeError, match="could not compile box_iou.cu for sm_1: .*gpu-architecture"):
        compile_anew("box_iou.cu", "sm_1")


# ---------------------------------------------------------------------------------------------------------- loading


class Loader:
    """Stands in for cuda.bindings.driver while kernels are loaded."""

    def __init__(self) -> None:
        self.current: list[object] = []
        self.modules: list[bytes] = []

    def cuDeviceGet(self, index: int) -> tuple[int, int]:
        return 0, 10 + index

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[int, int]:
        return 0, 10 * device

    def cuCtxPushCurrent(self, context: object) -> tuple[int]:
        self.current.append(context)
        return (0,)

    def cuCtxPopCurrent(self) -> tuple[int, object]:
        return 0, self.current.pop()

    def cuModuleLoadData(self, cubin: bytes) -> tuple[int, bytes]:
        assert self.current == [130]
        self.modules.append(cubin)
        return 0, cubin

    def cuModuleGetFunction(self, module: bytes, name: bytes) -> tuple[int, tuple[int, bytes]]:
        assert self.current == [130]
        assert name in module
        return 0, (self.modules.index(module), name)


@pytest.fixture
def no_device_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_devices", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 0))


@pytest.mark.usefixtures("no_device_yet")
def test_every_kernel_is_loaded_once_for_the_architecture_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.bindings")
    loader = Loader()
    monkeypatch.setattr("cuda.bindings.driver", loader, raising=False)
    for _ in range(2):
        assert cuda.why_not(torch.device("cuda", 3)) == ""
    assert list(cuda._devices) == [3]
    both = [(name, wide) for name in cuda.SOURCES for wide in (False, True)]
    assert loader.modules == [cuda.compile_source(name, "sm_80", wide=wide).cubin for name, wide in both]
    loaded = cuda._devices[3]
    assert isinstance(loaded, cuda.Kernels)
    assert (loaded.driver, loaded.context, loader.current) == (loader, 130, [])
    wanted = {
        kernel + cuda.WIDE * wide: (place, kernel.encode())
        for place, (name, wide) in enumerate(both)
        for kernel in cuda.SOURCES[name]
    }
    assert loaded.functions == wanted


@pytest.mark.usefixtures("no_device_yet")
def test_what_prevents_loading_is_said_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert "cuda.bindings" in cuda.why_not(torch.device("cuda"))
    monkeypatch.setattr(cuda, "_load", lambda index: pytest.fail("loaded again"))
    assert re.match("(ModuleNotFound|Import)Error: .*cuda.bindings", cuda.why_not(torch.device("cuda", 0)))
    with pytest.raises(RuntimeError, match=r"the CUDA kernels could not be loaded: .*cuda.bindings"):
        cuda.nms_padded_cuda(
            torch.zeros(1, 2, 4),
            torch.ones(1, 2),
            labels=None,
            iou_threshold=0.5,
            score_threshold=-INF,
            max_detections=2,
        )


@pytest.mark.usefixtures("no_device_yet")
def test_nothing_is_loaded_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="warmup"):
        cuda.why_not(torch.device("cuda", 0))
    assert cuda._devices == {}
    cuda._devices[0] = cuda.Kernels(None, None, {})
    assert cuda.why_not(torch.device("cuda", 0)) == ""


def test_compiling_leaves_the_bytes_that_python_shares_alone() -> None:
    pytest.importorskip("cuda.bindings")
    assert cuda.compile_source("box_iou.cu", "sm_80").log == ""  # a log of nothing but its closing zero
    assert [bytes([value])[0] for value in range(256)] == list(range(256))
