"""Train a detector: data, network, loss and evaluation brought together and handed to the loop."""

from __future__ import annotations

import csv
import dataclasses
import functools
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import yolo_lite
from yolo_lite.config import Config, override_config, read_config
from yolo_lite.data.augment import Augmenter
from yolo_lite.data.datasets import DetectionDataset, check_pictures
from yolo_lite.data.discover import fingerprint, read_train_and_val
from yolo_lite.data.loader import EpochSampler, build_loader
from yolo_lite.engine import loop
from yolo_lite.engine.checkpoint import (
    Checkpoint,
    half,
    load_checkpoint,
    save_checkpoint,
)
from yolo_lite.engine.device import describe_hardware, explain_out_of_memory, pick_device, pick_precision, place
from yolo_lite.engine.evaluate import EvaluationSettings, detect_split
from yolo_lite.engine.transfer import most_alike, transfer
from yolo_lite.engine.weights import DEFAULT_WEIGHTS, find_config, find_weights
from yolo_lite.errors import InputError
from yolo_lite.files import check_can_create, make_folder, write_atomically
from yolo_lite.losses.assign import ASSIGNERS, static
from yolo_lite.losses.detection import detection_loss
from yolo_lite.metrics.coco import evaluate_coco
from yolo_lite.models.build import build_detector
from yolo_lite.models.yolo import Yolo
from yolo_lite.ops.iou import KINDS
from yolo_lite.structures import Batch, DetectionSet
from yolo_lite.visualize import plot_results


@dataclass(frozen=True)
class Run:
    """A training run with every setting worked out; kept in last.pt, so that `--resume` needs nothing more.

    The attributes are arguments of `train`.
    """

    data: str
    config: Config = Config()  # noqa: RUF009 - frozen
    weights: str | None = None
    classes: tuple[str, ...] | None = None
    fraction: float = 1.0


@dataclass(frozen=True)
class Listener:
    """How a run tells of itself: lines of text, and a report after each step and each epoch."""

    say: Callable[[str], None] = lambda line: None
    on_step: Callable[[loop.StepReport], None] = lambda report: None
    on_epoch: Callable[[Mapping[str, float], bool], None] = lambda row, best: None


