"""Export a checkpoint, and prove that the file gives the same results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import nn

from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint, network
from yolo_lite.checks import check_path, check_share
from yolo_lite.config.schema import check_image_size
from yolo_lite.errors import InputError, counted, reason
from yolo_lite.exporting.graph import ExportedClassifier, ExportedDetector, RawDetector
from yolo_lite.exporting.onnx import write_onnx
from yolo_lite.exporting.openvino import write_openvino
from yolo_lite.exporting.parity import check_parity, compare_classifications, compare_detections
from yolo_lite.exporting.simplify import simplify
from yolo_lite.files import check_keeps, make_folder
from yolo_lite.media.images import read_image
from yolo_lite.models.classifiers.build import ClassifierNet
from yolo_lite.models.yolo import Yolo
from yolo_lite.predict.classifier import Classifier
from yolo_lite.predict.detector import Detector
from yolo_lite.predict.files import sample_image
from yolo_lite.runtime import Classifier as ExportedFileClassifier
from yolo_lite.runtime import Detector as ExportedFileDetector
from yolo_lite.runtime.info import ExportInfo
from yolo_lite.runtime.session import OUTPUTS, RAW_OUTPUTS
from yolo_lite.shipped import find_weights
from yolo_lite.structures.geometry import Image
from yolo_lite.version import VERSION

_PROVENANCE = ("source", "licence", "changed")


def export(
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: str = "onnx",
    image_size: int | tuple[int, int] | None = None,
    batch: int | None = None,
    score_threshold: float = 0.05,
    raw: bool = False,
    images: Iterable[Path] | None = None,
    check: bool = True,
    say: Callable[[str], None] = lambda line: None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Export a checkpoint to a file that `yolo_lite.runtime` runs without torch.

    Args:
        weights: a file or the bare name of a shipped one.
        out: the file to write; None: the name of the weights with .onnx or .xml, in the current folder.
        format: onnx, for ONNX Runtime; or openvino, whose .xml file has a .bin file beside it.
        image_size: (height, width) of the input, or one number for both; None: that of the weights.
        batch: number of images at once; None: any number.
        score_threshold: the score above which the file returns detections; it can be raised later, not lowered.
        raw: leave out postprocessing: the outputs are boxes [B, A, 4] and scores [B, A, C] of every point.
        images: to compare the results on; None: the sample photograph, whole and in three other shapes.
        check: compare the results with the checkpoint's, and write nothing if they differ.
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
    target = _target(out, source, format=format)
    checkpoint = load_checkpoint(source)
    info = _describe(checkpoint, image_size, raw=raw, score_threshold=check_share(score_threshold, "score_threshold"))
    module = _module(network(checkpoint, source).eval(), info)
    make_folder(target.parent)
    try:
        with TemporaryDirectory(prefix=".export", dir=target.parent) as folder:
            files = _write(module, Path(folder) / target.name, info=info, batch=batch)
            if check and not raw:
                say(_prove(files[-1], source, info=info, images=images, name=target.name, on_image=on_image))
            size = sum(file.stat().st_size for file in files)
            for file in files:  # the weights first, so that an .xml file never stands alone
                os.replace(file, target.with_suffix(file.suffix))
    except OSError as error:
        raise InputError(f"cannot write {target}: {reason(error)}") from error
    say(f"{target}: {size / 1e6:.1f} MB, {info.image_size[0]} x {info.image_size[1]}, {_LABELS[target.suffix]}")
    return target


SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
_LABELS = {".onnx": "ONNX opset 18", ".xml": "OpenVINO, float32"}


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


def _write(module: nn.Module, path: Path, *, info: ExportInfo, batch: int | None) -> list[Path]:
    """Write the files of a format, named by the suffix of `path`, and return them, the one to open last."""
    outputs, shape = RAW_OUTPUTS if info.raw else OUTPUTS[info.task], (*info.image_size, info.channels)
    graph = path.with_suffix(".onnx")
    write_onnx(module, graph, shape=shape, outputs=outputs, batch=batch, text=info.to_text())
    if path.suffix == ".onnx":
        return [graph]
    write_openvino(graph, path, text=info.to_text())
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


def _module(model: nn.Module, info: ExportInfo) -> nn.Module:
    if isinstance(model, ClassifierNet):
        return ExportedClassifier(model).eval()
    assert isinstance(model, Yolo)
    simplify(model)
    if info.raw:
        return RawDetector(model).eval()
    return ExportedDetector(
        model,
        score_threshold=info.lowest_score,
        iou_threshold=info.iou_threshold,
        max_detections=info.max_detections,
    ).eval()


def _prove(
    file: Path,
    source: Path,
    *,
    info: ExportInfo,
    images: Iterable[Path] | None,
    name: str,
    on_image: Callable[[int, int], None],
) -> str:
    """Run the checkpoint and the file on real images, and return a line about them."""
    samples = _photographs() if images is None else {path.name: path for path in images}
    if not samples:
        raise InputError("there are no images to compare the results on; choose other --data")
    is_classifier = info.task == "classify"
    compare = _classification_gate(file, source) if is_classifier else _detection_gate(file, source, info)
    differences: list[str | None] = []
    total = 0
    for sample in samples.values():
        difference, count = compare(read_image(sample, info.max_16bit) if isinstance(sample, Path) else sample)
        differences.append(difference)
        total += count
        on_image(len(differences), len(samples))
    what = "softmax scores" if is_classifier else counted(total, "detection")
    return check_parity(list(samples), differences, source=name, what=what)


def _photographs() -> dict[str, Image | Path]:
    """Return the sample photograph in several shapes, by name."""
    name, photo = sample_image().name, read_image(sample_image())
    height, width = photo.shape[:2]
    return {
        name: photo,
        f"{name}, upper half": photo[: height // 2],
        f"{name}, left half": photo[:, : width // 2],
        f"{name}, mirrored": np.ascontiguousarray(photo[:, ::-1]),
    }


Gate = Callable[[Image], tuple[str | None, int]]  # the difference on an image, and the number of results compared


def _classification_gate(file: Path, source: Path) -> Gate:
    expected, exported = Classifier(source, "cpu"), ExportedFileClassifier(file)
    return lambda image: (compare_classifications(expected(image), exported(image)), 1)


def _detection_gate(file: Path, source: Path, info: ExportInfo) -> Gate:
    low = info.lowest_score
    expected = Detector(source, "cpu", image_size=info.image_size, score_threshold=low)
    exported = ExportedFileDetector(file, score_threshold=low)

    def compare(image: Image) -> tuple[str | None, int]:
        wanted = expected(image)
        difference = compare_detections(
            wanted,
            exported(image),
            iou_threshold=info.iou_threshold,
            score_threshold=low,
            most=info.max_detections,
        )
        return difference, len(wanted)

    return compare
