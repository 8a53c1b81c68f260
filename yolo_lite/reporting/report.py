"""Evaluate a detector and write a report: report.json with every number, and report.html, drawn from it alone."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from yolo_lite.checkpoints.card import model_card
from yolo_lite.checkpoints.checkpoint import build_from_checkpoint, load_checkpoint, save_checkpoint
from yolo_lite.checks import check_path
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import Evaluation, evaluate, evaluate_detections, read_rows
from yolo_lite.evaluation.exported import EXPORTED, check_exported, evaluate_exported
from yolo_lite.evaluation.images import SILENT, EvaluationListener, Progress
from yolo_lite.files import check_can_create, gone_if_empty, make_folder, write_together
from yolo_lite.predict.detector import Detector
from yolo_lite.reporting.contents import comparison_section, detector_report
from yolo_lite.reporting.page import render_page
from yolo_lite.shipped import find_weights, shipped

_NO_REASONS = (
    "Why objects were missed is known only for a checkpoint that looks at each image once, without --tiles and --tta."
)
RESAMPLES = 1000  # unless evaluate.resamples is set
_ROWS = ".json"


def report(
    weights: str | Path,
    data: str | Path,
    *,
    out: str | Path,
    against: str | Path | None = None,
    split: str = "val",
    settings: Mapping[str, object] | None = None,
    device: str | torch.device = "auto",
    listener: EvaluationListener = SILENT,
) -> dict[str, Any]:
    """Score a detector, write report.json and report.html into a folder, and return what report.json holds.

    Args:
        weights: checkpoint file, bare name of a shipped one, exported file, or COCO result file (.json).
        data: folder, YAML file or annotation file; see data/catalog.py.
        out: the folder; it is made if it does not exist.
        against: another detector of any of these kinds to compare with, on the same images.
        split: val, train or test.
        settings: by key, as for `evaluate`; `evaluate.resamples` is 1000 unless it is given.
        device: auto, cpu, cuda or mps.
        listener: receives the news of the evaluations.

    Raises:
        InputError: if an argument cannot be used.

    Example:
        >>> truth = json.loads(Path("my_images/annotations/instances_val.json").read_text())
        >>> rows = [{**box, "score": 0.9} for box in truth["annotations"]]
        >>> _ = Path("perfect.json").write_text(json.dumps(rows))
        >>> made = report("perfect.json", "my_images", out="seen")
        >>> round(made["headline"][0]["value"], 3), Path("seen/report.html").is_file()
        (1.0, True)
    """
    asked = {"evaluate.resamples": RESAMPLES, **(settings or {})}
    check_can_create(Path(check_path(out, "out")))
    if against is not None:
        check_source(against, data, split=split, settings=asked)
    evaluation = score(weights, data, split=split, settings=asked, device=device, listener=listener)
    rival = None
    if against is not None:
        rival = score(against, data, split=split, settings=asked, device=device, listener=listener)
    content = build_report(evaluation, against=rival, device=device)
    write_report(content, Path(out))
    return content


def score(
    weights: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    settings: Mapping[str, object] | None = None,
    device: str | torch.device = "auto",
    listener: EvaluationListener = SILENT,
) -> Evaluation:
    """Score a checkpoint, an exported file or a COCO result file, whichever the name says.

    Example:
        >>> score("missing.json", "my_images")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: cannot read missing.json: No such file or directory
    """
    if Path(weights).suffix.lower() == _ROWS:
        return evaluate_detections(weights, data, split=split, settings=settings, listener=listener)
    if not is_checkpoint(weights):
        return evaluate_exported(weights, data, split=split, settings=settings, listener=listener)
    return evaluate(weights, data, split=split, settings=settings, device=device, listener=listener)


def check_source(
    weights: str | Path, data: str | Path, *, split: str = "val", settings: Mapping[str, object] | None = None
) -> None:
    """Raise InputError unless `score` can begin with a checkpoint, an exported file or a COCO result file.

    The arguments are those of `score`.

    Example:
        >>> check_source("missing.json", "my_images")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: missing.json does not exist
    """
    suffix = Path(weights).suffix.lower()
    if suffix in EXPORTED:
        check_exported(weights, settings)
    elif suffix != _ROWS:
        source = find_weights(str(weights))
        build_from_checkpoint(load_checkpoint(source), source)
    elif not Path(weights).is_file():
        raise InputError(f"{weights} does not exist")
    else:
        read_rows(weights, data, split=split, settings=settings)


def is_checkpoint(weights: str | Path) -> bool:
    """Return whether a name is that of a checkpoint, and not of an exported file or a COCO result file.

    Example:
        >>> is_checkpoint("best.pt"), is_checkpoint("best.onnx"), is_checkpoint("rows.json")
        (True, False, False)
    """
    return Path(weights).suffix.lower() not in (*EXPORTED, _ROWS)


def build_report(
    evaluation: Evaluation,
    *,
    against: Evaluation | None = None,
    device: str | torch.device = "auto",
    on_image: Progress = lambda done, total: None,
    on_resample: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Return what report.json holds.

    Args:
        evaluation: of the detector that the report is about.
        against: of another on the same data.
        device: where missed objects are explained.
        on_image: called with the number of example images drawn and their total.
        on_resample: called with the number of resamples of the comparison done and their total.

    Example:
        >>> Path("nothing.json").write_text("[]")
        2
        >>> build_report(score("nothing.json", "my_images"))["numbers"]["AP"]
        0.0
    """
    weights, card, detector = evaluation.settings.get("weights"), None, None
    if weights and Path(weights).suffix.lower() not in EXPORTED:
        card, detector = model_card(weights), _explaining(evaluation, device)
    content = detector_report(evaluation, card=card, detector=detector, on_image=on_image)
    if content["threshold"]:
        content["threshold"]["stored"] = False if _is_storable(weights) else None
    if detector is None and content["worst"]["missed"]:
        content["notes"].append(_NO_REASONS)
    if against is not None:
        resamples = evaluation.settings.get("resamples") or RESAMPLES
        content["comparison"] = comparison_section(evaluation, against, resamples=resamples, on_resample=on_resample)
    return content