class DetectionTask:
    """What the loop needs to know of detection."""

    metric = "AP"

    def __init__(self, config: Config, train: DetectionSet, val: DetectionSet, device: torch.device) -> None:
        if config.loss.assigner not in ASSIGNERS:
            raise InputError(f"loss.assigner must be one of {', '.join(ASSIGNERS)}, got {config.loss.assigner!r}")
        if config.loss.box not in KINDS:
            raise InputError(f"loss.box must be one of {', '.join(KINDS)}, got {config.loss.box!r}")
        self.config, self.train, self.val, self.device = config, train, val, device
        settings = config.loss
        self.weights = {
            "class": settings.class_weight,
            "box": settings.box_weight,
            "l1": settings.l1_weight,
            "dfl": settings.dfl_weight,
        }
        self.assign = ASSIGNERS[settings.assigner]
        if self.assign is not static:
            self.assign = functools.partial(self.assign, top_k=settings.top_k, alpha=settings.alpha, beta=settings.beta)

    def loss(self, model: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the weighted parts; a dynamic assigner judges badly while the network knows nothing, so it waits."""
        assert isinstance(model, Yolo)
        assign = static if progress < self.config.loss.static_share else self.assign
        raw = model(batch.images.contiguous(memory_format=torch.channels_last))
        bins: int = model.head.BINS  # type: ignore[assignment]
        parts = detection_loss(raw, batch, model.decode, assign, self.config.loss.box, bins, self.config.loss.gamma)
        return {name: self.weights[name] * value for name, value in parts.items()}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return pycocotools' twelve numbers on the validation set."""
        assert isinstance(model, Yolo)
        settings = EvaluationSettings(batch_size=self.config.train.batch_size, workers=self.config.train.workers)
        size, resize = self.config.input.image_size, self.config.input.resize
        rows, _ = detect_split(model, self.train.class_names, self.val, size, resize, self.device, settings)
        return dict(evaluate_coco(self.val, rows).numbers)

    def name_samples(self, batch: Batch) -> list[str]:
        """Return the file names of a batch's pictures."""
        return [self.train.records[index].path.name for index in batch.positions.tolist()]


def train(
    data: str | Path,
    weights: str | Path | None = None,
    config: str | Path | Config | None = None,
    settings: Mapping[str, object] | None = None,
    classes: Sequence[str] | None = None,
    fraction: float = 1.0,
    out: str | Path | None = None,
    device: str = "auto",
    listener: Listener = Listener(),
) -> Path:
    """Train a detector and return the folder with last.pt, best.pt, results.csv and results.png.

    Args:
        data: a folder or YAML file; see data/discover.py.
        weights: start from these (a file or the bare name of a shipped one), which fixes the network and, unless it is
            set, the image size; "none" starts from scratch; None starts from the shipped yolo_lite-shuffle-coco, or,
            where a config is named, from scratch.
        config: a YAML file, the bare name of a shipped one, or a Config; None for configs/finetune.yaml where training
            starts from weights, else for the defaults, yolo_lite-n.
        settings: on top of it, such as {"train.epochs": 50, "input.image_size": [320, 416]}.
        classes: train on these classes of the data only.
        fraction: train on this part of the training pictures, drawn by the seed.
        out: a folder that holds no run yet; None for the next free runs/train-N.
        device: auto, cpu, cuda or mps.
        listener: what to call with news of the run.

    Raises:
        InputError: where anything given cannot be used, or the loss is no longer finite.
    """
    run = plan(data, weights, config, settings, classes, fraction)
    target = Path(out) if out else None
    check_run_folder(target or Path("runs") / "new")
    return _run(run, target, pick_device(device), listener, None)


def resume(out: str | Path | None = None, device: str = "auto", listener: Listener = Listener()) -> Path:
    """Go on with a run from its last finished epoch; `out` None means the newest runs/train-N.

    On the same processor with as many threads the end is bit for bit that of a run which was never stopped.

    Raises:
        InputError: where there is no such run, it is finished, or its data is no longer the same.
    """
    folder, checkpoint, run = stored_run(out)
    if checkpoint.training["epoch"] >= run.config.train.epochs:
        raise InputError(f"the run in {folder} has finished its {run.config.train.epochs} epochs; nothing to resume")
    return _run(run, folder, pick_device(device), listener, checkpoint)


def stored_run(out: str | Path | None) -> tuple[Path, Checkpoint, Run]:
    """Return the folder of a run that was begun (None: the newest runs/train-N), its last.pt, and what was asked for.

    Raises:
        InputError: where there is no such run.
    """
    folder = Path(out) if out else _newest_run()
    checkpoint = load_checkpoint(folder / "last.pt")
    if not checkpoint.training:
        raise InputError(f"{folder / 'last.pt'} holds weights only and cannot be resumed; fine-tune it with --weights")
    plain = checkpoint.training["run"]
    classes = tuple(plain["classes"]) if plain["classes"] else None
    return folder, checkpoint, Run(plain["data"], checkpoint.config, plain["weights"], classes, plain["fraction"])


def plan(
    data: str | Path,
    weights: str | Path | None = None,
    config: str | Path | Config | None = None,
    settings: Mapping[str, object] | None = None,
    classes: Sequence[str] | None = None,
    fraction: float = 1.0,
) -> Run:
    """Work out the run that the arguments of `train` ask for.

    Raises:
        InputError: for a setting that the weights fix, besides what `train` raises.
    """
    if weights is None:
        weights = DEFAULT_WEIGHTS if config is None else "none"
    preset = None if weights == "none" else "finetune"
    base = config if isinstance(config, Config) else _read_named(str(config) if config else preset)
    chosen = dict(settings or {})
    names = tuple(classes) if classes else None
    if weights == "none":
        chosen["train.keep_start"] = 0  # of random weights nothing is worth keeping
        return Run(str(data), override_config(base, chosen), None, names, fraction)
    theirs = load_checkpoint(find_weights(str(weights))).config
    for key in chosen:
        if key.startswith("model.") or key in ("input.mean", "input.std", "input.resize"):
            raise InputError(f"{key} is fixed by --weights {weights}; leave it out, or train from scratch")
    if config is None:
        base = dataclasses.replace(base, input=theirs.input)
    base = override_config(base, chosen)
    mine = dataclasses.replace(base.input, mean=theirs.input.mean, std=theirs.input.std, resize=theirs.input.resize)
    fixed = dataclasses.replace(base, name=theirs.name, model=theirs.model, input=mine)
    return Run(str(data), fixed, str(weights), names, fraction)


def _read_named(config: str | None) -> Config:
    return read_config(find_config(config) if config else None)


def check_run_folder(out: Path) -> None:
    """Raise InputError where a folder holds a run already, or could not be created."""
    if (out / "last.pt").exists() or (out / "best.pt").exists():
        raise InputError(f"{out} already holds a run; add --resume to go on with it, or choose another --out")
    check_can_create(out)


def new_run_folder(out: Path | None) -> Path:
    """Create the folder of a new run: `out`, or the next free runs/train-N, which no other run gets as well."""
    if out:
        check_run_folder(out)
        make_folder(out)
        return out
    make_folder(Path("runs"))
    while True:
        folder = Path("runs") / f"train-{max(_numbered_runs(), default=0) + 1}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue  # another run was faster


def _numbered_runs() -> dict[int, Path]:
    matches = ((re.fullmatch(r"train-(\d+)", path.name), path) for path in Path("runs").glob("train-*"))
    return {int(match[1]): path for match, path in matches if match}


def _newest_run() -> Path:
    runs = {number: folder for number, folder in _numbered_runs().items() if (folder / "last.pt").exists()}
    if not runs:
        raise InputError("no run to resume in runs/; name its folder with --out")
    return runs[max(runs)]


def _run(run: Run, out: Path | None, device: torch.device, listener: Listener, resumed: Checkpoint | None) -> Path:
    config = run.config
    start = None if resumed or run.weights is None else load_checkpoint(find_weights(run.weights))
    precision = pick_precision(config.train.precision, device)
    train_set, val_set, notes = read_train_and_val(run.data, run.classes, run.fraction, config.train.seed)
    for note in notes:
        listener.say(note)
    check_pictures(train_set)
    check_pictures(val_set)
    about = _about(run, train_set, val_set, device, precision)
    model = build_detector(config, len(train_set.class_names), config.train.seed)
    if not run.weights and not resumed:
        listener.say(f"training {config.name} from scratch")
    if start:
        if set(train_set.class_names) - set(start.class_names):
            listener.say("looking for the known class that each new one resembles")
        likeness = most_alike(start, train_set, config.input)
        told = transfer(model, train_set.class_names, start, likeness)
        listener.say(f"starting from {run.weights}: {told}; from scratch: --config nano --weights none")
    model = place(model, device)
    dataset, sampler = _training_data(config, train_set, listener)
    loader = build_loader(dataset, sampler, config.train.workers, device)
    state = loop.new_state(model, config.train, len(sampler) * config.train.epochs)
    task = DetectionTask(config, train_set, val_set, device)
    folder = out if resumed and out else new_run_folder(out)
    if resumed:
        same = ("fingerprint", "val_fingerprint")
        if any(resumed.about[name] != about[name] for name in same):
            raise InputError(
                f"{run.data} is not what the run in {folder} was started on: pictures or boxes have changed"
            )
        about["data"] = resumed.about["data"]
        state.restore(resumed.training)
        listener.say(f"going on in {folder} after epoch {state.epoch} of {config.train.epochs}")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    listener.say(
        f"{config.name}: {parameters:,} parameters, {describe_hardware(device)}, {precision}; writing to {folder}"
    )

    def on_epoch(state: loop.State, best: bool) -> None:
        _save(folder, run, train_set, {**about, "epoch": state.epoch}, state, best)
        listener.on_epoch(state.rows[-1], best)

    size = " x ".join(str(side) for side in config.input.image_size)
    remedy = f"use a smaller --batch-size (now {config.train.batch_size}) or --image-size (now {size})"
    try:
        with explain_out_of_memory(remedy):
            loop.run(task, state, loader, sampler, config.train, device, precision, listener.on_step, on_epoch)
    finally:
        if not any(folder.iterdir()):  # stopped before an epoch was done: as if it had not been begun
            folder.rmdir()
    return folder


def _training_data(config: Config, data: DetectionSet, listener: Listener) -> tuple[DetectionDataset, EpochSampler]:
    augmenter = Augmenter(config.augment, config.input.image_size, config.input.resize)
    listener.say(f"augmentation: {augmenter.describe()}")
    epochs, seed = config.train.epochs, config.train.seed
    strong = round(epochs * (1 - config.augment.off_last))
    dataset = DetectionDataset(data.records, config.input.image_size, config.input.resize, augmenter, strong, seed)
    return dataset, EpochSampler(len(dataset), config.train.batch_size, shuffle=True, seed=seed)


def _about(
    run: Run, train_set: DetectionSet, val_set: DetectionSet, device: torch.device, precision: str
) -> dict[str, Any]:
    return {
        "data": run.data,
        "train": train_set.summary(),
        "val": val_set.summary(),
        "fingerprint": fingerprint(train_set),
        "val_fingerprint": fingerprint(val_set),
        "seed": run.config.train.seed,
        "classes": list(run.classes or ()),
        "fraction": run.fraction,
        "started_from": run.weights,
        "hardware": describe_hardware(device),
        "precision": precision,
        "versions": {
            "yolo_lite": yolo_lite.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }


def _save(folder: Path, run: Run, data: DetectionSet, about: dict[str, Any], state: loop.State, best: bool) -> None:
    about = {**about, "metrics": dict(state.rows[-1])}
    common = (run.config, data.class_names, data.category_ids)
    if best:
        save_checkpoint(folder / "best.pt", Checkpoint(*common, half(state.ema.model.state_dict()), about))
    write_atomically(folder / "results.csv", lambda part: _write_csv(part, state.rows))
    if DetectionTask.metric in state.rows[-1]:
        write_atomically(folder / "results.png", lambda part: plot_results(state.rows, part))
    plain = {"data": str(Path(run.data).resolve()), "weights": run.weights, "fraction": run.fraction}
    training = {**state.to_plain(), "run": {**plain, "classes": list(run.classes or ())}}
    # Last, because an epoch counts as finished once this is there.
    save_checkpoint(folder / "last.pt", Checkpoint(*common, state.ema.model.state_dict(), about, training))


def _write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
