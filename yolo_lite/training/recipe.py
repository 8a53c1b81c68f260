"""Train: data, network, loss and evaluation brought together and handed to the loop."""

from __future__ import annotations

import dataclasses
import functools
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from yolo_lite.checkpoints.checkpoint import Checkpoint, half, load_checkpoint
from yolo_lite.checkpoints.contents import check_optimizer
from yolo_lite.checkpoints.transfer import transfer_backbone
from yolo_lite.checks import check_number, check_path
from yolo_lite.config.resolve import override_config
from yolo_lite.config.schema import Config, TrainConfig
from yolo_lite.data.divide import DEFAULT_SHARES
from yolo_lite.data.pipeline.loader import EpochSampler, build_loader
from yolo_lite.device import (
    be_deterministic,
    describe_hardware,
    explain_compiler,
    explain_out_of_memory,
    keep_freed_memory,
    pick_device,
    pick_precision,
    place,
)
from yolo_lite.draw.fonts import missing_letters
from yolo_lite.errors import InputError, counted, some
from yolo_lite.files import check_can_create, give_back, locked, make_folder
from yolo_lite.shipped import find_weights
from yolo_lite.training import loop
from yolo_lite.training.board import check_board, open_board
from yolo_lite.training.budget import fit_time, measure_pace
from yolo_lite.training.checks import check_batch_norm
from yolo_lite.training.checks import preflight as check_first
from yolo_lite.training.classification import prepare_classification
from yolo_lite.training.detection import prepare_detection
from yolo_lite.training.folder import (
    BEST,
    LAST,
    PREVIOUS,
    complete,
    holds_run,
    is_whole,
    load_last,
    outdated,
    remove_leftovers,
    save_last,
    save_others,
    save_state,
)
from yolo_lite.training.optim.schedule import build_optimizer
from yolo_lite.training.plan import plan, plan_classifier
from yolo_lite.training.pretrain import FOLDER, pretraining_of
from yolo_lite.training.task import Listener, Prepared, Run, strong_epochs
from yolo_lite.version import VERSION

KEPT_OF_KNOWN = 0.4  # train.keep_start where the start knows classes of the data