def _explaining(evaluation: Evaluation, device: str | torch.device) -> Detector | None:
    """Return the detector that was scored; None if its results come from several looks at an image."""
    settings = evaluation.settings
    if settings.get("tiles") or settings.get("tta"):
        return None
    height, width = settings["image_size"]
    return Detector(
        settings["weights"], device, image_size=(height, width), iou_threshold=float(settings["iou_threshold"])
    )


def write_report(content: Mapping[str, Any], out: Path) -> None:
    """Write report.json, and report.html, which is drawn from it alone: both, or neither if one cannot be written.

    Example:
        >>> write_report({"format": "yolo_lite report", "version": 1, "task": "detect", "title": "empty"}, Path("empty"))
        >>> sorted(path.name for path in Path("empty").iterdir())
        ['report.html', 'report.json']
    """
    text = json.dumps(content, indent=1, allow_nan=False)
    page = render_page(json.loads(text))
    with gone_if_empty(out):
        make_folder(out)
        write_together(
            {
                out / "report.json": lambda part: part.write_text(text + "\n", encoding="utf-8"),
                out / "report.html": lambda part: part.write_text(page, encoding="utf-8"),
            }
        )


def check_storable(weights: str | Path) -> Path:
    """Return the path of a checkpoint that a score threshold can be stored into.

    Raises:
        InputError: if the file is not a checkpoint of one's own, or is not writable.

    Example:
        >>> check_storable("yolo_lite-pico-voc5")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: yolo_lite-pico-voc5 is shipped with the package and stays as it is; copy the file first
    """
    path = find_weights(str(weights))
    if path.resolve() in [file.resolve() for file in shipped("weights", ".pt").values()]:
        raise InputError(f"{weights} is shipped with the package and stays as it is; copy the file first")
    if path.suffix.lower() in EXPORTED:
        raise InputError(f"{weights} is an exported file, whose threshold is fixed; store it into the checkpoint")
    for place in (path.absolute().parent, path):  # a new file is written beside it and takes its place
        if not os.access(place, os.W_OK):
            raise InputError(
                f"{place} is not writable, so no threshold can be stored in {path.name}; copy the file first"
            )
    return path


def _is_storable(weights: str | None) -> bool:
    try:
        return bool(weights) and check_storable(str(weights)).is_file()
    except InputError:
        return False


def store_threshold(weights: str | Path, score_threshold: float) -> None:
    """Store a score threshold into a checkpoint, as the default of `detect`.

    Raises:
        InputError: if the file is not a checkpoint of one's own.

    Example:
        >>> from shutil import copy
        >>> from yolo_lite.shipped import find_weights
        >>> _ = copy(find_weights("yolo_lite-pico-voc5"), "own.pt")
        >>> store_threshold("own.pt", 0.25)
        >>> load_checkpoint(Path("own.pt")).score_threshold
        0.25
    """
    path = check_storable(weights)
    checkpoint = load_checkpoint(path)
    config = checkpoint.config
    if config.postprocess.score_threshold >= 0:  # this would go before what is stored
        chosen = dataclasses.replace(config.postprocess, score_threshold=score_threshold)
        config = dataclasses.replace(config, postprocess=chosen)
    about = {**checkpoint.about, "score_threshold": score_threshold}
    save_checkpoint(path, dataclasses.replace(checkpoint, config=config, about=about))
