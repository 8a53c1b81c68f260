"""`yolo-lite classify`: the whole way from folders of images to answers, and one clear line for everything that is wrong."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import yolo_lite.cli.runs as cli_runs
from tests.class_images import QUICK, write_class_set
from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yolo_lite.cli import main
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.models.build import build_detector
from yolo_lite.models.classifiers.build import build_classifier

SET = [part for key, value in QUICK.items() for part in ("--set", f"{key}={value}")]
TRAIN = ["classify", "train", "--config", "lenet", "--data", "set", *SET]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs/ land in the test's own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Learn discs and squares from the command line; return (best.pt, data folder with val and test)."""
    root = tmp_path_factory.mktemp("shapes")
    counts = {"train": {"disc": 60, "square": 60}, "val": {"disc": 8, "square": 8}, "test": {"disc": 4, "square": 6}}
    data = write_class_set(root / "set", counts)
    command = ["classify", "train", "--config", "mnist_small", "--data", str(data), "--out", str(root / "run"), *SET]
    assert main([*command, "--epochs", "4", "--batch-size", "12", "--set", "train.lr=0.01"]) == 0
    return root / "run" / "best.pt", data


def few(**splits: dict[str, int]) -> Path:
    """Write a small set into ./set."""
    return write_class_set(
        Path("set"), splits or {"train": {"disc": 10, "square": 10}, "val": {"disc": 3, "square": 3}}
    )


