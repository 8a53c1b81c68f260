"""Train: data, network, loss and evaluation brought together and handed to the loop."""

from __future__ import annotations

import csv
import dataclasses
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import yaml

import yolo_lite
from yolo_lite.checks import check_number, check_path
from yolo_lite.config import Config, TrainConfig, config_to_dict
from yolo_lite.data.class_sets import DEFAULT_SHARES
from yolo_lite.data.loader import EpochSampler, build_loader
from yolo_lite.engine import loop
from yolo_lite.engine.board import check_board, open_board
from yolo_lite.engine.budget import fit_time, measure_pace
from yolo_lite.engine.checkpoint import (
    Checkpoint,
    half,
    load_checkpoint,
    save_checkpoint,
)
from yolo_lite.engine.classification_task import prepare_classification
from yolo_lite.engine.detection_task import prepare_detection
from yolo_lite.engine.device import (
    be_deterministic,
    describe_hardware,
    explain_compiler,
    explain_out_of_memory,
    keep_freed_memory,
    pick_device,
    pick_precision,
    place,
)
from yolo_lite.engine.plan import plan, plan_classifier
from yolo_lite.engine.preflight import preflight as check_first
from yolo_lite.engine.pretrain import FOLDER, pretraining_of
from yolo_lite.engine.run import Listener, Prepared, Run, strong_epochs
from yolo_lite.engine.schedule import build_optimizer
from yolo_lite.engine.transfer import transfer_backbone
from yolo_lite.engine.weights import find_weights
from yolo_lite.errors import InputError, counted
from yolo_lite.files import check_can_create, give_back, locked, make_folder, write_atomically
from yolo_lite.fonts import missing_letters
from yolo_lite.visualize import draw_sheet, plot_results


def train(
    data: str | Path,
    weights: str | Path | None = None,
    config: str | Path | Config | None = None,
    settings: Mapping[str, object] | None = None,
    classes: Sequence[str] | None = None,
    fraction: float = 1.0,
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    listener: Listener = Listener(),
    difficult: bool = False,
    minutes: float = 0.0,
    preflight: bool = True,
    unlabelled: str | Path | None = None,
) -> Path:
    """Train a detector and return its folder: last.pt, best.pt, results, settings, sheets of samples.

    From then on the process keeps the memory that it frees (`device.keep_freed_memory`); `train_classifier` does so as well.

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
        difficult: learn and score PASCAL VOC's difficult objects as others, instead of ignoring them.
        minutes: that the run may take, by which the number of epochs and steps is worked out; 0: as `settings` say.
        preflight: first see whether the network learns eight pictures by heart; see engine/preflight.py.
        unlabelled: a folder of more pictures, of which only the teacher (`train.teacher`) says what they show.

    Raises:
        InputError: where anything given cannot be used, or the loss is no longer finite.
    """
    run = plan(data, weights, config, settings, classes, fraction)
    return run_planned(
        dataclasses.replace(
            run, difficult=difficult, minutes=_minutes(minutes), unlabelled=str(unlabelled) if unlabelled else None
        ),
        out,
        device,
        listener,
        preflight,
    )


def train_classifier(
    data: str | Path,
    model: str | Path | Config | None = None,
    weights: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    classes: Sequence[str] | None = None,
    fraction: float = 1.0,
    per_class: int = 0,
    split: str = DEFAULT_SHARES,
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    listener: Listener = Listener(),
    minutes: float = 0.0,
    preflight: bool = True,
) -> Path:
    """Train a classifier and return its folder: last.pt, best.pt, results, settings, sheets of samples.

    Args:
        data: a folder, archive or YAML file; see data/class_sets.py.
        model: the bare name of a configuration in configs/classify, a YAML file or a Config; None for what fits the
            weights.
        weights: start from these: of a classifier, or of a detector with the same backbone; "none" starts from scratch;
            None starts from the shipped yolo_lite-shuffle-coco, or, where a model is named, from scratch.
        settings: on top of it, such as {"train.epochs": 5, "classifier.freeze": True}.
        classes: only these classes of the data.
        fraction: train on this part of the training pictures of each class, drawn by the seed.
        per_class: and on so many of each class at most; 0: all.
        split: how a folder of classes without splits is divided, in percent: train/val/test.
        out: a folder that holds no run yet; None for the next free runs/train-N.
        device: auto, cpu, cuda or mps.
        listener: what to call with news of the run.
        minutes, preflight: as for `train`.

    Raises:
        InputError: where anything given cannot be used, or the loss is no longer finite.
    """
    run = plan_classifier(data, model, weights, settings, classes, fraction, per_class, split)
    return run_planned(dataclasses.replace(run, minutes=_minutes(minutes)), out, device, listener, preflight)


def _minutes(minutes: float) -> float:
    if check_number(minutes, "minutes") < 0:
        raise InputError(f"minutes must be at least 0, got {minutes}")
    return float(minutes)


def run_planned(
    run: Run, out: str | Path | None, device: str | torch.device, listener: Listener, preflight: bool = True
) -> Path:
    """Train as `plan` or `plan_classifier` worked out; arguments and result as those of `train`."""
    target = Path(check_path(out, "out")) if out else None
    check_run_folder(target or Path("runs") / "new")
    chosen = pick_device(device)
    with _new_folder(target, listener) as folder:
        return _run(run, folder, chosen, listener, None, preflight)


def resume(out: str | Path | None = None, device: str | torch.device = "auto", listener: Listener = Listener()) -> Path:
    """Go on with a run from its last finished epoch; `out` None means the newest runs/train-N.

    On the same processor with as many threads the end is bit for bit that of a run which was never stopped.

    Raises:
        InputError: where there is no such run, it still goes on, it is finished, or its data is no longer the same.
    """
    folder, _, _ = stored_run(out)
    with locked(folder, _IN_USE, listener.say):
        _, checkpoint, run = stored_run(folder)  # anew, since the run may have gone on until now
        if checkpoint.training["epoch"] >= run.config.train.epochs:
            raise InputError(
                f"the run in {folder} has finished its {counted(run.config.train.epochs, 'epoch')}; nothing to resume"
            )
        begun = checkpoint.training["epoch"] > 0  # or else it was stopped while the backbone learnt
        return _run(run, folder, pick_device(device), listener, checkpoint if begun else None)


def stored_run(out: str | Path | None) -> tuple[Path, Checkpoint, Run]:
    """Return the folder of a run that was begun (None: the newest runs/train-N), its last.pt, and what was asked for.

    Raises:
        InputError: where there is no such run.
    """
    folder = Path(out) if out else _newest_run()
    checkpoint = load_checkpoint(folder / "last.pt")
    if not checkpoint.training:
        raise InputError(f"{folder / 'last.pt'} holds weights only and cannot be resumed; fine-tune it with --weights")
    return folder, checkpoint, Run.from_plain(checkpoint.training["run"], checkpoint.config)


def check_run_folder(out: Path) -> None:
    """Raise InputError where a folder holds a run already, or could not be created."""
    if (out / "last.pt").exists() or (out / "best.pt").exists():
        raise InputError(f"{out} already holds a run; add --resume to go on with it, or choose another --out")
    check_can_create(out)


_IN_USE = "a training that still runs writes to it; wait for its end, or choose another --out"


@contextmanager
def _new_folder(out: Path | None, listener: Listener) -> Iterator[Path]:
    """Create the folder of a new run and keep other runs out of it; it goes if nothing is written."""
    folder = new_run_folder(out)
    try:
        with locked(folder, _IN_USE, listener.say):
            check_run_folder(folder)  # again, since another run may have ended in it meanwhile
            yield folder
    finally:
        if out is None:
            give_back(folder)
        else:
            with suppress(OSError):  # what is not empty stays
                folder.rmdir()


def new_run_folder(out: Path | None) -> Path:
    """Create the folder of a new run: `out`, or the next free runs/train-N, which no other run gets as well."""
    if out:
        check_run_folder(out)
        make_folder(out)
        return out
    while True:
        make_folder(Path("runs"))
        folder = Path("runs") / f"train-{max(_numbered_runs(), default=0) + 1}"
        try:
            folder.mkdir()
            return folder
        except (FileExistsError, FileNotFoundError):
            continue  # another run was faster, or has just given its own back and with it runs/


def _numbered_runs() -> dict[int, Path]:
    matches = ((re.fullmatch(r"train-(\d+)", path.name), path) for path in Path("runs").glob("train-*"))
    return {int(match[1]): path for match, path in matches if match}


def _newest_run() -> Path:
    runs = {number: folder for number, folder in _numbered_runs().items() if (folder / "last.pt").exists()}
    if not runs:
        raise InputError("no run to resume in runs/; name its folder with --out")
    return runs[max(runs)]


def _run(
    run: Run,
    folder: Path,
    device: torch.device,
    listener: Listener,
    resumed: Checkpoint | None,
    preflight: bool = False,
) -> Path:
    """Train, and say what to do where memory runs out or torch.compile fails; return the folder."""
    train = run.config.train
    size = " x ".join(str(side) for side in run.config.input.image_size)
    remedy = f"use a smaller --batch-size (now {train.batch_size}) or --image-size (now {size})"
    with explain_out_of_memory(remedy), explain_compiler():
        return _carry_out(run, folder, device, listener, resumed, preflight)


def _carry_out(
    run: Run,
    folder: Path,
    device: torch.device,
    listener: Listener,
    resumed: Checkpoint | None,
    preflight: bool,
) -> Path:
    began, config = time.perf_counter(), run.config
    keep_freed_memory()
    if config.train.deterministic:
        be_deterministic()
    if config.train.tensorboard:
        check_board()
    start = None if resumed or run.weights is None else load_checkpoint(find_weights(run.weights))
    precision = pick_precision(config.train.precision, device)
    if not run.weights and not resumed and config.classifier.model != "resnet50":  # which may have weights of ImageNet
        listener.say(f"training {config.name} from scratch")
    prepare = prepare_detection if config.classifier.model == "none" else prepare_classification
    prepared = prepare(run, start, device, listener)
    model = place(prepared.model, device)
    missing = missing_letters(prepared.class_names)
    if missing and not run.crops:
        listener.say(f"note: {missing}")
    if preflight:
        listener.say(check_first(prepared, config, device, precision))
    if config.pretrain.crops and not resumed and not run.weights:
        build_optimizer(model, config.train)  # or else what is wrong with its name is found minutes later
        listener.say(_pretrain(run, prepared, folder, device, listener))
    if run.minutes and not resumed:
        config = _fit_time(run, prepared, device, precision, began, listener)
        run = dataclasses.replace(run, config=config)
    about = {**prepared.about, **_about(run, device, precision)}
    sampler = _sampler(prepared, config.train)
    loader = build_loader(prepared.dataset, sampler, config.train.workers, device, prepared.collate)
    state = loop.new_state(model, config.train, len(sampler) * config.train.epochs)
    if resumed:
        _go_on(state, resumed, run, about, folder)
        listener.say(f"going on in {folder} after epoch {state.epoch} of {config.train.epochs}")
    if config.train.compile:
        model.compile()
        listener.say("torch.compile: the first step takes minutes")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    listener.say(
        f"{config.name}: {counted(parameters, 'parameter')}, {describe_hardware(device)}, {precision}; writing to {folder}"
    )

    board = open_board(folder) if config.train.tensorboard else None

    def on_epoch(state: loop.State, best: bool) -> None:
        _save(folder, run, prepared, {**about, "epoch": state.epoch}, state, best)
        if board:
            board(state.rows[-1])
        listener.on_epoch(state.rows[-1], best)

    on_step = _watch_parts(state.parts, config.train.batch_size, listener)
    loop.run(prepared.task, state, loader, sampler, config.train, device, precision, on_step, on_epoch)
    if state.epoch < config.train.epochs:
        listener.say(f"stopped early: no better epoch than {state.best_epoch} in the last {config.train.patience}")
    return folder


def _go_on(state: loop.State, resumed: Checkpoint, run: Run, about: dict[str, Any], folder: Path) -> None:
    """Bring the state back to that of a checkpoint, where the data is still the same and epochs are left."""
    if any(resumed.about[name] != about[name] for name in ("fingerprint", "val_fingerprint")):
        raise InputError(f"{run.data} is not what the run in {folder} was started on: pictures or labels have changed")
    about["data"] = resumed.about["data"]
    state.restore(resumed.training)
    if state.finished(run.config.train):
        raise InputError(f"the run in {folder} has stopped early after epoch {state.epoch}; nothing to resume")


def _watch_parts(parts: int, batch_size: int, listener: Listener) -> Callable[[loop.StepReport], None]:
    """Return what passes reports of steps on, and says when memory made the batch go through in more parts."""
    most = [parts]

    def on_step(report: loop.StepReport) -> None:
        if report.parts > most[-1]:
            most.append(report.parts)
            smaller = -(-batch_size // report.parts)
            listener.say(
                f"the device ran out of memory: batches now go through it {counted(smaller, 'picture')} at a time"
            )
        listener.on_step(report)

    return on_step


def _pretrain(run: Run, prepared: Prepared, folder: Path, device: torch.device, listener: Listener) -> str:
    """Train the backbone on cut-out objects, or go on with that, give it to the network, and say so."""
    inner = folder / FOLDER
    before = load_checkpoint(inner / "last.pt") if (inner / "last.pt").exists() else None
    if not (folder / "last.pt").exists():  # so that --resume knows what was asked for
        weights = half(prepared.model.state_dict())
        checkpoint = Checkpoint(run.config, prepared.class_names, prepared.category_ids, weights, prepared.about)
        save_checkpoint(folder / "last.pt", dataclasses.replace(checkpoint, training={"run": _plain(run), "epoch": 0}))
    listener.say(f"first the backbone learns to tell the objects, cut out, from each other; writing to {inner}")
    if before is None:
        try:
            with _new_folder(inner, listener):
                _run(pretraining_of(run), inner, device, listener, None)
        finally:
            if not inner.exists():  # stopped before an epoch was done: as if it had not been begun
                (folder / "last.pt").unlink()
    elif before.training["epoch"] < run.config.pretrain.crops:
        _run(Run.from_plain(before.training["run"], before.config), inner, device, listener, before)
    learnt = load_checkpoint(inner / "last.pt")
    return f"the backbone is that of {inner / 'last.pt'}: {transfer_backbone(prepared.model, learnt)}"


def _plain(run: Run) -> dict[str, Any]:
    """Return a run as plain values, with paths that hold wherever it is resumed from."""
    more = str(Path(run.unlabelled).resolve()) if run.unlabelled else None
    return {**run.to_plain(), "data": str(Path(run.data).resolve()), "unlabelled": more}


def _sampler(prepared: Prepared, train: TrainConfig) -> EpochSampler:
    total = len(prepared.dataset)  # type: ignore[arg-type]
    return EpochSampler(total, train.batch_size, True, train.seed, train.steps_per_epoch, prepared.repeats)


def _fit_time(
    run: Run, prepared: Prepared, device: torch.device, precision: str, began: float, listener: Listener
) -> Config:
    """Measure a few steps, work out epochs and steps for what is left of the run's minutes, and say so."""
    plain = dataclasses.replace(run.config.train, steps_per_epoch=0)
    pace = measure_pace(prepared, run.config, device, precision)
    left = 60 * run.minutes - (time.perf_counter() - began)
    config = fit_time(run.config, pace, len(_sampler(prepared, plain)), left)
    if run.crops and config.train.epochs >= run.config.train.epochs:
        return run.config  # a backbone learns no longer than it was to
    prepared.dataset.strong_epochs = strong_epochs(config)  # type: ignore[attr-defined]
    batches = len(_sampler(prepared, config.train))
    listener.say(
        f"{run.minutes:g} min: a step takes {pace.step:.2f} s, an evaluation {pace.evaluation:.1f} s, which makes "
        f"{counted(config.train.epochs, 'epoch')} of {counted(batches, 'step')}"
    )
    return config


def _about(run: Run, device: torch.device, precision: str) -> dict[str, Any]:
    return {
        "data": run.data,
        "seed": run.config.train.seed,
        "classes": list(run.classes or ()),
        "fraction": run.fraction,
        "per_class": run.per_class,
        "split": run.split,
        "difficult": run.difficult,
        "minutes": run.minutes,
        "unlabelled": run.unlabelled,
        "started_from": run.weights,
        "hardware": describe_hardware(device),
        "precision": precision,
        "versions": {
            "yolo_lite": yolo_lite.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }


def _save(folder: Path, run: Run, prepared: Prepared, about: dict[str, Any], state: loop.State, best: bool) -> None:
    about = {**about, "metrics": dict(state.rows[-1])}
    common, task = (run.config, prepared.class_names, prepared.category_ids), prepared.task
    if best:
        save_checkpoint(folder / "best.pt", Checkpoint(*common, half(state.ema.model.state_dict()), about))
        write_atomically(folder / "validation.jpg", lambda part: draw_sheet(task.predictions(state.ema.model), part))
    if not (folder / "config.yaml").exists():
        text = yaml.safe_dump(config_to_dict(run.config), sort_keys=False)
        write_atomically(folder / "config.yaml", lambda part: part.write_text(text, encoding="utf-8"))
        write_atomically(folder / "training.jpg", lambda part: draw_sheet(task.samples(prepared.dataset), part))
    write_atomically(folder / "results.csv", lambda part: _write_csv(part, state.rows))
    if prepared.task.metric in state.rows[-1]:
        write_atomically(folder / "results.png", lambda part: plot_results(state.rows, part))
    training = {**state.to_plain(), "run": _plain(run)}
    # Last, because an epoch counts as finished once this is there.
    save_checkpoint(folder / "last.pt", Checkpoint(*common, state.ema.model.state_dict(), about, training))


def _write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
