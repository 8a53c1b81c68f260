"""Export a checkpoint, and prove that the file gives the same results."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint, network
from yolo_lite.checks import check_path, check_share
from yolo_lite.config.schema import check_image_size
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError, reason
from yolo_lite.exporting.gates import OnImage, check_same_accuracy, check_same_results
from yolo_lite.exporting.graph import ExportedClassifier, ExportedDetector, PlainDetector, RawDetector
from yolo_lite.exporting.onnx import store_float16, write_onnx
from yolo_lite.exporting.openvino import write_openvino
from yolo_lite.exporting.program import write_program
from yolo_lite.exporting.simplify import simplify
from yolo_lite.files import check_keeps, make_folder
from yolo_lite.models.classifiers.build import ClassifierNet
from yolo_lite.models.yolo import Yolo
from yolo_lite.runtime.info import ExportInfo
from yolo_lite.runtime.session import OUTPUTS, RAW_OUTPUTS
from yolo_lite.shipped import find_weights
from yolo_lite.version import VERSION

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
PRECISIONS = ("fp32", "fp16")
_LABELS = {".onnx": "ONNX opset 18", ".xml": "OpenVINO", ".pt2": "torch.export"}
_PROVENANCE = ("source", "licence", "changed")


def export(
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str = "onnx",
    precision: str = "fp32",
    image_size: int | tuple[int, int] | None = None,
    batch: int | None = None,
    score_threshold: float = 0.05,
    raw: bool = False,
    data: str | os.PathLike[str] | None = None,
    check: bool = True,
    say: Callable[[str], None] = lambda line: None,
    on_image: OnImage = lambda done, total: None,
) -> Path:
    """Export a checkpoint to a file that runs without this package; `yolo_lite.runtime` runs ONNX and OpenVINO files.

    Args:
        weights: a file or the bare name of a shipped one.
        out: the file to write; None: the name of the weights with the suffix of the format, in the current folder.
        format: onnx; openvino, whose .xml file has a .bin file beside it; or torch-export, a .pt2 file.
        precision: of the stored weights: fp32, or fp16 for half the size; computation stays in float32.
        image_size: (height, width) of the input, or one number for both; None: that of the weights.
        batch: number of images at once; None: any number.
        score_threshold: the score above which the file returns detections; it can be raised later, not lowered.
        raw: leave out postprocessing: the outputs are boxes [B, A, 4] and scores [B, A, C] of every point.
        data: data set on whose validation images both sides are compared; None: the sample photograph, in four shapes.
        check: compare with the checkpoint, and write nothing if the results differ; or, for fp16, if AP is lower.
        say: receives lines about the result.
        on_image: takes the number of images compared and their total.

    Raises:
        InputError: if an argument cannot be used, or the results differ.

    Example:
        >>> path = export("yolo_lite-pico-voc5", "pico.onnx", image_size=64)
        >>> from yolo_lite.runtime import Detector
        >>> Detector(path).class_names
        ('person', 'car', 'cat', 'bus', 'train')
    """
    source = find_weights(check_path(weights, "weights"))
    checkpoint = load_checkpoint(source)
    target = _target(out, source, format=format)
    info = _describe(checkpoint, image_size, raw=raw, score_threshold=check_share(score_threshold, "score_threshold"))
    _check_request(info, format=format, precision=precision, data=data, check=check)
    model = network(checkpoint, source).eval()
    make_folder(target.parent)
    try:
        with TemporaryDirectory(prefix=".export", dir=target.parent) as folder:
            files = _write(model, Path(folder) / target.name, info=info, batch=batch, precision=precision)
            if check:
                say(_prove(files[-1], source, data=data, precision=precision, on_image=on_image))
            size = sum(file.stat().st_size for file in files)
            for file in files:  # the weights first, so that an .xml file never stands alone
                os.replace(file, target.with_suffix(file.suffix))
    except OSError as error:
        raise InputError(f"cannot write {target}: {reason(error)}") from error
    label = f"{_LABELS[target.suffix]}, {'float32' if precision == 'fp32' else 'float16 weights'}"
    say(f"{target}: {size / 1e6:.1f} MB, {info.image_size[0]} x {info.image_size[1]}, {label}")
    return target


def _prove(file: Path, source: Path, *, data: str | os.PathLike[str] | None, precision: str, on_image: OnImage) -> str:
    """Pass a file through the gate for its precision, and return a line about it."""
    if precision != "fp32" and data is not None:
        return check_same_accuracy(file, source, data=os.fspath(data), name=file.name, on_image=on_image)
    images = None if data is None else [record.path for record in read_split(Path(data), "val").records]
    return check_same_results(file, source, images=images, name=file.name, on_image=on_image)


def _check_request(
    info: ExportInfo, *, format: str, precision: str, data: str | os.PathLike[str] | None, check: bool
) -> None:
    """Refuse arguments that do not go together."""
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if info.task == "classify" and data is not None:
        raise InputError("--data is for detectors; a classifier is compared on a sample photograph: leave it out")
    if precision == "fp32":
        return
    if info.task == "classify":
        raise InputError("--fp16 is for detectors, whose AP is measured; leave it out for a classifier")
    if format == "torch-export":
        raise InputError("--fp16 goes with --format onnx and openvino; leave it out for torch-export")
    if info.raw:
        raise InputError("--fp16 needs detections, whose AP is measured; leave out --raw")
    if check and data is None:
        raise InputError("--fp16 needs --data: AP on its validation images must not drop by more than 0.003")


def _target(out: str | os.PathLike[str] | None, source: Path, *, format: str) -> Path:
    """Return the file to write, and check its name."""
    if format not in SUFFIXES:
        raise InputError(f"format must be one of {', '.join(SUFFIXES)}, got {format!r}")
    suffix = SUFFIXES[format]
    target = Path(out) if out is not None else Path(source.stem + suffix)
    if target.suffix != suffix:
        raise InputError(f"the file must end in {suffix}, got {target}")
    check_keeps([source], target)
    return target


def _write(model: nn.Module, path: Path, *, info: ExportInfo, batch: int | None, precision: str) -> list[Path]:
    """Write the files of a format, named by the suffix of `path`, and return them, the one to open last."""
    outputs, shape = RAW_OUTPUTS if info.raw else OUTPUTS[info.task], (*info.image_size, info.channels)
    text = info.to_text()
    if path.suffix == ".pt2":
        module = _module(model, info, detector=PlainDetector)
        write_program(module, path, shape=shape, outputs=outputs, batch=batch, text=text)
        return [path]
    graph = path.with_suffix(".onnx")
    write_onnx(_module(model, info), graph, shape=shape, outputs=outputs, batch=batch, text=text)
    if precision == "fp16":
        store_float16(graph)
    if path.suffix == ".onnx":
        return [graph]
    write_openvino(graph, path, text=text)
    return [path.with_suffix(".bin"), path]


def _describe(
    checkpoint: Checkpoint, image_size: int | tuple[int, int] | None, *, raw: bool, score_threshold: float
) -> ExportInfo:
    config = checkpoint.config
    side = config.input.image_size if image_size is None else image_size
    size = (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))
    is_classifier = checkpoint.is_classifier
    if is_classifier and raw:
        raise InputError("--raw is for detectors; a classifier has no postprocessing")
    if is_classifier and size != config.input.image_size:
        raise InputError("a classifier is exported at the size of its weights; leave out --image-size")
    if not is_classifier:
        check_image_size(size)
    about = {key: checkpoint.about[key] for key in _PROVENANCE if key in checkpoint.about}
    return ExportInfo(
        "classify" if is_classifier else "detect",
        config.name,
        class_names=checkpoint.class_names,
        category_ids=() if is_classifier else checkpoint.category_ids,
        image_size=size,
        channels=config.input.channels,
        resize=config.input.resize,
        max_16bit=config.input.max_16bit,
        score_threshold=0.0 if is_classifier else checkpoint.score_threshold,
        lowest_score=score_threshold,
        iou_threshold=config.postprocess.iou_threshold,
        max_detections=config.postprocess.max_detections,
        raw=raw,
        about={**about, "yolo_lite": VERSION},
    )


def _module(model: nn.Module, info: ExportInfo, detector: type[ExportedDetector] = ExportedDetector) -> nn.Module:
    if isinstance(model, ClassifierNet):
        return ExportedClassifier(model).eval()
    assert isinstance(model, Yolo)
    simplify(model)
    if info.raw:
        return RawDetector(model).eval()
    return detector(
        model,
        score_threshold=info.lowest_score,
        iou_threshold=info.iou_threshold,
        max_detections=info.max_detections,
    ).eval()