def refused(capsys: Capture, *arguments: str) -> str:
    """Run a command that must fail with one line on stderr; return the line."""
    capsys.readouterr()
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def read_rows(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def save_detector(path: Path, **training: Any) -> Path:
    settings = {
        "model.stem_width": 8,
        "model.widths": [8, 16, 24, 32],
        "model.depths": [1, 1, 1, 1],
        "data.path": "set",
    }
    config = override_config(read_config(None), settings)
    path.parent.mkdir(exist_ok=True)
    weights = build_detector(config, 2).state_dict()
    save_checkpoint(
        path, Checkpoint(config, ("disc", "square"), category_ids=(1, 2), weights=weights, training=training)
    )
    return path


def interrupt_after(monkeypatch: pytest.MonkeyPatch, epoch: int) -> Callable[[], None]:
    """Make training stop as by Ctrl-C after an epoch; return what undoes it."""
    line = cli_runs.epoch_line

    def interrupt(row: dict[str, float], best: bool) -> str:
        if row["epoch"] == epoch:
            raise KeyboardInterrupt
        return line(row, best)

    monkeypatch.setattr(cli_runs, "epoch_line", interrupt)
    return lambda: monkeypatch.setattr(cli_runs, "epoch_line", line)


def test_train_tells_what_it_does_and_what_comes_next(capsys: Capture) -> None:
    few()
    assert main([*TRAIN, "--epochs", "2", "--out", "my run"]) == 0
    told = capsys.readouterr().out
    assert "train: 20 images, 2 classes: disc (10), square (10)" in told
    assert re.search(
        r"^epoch 2: loss .*\| train_accuracy [01]\.\d+ accuracy [01]\.\d+ F1 [01]\.\d+ val_loss ", told, re.MULTILINE
    )
    assert "done: best weights in my run/best.pt" in told
    for what in ("eval", "predict"):
        suggested = next(line for line in told.splitlines() if line.startswith(f"  yolo-lite classify {what}"))
        assert "--weights 'my run/best.pt'" in suggested
    assert "--source your_image.jpg" in suggested
    image = "set/val/disc/disc-000.png"
    assert main([*shlex.split(suggested.replace("your_image.jpg", image))[1:]]) == 0


@pytest.mark.parametrize("on", [None, "val", "test"])
def test_eval_writes_a_report(shapes: tuple[Path, Path], capsys: Capture, on: str | None) -> None:
    """The numbers of the report are counted again from its confusion matrix."""
    which = ["--split", on] if on else []
    assert main(["classify", "eval", "--weights", str(shapes[0]), "--data", str(shapes[1]), *which]) == 0
    told = capsys.readouterr().out
    assert sorted(file.name for file in Path("runs/eval-1").iterdir()) == [
        "confusion.png",
        "examples.png",
        "metrics.json",
    ]
    for name in ("confusion", "examples"):
        with Image.open(f"runs/eval-1/{name}.png") as image:
            assert image.format == "PNG"
    metrics = json.loads(Path("runs/eval-1/metrics.json").read_text())
    confusion = np.array(metrics["confusion"])
    assert confusion.sum(1).tolist() == ([8, 8] if on == "val" else [4, 6])  # test is what is scored unless told
    assert metrics["accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum())
    assert metrics["accuracy"] > 0.8
    assert metrics["settings"]["split"] == (on or "test")
    assert re.search(rf"^accuracy +{metrics['accuracy']:.3f} +{confusion.sum()}$", told, re.MULTILINE)
    assert re.search(r"^square  .* [68]$", told, re.MULTILINE)


def test_eval_repeats_the_accuracy_of_the_best_epoch(shapes: tuple[Path, Path]) -> None:
    command = [
        "classify",
        "eval",
        "--weights",
        str(shapes[0]),
        "--data",
        str(shapes[1]),
        "--split",
        "val",
        "--out",
        "e",
    ]
    assert main(command) == 0
    rows = read_rows(shapes[0].parent / "results.csv")
    scored = json.loads(Path("e/metrics.json").read_text())["accuracy"]
    assert scored == pytest.approx(max(float(row["accuracy"]) for row in rows), abs=1e-5)


def test_predict_says_what_one_image_shows(shapes: tuple[Path, Path], capsys: Capture) -> None:
    for name in ("disc", "square"):
        source = str(shapes[1] / "test" / name / f"{name}-001.png")
        assert main(["classify", "predict", "--weights", str(shapes[0]), "--source", source]) == 0
        assert re.fullmatch(rf"{name} \d+%(, \w+ \d+%)?\n", capsys.readouterr().out)
    assert not Path("runs").exists()


def test_predict_takes_the_first_frame_of_an_animation(shapes: tuple[Path, Path], capsys: Capture) -> None:
    source = Path("still.gif")
    frames = [Image.open(shapes[1] / "test" / name / f"{name}-000.png").convert("RGB") for name in ("disc", "square")]
    frames[0].save(source)
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    told = []
    for name in ("still.gif", "moving.gif"):
        assert main(["classify", "predict", "--weights", str(shapes[0]), "--source", name]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


def test_predict_and_eval_say_what_is_left_out(shapes: tuple[Path, Path], capsys: Capture) -> None:
    shutil.copytree(shapes[1], "set")
    Path("set/test/disc/clip.mp4").write_bytes(b"a video")
    weights = ("--weights", str(shapes[0]))
    assert main(["classify", "predict", *weights, "--source", "set/test/disc"]) == 0
    assert capsys.readouterr().err.startswith("note: left out of set/test/disc: 1 video (clip.mp4)\n")
    assert main(["classify", "eval", *weights, "--data", "set"]) == 0
    assert "note: left out of set: 1 video (clip.mp4)\n" in capsys.readouterr().out


def test_stopped_prediction_writes_what_is_finished(
    shapes: tuple[Path, Path], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo_lite.predict.classifier import Classifier

    left, classify = [2], Classifier._classify

    def stopping(self: Classifier, images: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return classify(self, images)

    monkeypatch.setattr(Classifier, "_classify", stopping)
    sources = [str(shapes[1] / "test" / name) for name in ("disc", "square")]
    command = ["classify", "predict", "--weights", str(shapes[0]), "--batch-size", "3", "--source", *sources]
    assert main(command) == 130
    assert re.search(
        r"^finished 6 of 10 images: .*; scores: runs/predict-1/predictions.csv$", capsys.readouterr().out, re.M
    )
    rows = read_rows("runs/predict-1/predictions.csv")
    assert [Path(row["file"]).name for row in rows] == [
        *(f"disc-00{number}.png" for number in range(4)),
        "square-000.png",
        "square-001.png",
    ]
    assert main(command) == 130
    assert "finished 0 of 10 images: nothing was written" in capsys.readouterr().out
    assert [path.name for path in Path("runs").iterdir()] == ["predict-1"]


def test_predict_writes_a_table_of_a_folder(shapes: tuple[Path, Path], capsys: Capture) -> None:
    shutil.copytree(shapes[1] / "test" / "disc", "in")
    shutil.copytree(shapes[1] / "test" / "square", "in", dirs_exist_ok=True)
    capsys.readouterr()
    assert main(["classify", "predict", "--weights", str(shapes[0]), "--source", "in", "--batch-size", "3"]) == 0
    told = capsys.readouterr().out
    rows = read_rows("runs/predict-1/predictions.csv")
    assert list(rows[0]) == ["file", "class", "score", "disc", "square"]
    assert [row["file"] for row in rows] == sorted(str(file) for file in Path("in").iterdir())
    for row in rows:
        assert float(row["score"]) == max(float(row["disc"]), float(row["square"])) == float(row[row["class"]])
        assert float(row["disc"]) + float(row["square"]) == pytest.approx(1, abs=2e-4)
    right = sum(Path(row["file"]).name.startswith(row["class"]) for row in rows)
    assert right >= 8  # of ten: names and scores belong together
    discs = sum(row["class"] == "disc" for row in rows)
    assert told.startswith(f"10 images: disc {discs}, square {10 - discs}; scores: runs/predict-1/predictions.csv")


def test_predict_skips_what_cannot_be_read_and_counts_it(shapes: tuple[Path, Path], capsys: Capture) -> None:
    shutil.copytree(shapes[1] / "test" / "disc", "in")
    Path("in/disc-001.png").write_text("not an image")
    Path("in/zero.png").write_bytes(b"")
    capsys.readouterr()
    command = ["classify", "predict", "--weights", str(shapes[0]), "--source", "in/*.png", "--out", "deep/rows.csv"]
    assert main([*command, "--batch-size", "2"]) == 0
    captured = capsys.readouterr()
    skipped = captured.err.strip().splitlines()
    assert len(skipped) == 2
    assert skipped[0].startswith("skipped: in/disc-001.png is not an image")
    assert skipped[1].startswith("skipped: in/zero.png is empty")
    assert "3 images: " in captured.out
    assert "; 2 skipped; scores: deep/rows.csv" in captured.out
    files = [row["file"] for row in read_rows("deep/rows.csv")]
    assert files == ["in/disc-000.png", "in/disc-002.png", "in/disc-003.png"]


def test_a_folder_of_nothing_readable_fails(shapes: tuple[Path, Path], capsys: Capture) -> None:
    Path("in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Path("in", name).write_bytes(b"")
    assert main(["classify", "predict", "--weights", str(shapes[0]), "--source", "in"]) == 2
    assert "error: none of 2 images could be read" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_rows_never_replace_an_image(shapes: tuple[Path, Path], capsys: Capture) -> None:
    """As with detect --save-json: a slip in --out must not cost a photograph."""
    shutil.copytree(shapes[1] / "test" / "disc", "in")
    before = Path("in/disc-000.png").read_bytes()
    command = ["classify", "predict", "--weights", str(shapes[0]), "--source", "in", "--out", "in/disc-000.png"]
    assert "in/disc-000.png" in refused(capsys, *command)
    assert Path("in/disc-000.png").read_bytes() == before
    command[-1] = "rows.csv"
    assert main(command) == 0
    assert main(command) == 0  # an older table may be replaced


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.jpg", "none.jpg does not exist"),
        ("empty.jpg", "empty.jpg is empty (0 bytes)"),
        ("void", "no images in the folder void"),
        ("film.mp4", "film.mp4 is a video; classify takes images"),
    ],
)
def test_sources_that_cannot_be_classified_get_one_line(
    shapes: tuple[Path, Path], capsys: Capture, source: str, message: str
) -> None:
    Path("void").mkdir()
    Path("empty.jpg").write_bytes(b"")
    writer = cv2.VideoWriter("film.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for grey in range(3):
        writer.write(np.full((48, 64, 3), grey * 60, np.uint8))
    writer.release()
    assert message in refused(capsys, "classify", "predict", "--weights", str(shapes[0]), "--source", source)


@pytest.mark.slow
@pytest.mark.parametrize("repeat", [True, False], ids=["the same flags and --resume", "--resume alone"])
def test_interrupted_training_resumes_from_the_command_line(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, repeat: bool
) -> None:
    few(**{"": {"bar": 10, "disc": 10, "square": 10}})
    go_on = interrupt_after(monkeypatch, 1)
    chosen = ["--shares", "60/20/20", "--classes", "disc,square", "--per-class", "4", "--fraction", "0.9"]
    command = [*TRAIN, "--epochs", "2", *chosen]
    assert main(command) == 130
    told = capsys.readouterr().out
    assert "finished epochs are saved; continue with: yolo-lite classify train --resume" in told
    go_on()
    same = [part for part in command if part not in ("--config", "lenet")]  # which the run knows
    assert main([*same, "--resume"] if repeat else ["classify", "train", "--resume"]) == 0
    told = capsys.readouterr().out
    assert "resuming runs/train-1 after epoch 1 of 2" in told
    assert "train: 8 images, 2 classes: disc (4), square (4)" in told
    assert "done: best weights in runs/train-1/best.pt" in told
    assert "has finished its 2 epochs" in refused(capsys, "classify", "train", "--resume")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "9"], "train.epochs 2, not 9"),
        (["--weights", "a.pt"], 'train.weights "", not a.pt'),
        (["--classes", "disc"], "data.classes [], not [disc]"),
        (["--per-class", "3"], "data.per_class 0, not 3"),
        (["--fraction", "0.5"], "data.fraction 1, not 0.5"),
        (["--shares", "80/20"], "data.shares 70/15/15, not 80/20"),
        (["--seed", "1"], "train.seed 0, not 1"),
        (["--set", "train.lr=1"], "train.lr 0.002, not 1"),
        (["--freeze"], "classifier.freeze false, not true"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_flags_that_ask_for_another_run_are_refused_on_resume(
    interrupted: Path, capsys: Capture, flags: list[str], message: str
) -> None:
    shutil.copytree(interrupted / "set", "set")
    shutil.copytree(interrupted / "run", "run")
    before = Path("run/last.pt").read_bytes()
    line = refused(capsys, "classify", "train", "--resume", "--out", "run", *flags)
    assert line == f"error: --resume: this run was started with {message}; leave it out"
    assert Path("run/last.pt").read_bytes() == before


def test_a_run_goes_on_with_data_that_has_moved(interrupted: Path, capsys: Capture) -> None:
    shutil.copytree(interrupted / "set", "moved")
    shutil.copytree(interrupted / "run", "run")
    told = "elsewhere does not exist; if the images have moved, use --resume --data NEW_PATH"
    assert told in refused(capsys, "classify", "train", "--resume", "--out", "run", "--data", "elsewhere")
    resumed = ["classify", "train", "--resume", "--out", "run", "--data", "moved", "--set", "train.workers=1"]
    assert main(resumed) == 0
    assert "--data moved" in capsys.readouterr().out
    assert load_checkpoint(Path("run/last.pt")).config.train.workers == 1


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with set/ and run/, which was stopped after the first of two epochs."""
    root = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        few()
        interrupt_after(patch, 1)
        assert main([*TRAIN, "--epochs", "2", "--out", "run"]) == 130
    return root


def test_a_run_with_a_configuration_file_resumes_without_naming_it(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    few()
    Path("my.yaml").write_text(
        "name: mine\nclassifier: {model: lenet}\ninput: {image_size: 32, channels: 1}\naugment: none\n"
        "train: {epochs: 2, batch_size: 8, workers: 0, precision: fp32}\n"
    )
    command, named = ["classify", "train", "--data", "set", "--out", "run"], ["--config", "my.yaml"]
    go_on = interrupt_after(monkeypatch, 1)
    assert main([*command, *named]) == 130
    go_on()
    assert "leave out --config" in refused(capsys, *command, *named, "--resume")
    assert main([*command, "--resume"]) == 0
    assert "resuming run after epoch 1 of 2" in capsys.readouterr().out


def test_a_run_of_the_other_kind_is_not_resumed(interrupted: Path, capsys: Capture) -> None:
    run = str(interrupted / "run")
    line = refused(capsys, "train", "--resume", "--out", run)
    assert f"{run} is a run of classify train; continue it with: yolo-lite classify train --resume" in line
    save_detector(Path("boxes/last.pt"), epoch=0)
    line = refused(capsys, "classify", "train", "--resume", "--out", "boxes")
    assert "boxes is a run of train; continue it with: yolo-lite train --resume" in line


def test_a_run_that_stopped_early_is_not_resumed(capsys: Capture) -> None:
    few()
    still = ["--set", "train.lr=0", "--set", "train.patience=1", "--epochs", "5", "--out", "run"]
    assert main([*TRAIN, *still]) == 0
    assert "stopped early after 1 epoch without improvement; the best was epoch 1" in capsys.readouterr().out
    line = refused(capsys, "classify", "train", "--resume", "--out", "run")
    assert "the run in run stopped early after epoch 2; nothing to resume" in line


def test_training_interrupted_at_once_keeps_nothing_and_says_so(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    few()
    monkeypatch.setattr("yolo_lite.training.loop.train_step", interrupt)
    assert main(TRAIN) == 130
    assert "no epoch was finished, so nothing was saved" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_freeze_trains_the_last_layer_only(capsys: Capture) -> None:
    few()
    start = load_checkpoint(save_detector(Path("in/boxes.pt"))).weights
    command = ["classify", "train", "--weights", "in/boxes.pt", "--freeze", "--data", "set", "--out", "run", *SET]
    assert main([*command, "--epochs", "1"]) == 0
    told = capsys.readouterr().out
    assert "the backbone is frozen; only the last layer is trained" in told
    assert "starting from in/boxes.pt: took its backbone" in told
    ended = load_checkpoint(Path("run/last.pt"))
    backbone = {name: value for name, value in ended.weights.items() if name.startswith("backbone.")}
    assert len(backbone) > 20
    assert all(torch.equal(value, start[name]) for name, value in backbone.items())
    drawn = build_classifier(ended.config, 2).state_dict()
    assert not torch.equal(ended.weights["head.3.weight"], drawn["head.3.weight"])


@pytest.mark.parametrize(
    ("split", "counts"),
    [(None, (12, 4, 4)), ("60/20/20", (12, 4, 4)), ("50/10/40", (10, 2, 8)), ("80/20", (16, 4, 0))],
)
def test_a_folder_of_classes_is_divided(capsys: Capture, split: str | None, counts: tuple[int, int, int]) -> None:
    """Counted by hand: of ten images each; 15 percent are 1.5, rounded to 2, and training gets the rest."""
    few(**{"": {"disc": 10, "square": 10}})
    assert main([*TRAIN, "--epochs", "1", "--out", "run", *(["--shares", split] if split else [])]) == 0
    told = capsys.readouterr().out
    assert f"set has no splits: seed 0 divides each class {split or '70/15/15'}" in told
    assert f"train: {counts[0]} images" in told
    assert f"val: {counts[1]} images" in told
    assert main(["classify", "eval", "--weights", "run/best.pt", "--data", "set", "--out", "e"]) == 0
    settings = json.loads(Path("e/metrics.json").read_text())["settings"]
    assert settings["images"] == (counts[2] or counts[1])  # as it was divided in training
    assert settings["split"] == ("test" if counts[2] else "val")


def test_the_suggested_eval_works_after_choosing_classes(capsys: Capture) -> None:
    few(train={"bar": 6, "disc": 6, "square": 6}, val={"bar": 2, "disc": 2, "square": 2})
    command = [*TRAIN, "--epochs", "1", "--classes", "square,disc", "--per-class", "4", "--out", "run"]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "train: 8 images, 2 classes: square (4), disc (4)" in told
    suggested = next(line for line in told.splitlines() if line.startswith("  yolo-lite classify eval"))
    assert main([*shlex.split(suggested)[1:], "--out", "e"]) == 0
    metrics = json.loads(Path("e/metrics.json").read_text())
    assert list(metrics["classes"]) == ["square", "disc"]
    assert np.sum(metrics["confusion"], 1).tolist() == [2, 2]


def test_the_eval_that_a_resumed_run_suggests_names_the_data(
    interrupted: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(interrupted / "run", "run")
    assert main(["classify", "train", "--resume", "--out", "run"]) == 0
    told = capsys.readouterr().out
    suggested = next(line for line in told.splitlines() if line.startswith("  yolo-lite classify eval"))
    monkeypatch.chdir(interrupted)  # where the run was begun
    command = suggested.replace("run/best.pt", str(interrupted / "run" / "best.pt"))
    assert main([*shlex.split(command)[1:], "--out", "e"]) == 0


def test_training_never_opens_the_test_split_and_eval_names_what_is_broken(capsys: Capture) -> None:
    few(train={"disc": 8, "square": 8}, val={"disc": 2, "square": 2}, test={"disc": 2, "square": 2})
    for file in Path("set/test").rglob("*.png"):
        file.write_text("not an image")
    assert main([*TRAIN, "--epochs", "1", "--out", "run"]) == 0
    command = ("classify", "eval", "--weights", "run/best.pt", "--data", "set", "--out", "e", "--split")
    assert main([*command, "val"]) == 0
    shutil.rmtree("e")
    assert "set/test/disc/disc-000.png is not an image" in refused(capsys, *command, "test")
    assert not Path("e").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "one", "--config", "lenet"], "one/train has one class only (disc); a classifier needs two or more"),
        (["--data", "set", "--config", "lenet", "--classes", "disc"], "has one class only (disc)"),
        (["--data", "set", "--config", "lenet", "--classes", "disc,squre"], "did you mean 'square'?"),
        (["--data", "none", "--config", "lenet"], "none does not exist"),
        (["--config", "lenet"], "classify train needs --data"),
        (["--data", "set", "--config", "lennet"], "did you mean 'lenet'?"),
        (["--data", "set", "--weights", "none"], "name a --config to train from scratch"),
        (["--data", "set", "--config", "lenet", "--shares", "50/20/20"], "--shares takes percentages"),
        (["--data", "set", "--config", "lenet", "--fraction", "0"], "--fraction must be above 0"),
        (
            ["--data", "set", "--config", "lenet", "--set", "train.epochs=-1"],
            "'train.epochs' must be at least 0, got -1",
        ),
        (["--data", "set", "--config", "lenet", "--image-size", "8"], "8 x 8 is too small for lenet"),
        (["--data", "set", "--config", "lenet", "--set", "train.schedule=step"], "train.schedule must be one of"),
        (["--data", "set", "--config", "lenet", "--set", "train.optimizer=adm"], "train.optimizer must be one of"),
        (["--data", "set", "--config", "lenet", "--set", "classifier.loss=mes"], "classifier.loss must be one of"),
        (["--resume", "--out", "none"], "none/last.pt does not exist"),
        (["--resume"], "no run to resume in runs/"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_bad_arguments_get_one_line(capsys: Capture, arguments: list[str], message: str) -> None:
    few()
    write_class_set(Path("one"), {"train": {"disc": 2}, "val": {"disc": 2}})
    assert message in refused(capsys, "classify", "train", *arguments)
    assert not list(Path("runs").glob("*"))


def test_no_per_class_is_refused_by_the_parser(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main([*TRAIN, "--per-class", "0"])
    assert "expected a whole number of at least 1" in capsys.readouterr().err


def test_detectors_and_classifiers_are_not_used_as_each_other(shapes: tuple[Path, Path], capsys: Capture) -> None:
    image = str(shapes[1] / "test" / "disc" / "disc-000.png")
    boxes = str(save_detector(Path("in/boxes.pt")))
    told = "in/boxes.pt is a detector (yolo_lite-n), not a classifier; use it with detect and eval"
    assert told in refused(capsys, "classify", "predict", "--weights", boxes, "--source", image)
    assert told in refused(capsys, "classify", "eval", "--weights", boxes, "--data", str(shapes[1]))
    told = "best.pt is a classifier (mnist_small), which finds no boxes; use it with classify"
    assert told in refused(capsys, "detect", "--weights", str(shapes[0]), "--source", image)
    assert told in refused(capsys, "eval", "--weights", str(shapes[0]), "--data", str(shapes[1]))


def test_eval_names_a_missing_split_and_a_class_that_is_not_known(shapes: tuple[Path, Path], capsys: Capture) -> None:
    few(train={"bar": 2, "disc": 2}, val={"bar": 2, "disc": 2})
    command = ("classify", "eval", "--weights", str(shapes[0]), "--data", "set", "--out", "e")
    assert "set has no split 'test'; found train, val" in refused(capsys, *command, "--split", "test")
    assert "has the class bar, but the weights know only disc, square" in refused(capsys, *command)
    assert not Path("e").exists()
    assert main([*command, "--classes", "disc"]) == 0


def test_an_output_under_a_regular_file_is_refused(shapes: tuple[Path, Path], capsys: Capture) -> None:
    Path("file").write_text("")
    weights, data = str(shapes[0]), str(shapes[1])
    told = "cannot create the folder file/out"
    assert told in refused(capsys, "classify", "eval", "--weights", weights, "--data", data, "--out", "file/out")
    rows = ("classify", "predict", "--weights", weights, "--source", f"{data}/val/disc", "--out", "file/out/rows.csv")
    assert told in refused(capsys, *rows)
    assert told in refused(capsys, "classify", "train", "--config", "lenet", "--data", data, "--out", "file/out")