def train(
    data: str | Path,
    weights: str | Path | None = None,
    *,
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
        data: a folder or YAML file; see data/catalog.py.
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
        preflight: first see whether the network learns eight pictures by heart; see training/checks.py.
        unlabelled: a folder of more pictures, of which only the teacher (`train.teacher`) says what they show.

    Raises:
        InputError: where anything given cannot be used, or the loss is no longer finite.
    """
    run = plan(data, weights, config=config, settings=settings, classes=classes, fraction=fraction)
    return run_planned(
        dataclasses.replace(
            run, difficult=difficult, minutes=_minutes(minutes), unlabelled=str(unlabelled) if unlabelled else None
        ),
        out,
        device=device,
        listener=listener,
        preflight=preflight,
    )


def train_classifier(
    data: str | Path,
    model: str | Path | Config | None = None,
    *,
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
        data: a folder, archive or YAML file; see data/class_catalog.py.
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
    run = plan_classifier(
        data,
        model,
        weights=weights,
        settings=settings,
        classes=classes,
        fraction=fraction,
        per_class=per_class,
        split=split,
    )
    return run_planned(
        dataclasses.replace(run, minutes=_minutes(minutes)), out, device=device, listener=listener, preflight=preflight
    )


def _minutes(minutes: float) -> float:
    if check_number(minutes, "minutes") < 0:
        raise InputError(f"minutes must be at least 0, got {minutes}")
    return float(minutes)


def run_planned(
    run: Run, out: str | Path | None, *, device: str | torch.device, listener: Listener, preflight: bool = True
) -> Path:
    """Train as `plan` or `plan_classifier` worked out; arguments and result as those of `train`."""
    target = Path(check_path(out, "out")) if out else None
    check_run_folder(target or Path("runs") / "new")
    chosen = pick_device(device)
    with _new_folder(target, listener) as folder:
        return _run(run, folder, device=chosen, listener=listener, resumed=None, preflight=preflight)


def resume(
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    *,
    listener: Listener = Listener(),
    data: str | Path | None = None,
    unlabelled: str | Path | None = None,
    workers: int | None = None,
) -> Path:
    """Go on with a run from its last finished epoch.

    On the same processor with as many threads the end is bit for bit that of a run which was never stopped.

    Args:
        out: folder of the run; None means the newest runs/train-N.
        device: auto, cpu, cuda or mps.
        listener: what to call with news of the run.
        data: where the data has moved to; None: it has not.
        unlabelled: where the folder of unlabelled images has moved to.
        workers: as `train.workers`; None: as before.

    Raises:
        InputError: where there is no such run, it still goes on, it is finished, or its data is no longer the same.
    """
    folder, _, _ = stored_run(out)
    with locked(folder, _IN_USE, say=listener.say):
        _, checkpoint, run = stored_run(folder, listener.say)  # anew, since the run may have gone on until now
        run = _moved(run, data, unlabelled=unlabelled, workers=workers)
        done = checkpoint.training["epoch"] >= run.config.train.epochs
        if done and not outdated(folder, checkpoint.training):
            raise InputError(
                f"the run in {folder} has finished its {counted(run.config.train.epochs, 'epoch')}; nothing to resume"
            )
        begun = checkpoint.training["epoch"] > 0  # or else it was stopped while the backbone learnt
        return _run(run, folder, device=pick_device(device), listener=listener, resumed=checkpoint if begun else None)


def _moved(run: Run, data: str | Path | None, *, unlabelled: str | Path | None, workers: int | None) -> Run:
    """Return a run with the new places of its data; raise InputError where the old ones are gone and no new one is given."""
    run = dataclasses.replace(
        run,
        data=run.data if data is None else str(data),
        unlabelled=run.unlabelled if unlabelled is None else str(unlabelled),
        config=run.config if workers is None else override_config(run.config, {"train.workers": workers}),
    )
    for flag, path in (("data", run.data), ("unlabelled", run.unlabelled)):
        if path and not Path(path).exists():
            raise InputError(f"{path} does not exist; if the images have moved, say where: --resume --{flag} PATH")
    return run


def stored_run(out: str | Path | None, say: Callable[[str], None] = lambda line: None) -> tuple[Path, Checkpoint, Run]:
    """Return the folder of a run that was begun (None: the newest runs/train-N), its last.pt, and what was asked for.

    `say` takes a line where last.pt is damaged and the one before it is returned.

    Raises:
        InputError: where there is no such run.
    """
    folder = Path(out) if out else _newest_run()
    checkpoint = load_last(folder, say)
    if not checkpoint.training:
        raise InputError(f"{folder / 'last.pt'} holds weights only and cannot be resumed; fine-tune it with --weights")
    lacking = [name for name in ("data", "fingerprint", "val_fingerprint") if name not in checkpoint.about]
    if lacking and checkpoint.training["epoch"]:
        raise InputError(f"{folder / 'last.pt'} cannot be resumed: it does not say {lacking[0]} of the run")
    return folder, checkpoint, Run.from_plain(checkpoint.training["run"], checkpoint.config)


def check_run_folder(out: Path) -> None:
    """Raise InputError where a folder holds a run already, or could not be created."""
    if holds_run(out):
        raise InputError(f"{out} already holds a run; add --resume to go on with it, or choose another --out")
    if (out / BEST).exists():
        raise InputError(f"{out} holds the {BEST} of a run that cannot go on, having no {LAST}; choose another --out")
    check_can_create(out)


_IN_USE = "a training that still runs writes to it; wait for its end, or choose another --out"


@contextmanager
def _new_folder(out: Path | None, listener: Listener) -> Iterator[Path]:
    """Create the folder of a new run and keep other runs out of it; it goes if nothing is written."""
    folder = new_run_folder(out)
    try:
        with locked(folder, _IN_USE, say=listener.say):
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
        remove_leftovers(out)
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
    runs = {number: folder for number, folder in _numbered_runs().items() if holds_run(folder)}
    if not runs:
        raise InputError("no run to resume in runs/; name its folder with --out")
    return runs[max(runs)]


def _run(
    run: Run,
    folder: Path,
    *,
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
        return _carry_out(run, folder, device=device, listener=listener, resumed=resumed, preflight=preflight)


def _carry_out(
    run: Run, folder: Path, *, device: torch.device, listener: Listener, resumed: Checkpoint | None, preflight: bool
) -> Path:
    began, config = time.perf_counter(), run.config
    listener = dataclasses.replace(listener, say=functools.cache(listener.say))  # what each pass may say is said once
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
    prepared = prepare(run, start, device=device, listener=listener)
    run = _with_kept_start(run, prepared, listener)
    config = run.config
    model = place(prepared.model, device)
    check_batch_norm(prepared, config, batch="--set pretrain.batch_size=" if run.crops else "--batch-size")
    missing = missing_letters(prepared.class_names)
    if missing and not run.crops:
        listener.say(f"note: {missing}")
    if preflight:
        listener.say(check_first(prepared, config, device=device, precision=precision))
    if config.pretrain.crops and not resumed and not run.weights:
        build_optimizer(model, config.train)  # or else what is wrong with its name is found minutes later
        listener.say(_pretrain(run, prepared, folder=folder, device=device, listener=listener))
    if run.minutes and not resumed:
        config = _fit_time(run, prepared, device=device, precision=precision, began=began, listener=listener)
        run = dataclasses.replace(run, config=config)
    about = {**prepared.about, **_about(run, device, precision)}
    sampler = _sampler(prepared, config.train)
    loader = build_loader(
        prepared.dataset,
        sampler,
        workers=config.train.workers,
        device=device,
        collate=prepared.collate,
        say=listener.say,
    )
    fresh = prepared.start.fresh if prepared.start else None
    state = loop.new_state(model, config.train, steps=len(sampler) * config.train.epochs, fresh=fresh)
    if resumed:
        _go_on(state, resumed, run=run, prepared=prepared, about=about, folder=folder, listener=listener)
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
        certificate = {**about, "epoch": state.epoch}
        save_state(folder, config, prepared=prepared, state=state, about=certificate, run=_plain(run), best=best)
        try:
            save_others(folder, config, prepared=prepared, state=state, best=best)
            if board:
                board(state.rows[-1])
        finally:  # stopped in between, the epoch is finished all the same
            listener.on_epoch(state.rows[-1], best)

    on_step = _watch_parts(state.parts, config.train.batch_size, listener)
    loop.run(
        prepared.task,
        state,
        loader=loader,
        sampler=sampler,
        config=config.train,
        device=device,
        precision=precision,
        on_step=on_step,
        on_epoch=on_epoch,
    )
    if state.epoch < config.train.epochs:
        listener.say(f"stopped early: no better epoch than {state.best_epoch} in the last {config.train.patience}")
    return folder


def _with_kept_start(run: Run, prepared: Prepared, listener: Listener) -> Run:
    """Return the run with `train.keep_start` worked out where it is left open (-1), and say so."""
    asked, start = run.config.train.keep_start, prepared.start
    if asked >= 0:
        return run
    if asked != -1:
        raise InputError(f"train.keep_start must be from 0 to 0.99, or -1 for the default, got {asked:g}")
    keep = KEPT_OF_KNOWN if start and start.known else 0.0
    if start:
        why = "the weights know some of the classes" if keep else "all classes are new to the weights"
        listener.say(
            f"fraction of the starting weights that is mixed back in: {keep:g}, since {why} (train.keep_start)"
        )
    train = dataclasses.replace(run.config.train, keep_start=keep)
    return dataclasses.replace(run, config=dataclasses.replace(run.config, train=train))


def _go_on(
    state: loop.State,
    resumed: Checkpoint,
    *,
    run: Run,
    prepared: Prepared,
    about: dict[str, Any],
    folder: Path,
    listener: Listener,
) -> None:
    """Bring state and folder back to those of a checkpoint, where the data is still the same and work is left."""
    resumed = _follow(resumed, run, prepared=prepared, folder=folder)
    about["data"] = resumed.about["data"]
    check_optimizer(resumed.training["optimizer"], state.optimizer, source=str(folder / "last.pt"))
    state.restore(resumed.training)
    remove_leftovers(folder)
    names = outdated(folder, resumed.training)
    if names:
        complete(folder, run.config, prepared=prepared, state=state, names=names)
        listener.say(f"made anew from {LAST}: {', '.join(names)}")
    elif state.finished(run.config.train):
        raise InputError(f"the run in {folder} has stopped early after epoch {state.epoch}; nothing to resume")


def _follow(stored: Checkpoint, run: Run, *, prepared: Prepared, folder: Path) -> Checkpoint:
    """Return last.pt with the present paths of its data; it is written at once where they are new.

    Raises:
        InputError: where the data is not the same, saying what differs.
    """
    differences = _differences(stored, prepared)
    if differences:
        told = "; ".join(differences)
        raise InputError(f"{run.data} is not what the run in {folder} was started on: {told}")
    plain = _plain(run)
    if all(stored.training["run"].get(name) == plain[name] for name in ("data", "unlabelled")):
        return stored
    paths = {"data": run.data, "unlabelled": run.unlabelled}
    training = {**stored.training, "run": plain}
    if training.get("best_checkpoint"):
        best = training["best_checkpoint"]
        training["best_checkpoint"] = {**best, "about": {**best["about"], **paths}}
    moved = dataclasses.replace(stored, about={**stored.about, **paths}, training=training)
    save_last(folder, moved)
    return moved


def _differences(stored: Checkpoint, prepared: Prepared) -> list[str]:
    """Say in what the data differs from that which a run was started on, by the fingerprints of both splits."""
    found = []
    if stored.class_names != prepared.class_names:
        found.append(f"its classes were {some(stored.class_names)}, and are {some(prepared.class_names)}")
    for split, name in (("train", "fingerprint"), ("val", "val_fingerprint")):
        before, now = stored.about[split], prepared.about[split]
        if stored.about[name] == prepared.about[name]:
            continue
        same = f"{split} has other file names, sizes, boxes or labels, or another order, though it still has {now}"
        found.append(same if before == now else f"{split} was {before}, and is {now}")
    return found


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


def _pretrain(run: Run, prepared: Prepared, *, folder: Path, device: torch.device, listener: Listener) -> str:
    """Train the backbone on cut-out objects, or go on with that, give it to the network, and say so."""
    inner = folder / FOLDER
    before = _begun(inner, listener)
    remove_leftovers(folder)
    if holds_run(folder):
        _follow(load_last(folder), run, prepared=prepared, folder=folder)
    else:  # so that --resume knows what was asked for
        weights = half(prepared.model.state_dict())
        checkpoint = Checkpoint(
            run.config, prepared.class_names, category_ids=prepared.category_ids, weights=weights, about=prepared.about
        )
        save_last(folder, dataclasses.replace(checkpoint, training={"run": _plain(run), "epoch": 0}))
    listener.say(f"first the backbone learns to tell the objects, cut out, from each other; writing to {inner}")
    if before is None:
        try:
            with _new_folder(inner, listener):
                _run(pretraining_of(run), inner, device=device, listener=listener, resumed=None)
        finally:
            if not inner.exists():  # stopped before an epoch was done: as if it had not been begun
                for name in (LAST, PREVIOUS):
                    (folder / name).unlink(missing_ok=True)
    elif before.training["epoch"] < run.config.pretrain.crops or outdated(inner, before.training):
        again = dataclasses.replace(Run.from_plain(before.training["run"], before.config), data=run.data)
        _run(
            _moved(again, None, unlabelled=None, workers=run.config.train.workers),
            inner,
            device=device,
            listener=listener,
            resumed=before,
        )
    learnt = load_last(inner)
    return f"the backbone is that of {inner / 'last.pt'}: {transfer_backbone(prepared.model, learnt).summary}"


def _begun(inner: Path, listener: Listener) -> Checkpoint | None:
    """Return where the backbone's own run stands; None where it is to begin, as where nothing of it is whole."""
    if holds_run(inner) and not any(is_whole(inner / name) for name in (LAST, PREVIOUS)):
        listener.say(f"{inner / LAST} is damaged; the backbone learns from the beginning")
        for name in (LAST, PREVIOUS, BEST):
            (inner / name).unlink(missing_ok=True)
    return load_last(inner, listener.say) if holds_run(inner) else None


def _plain(run: Run) -> dict[str, Any]:
    """Return a run as plain values, with paths that hold wherever it is resumed from."""
    more = str(Path(run.unlabelled).resolve()) if run.unlabelled else None
    return {**run.to_plain(), "data": str(Path(run.data).resolve()), "unlabelled": more}


def _sampler(prepared: Prepared, train: TrainConfig) -> EpochSampler:
    total = len(prepared.dataset)  # type: ignore[arg-type]
    return EpochSampler(
        total, train.batch_size, shuffle=True, seed=train.seed, steps=train.steps_per_epoch, repeats=prepared.repeats
    )


def _fit_time(
    run: Run, prepared: Prepared, *, device: torch.device, precision: str, began: float, listener: Listener
) -> Config:
    """Measure a few steps, work out epochs and steps for what is left of the run's minutes, and say so."""
    plain = dataclasses.replace(run.config.train, steps_per_epoch=0)
    pace = measure_pace(prepared, run.config, device=device, precision=precision)
    left = 60 * run.minutes - (time.perf_counter() - began)
    config = fit_time(run.config, pace, steps=len(_sampler(prepared, plain)), seconds=left)
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
            "yolo_lite": VERSION,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }
