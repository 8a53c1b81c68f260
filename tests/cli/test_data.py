"""`data subset`, `data stats` and `data show` from the command line: what they say, draw and refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.care.test_subset import crowded, save
from yolo_lite.cli import main
from yolo_lite.draw.colours import class_colour
from yolo_lite.draw.plots import plot_stats
from yolo_lite.draw.sheets import SheetImage, draw_sheet
from yolo_lite.training.plan import plan
from yolo_lite.training.task import Listener
from yolo_lite.training.tasks.detection import DetectionTask

MakeSet = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stats.png and samples.png land in the test's own folder."""
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["data", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_subset_says_what_it_takes(coco_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(coco_set({"train": 8, "val": 4}))
    assert main(["data", "subset", "--data", data, "--images", "5", "--seed", "3", "--out", "small"]) == 0
    told = capsys.readouterr()
    assert "train: 5 of 8 images, 10 of 16 annotations, 2 of 2 classes" in told.out
    assert "val: 5 are asked for, but there are only 4 images: all are taken" in told.out
    assert told.err == ""
    assert main(["data", "check", "--data", "small"]) == 0
    assert len(json.loads(Path("small/annotations/instances_train.json").read_text())["images"]) == 5


def test_subset_refuses_in_one_line(coco_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(coco_set())
    command = ("subset", "--data", data, "--out")
    assert "did you mean 'disc'?" in refused(capsys, *command, "a", "--classes", "dics")
    assert "has no split 'test'; found train, val" in refused(capsys, *command, "a", "--split", "train", "test")
    assert "is not empty" in refused(capsys, *command, data)
    assert not Path("a").exists()
    with pytest.raises(SystemExit) as stopped:
        main(["data", *command, "a", "--seed", "-1"])
    assert stopped.value.code == 2
    assert "--seed: expected a whole number from 0 to 2**53, got '-1'" in capsys.readouterr().err


@pytest.mark.slow
def test_stats_prints_a_table_and_plots_it(capsys: pytest.CaptureFixture[str]) -> None:
    content = crowded(30)
    save(Path("set"), {"train": content, "val": crowded(5)}, images=False)
    assert main(["data", "stats", "--data", "set"]) == 0
    told = capsys.readouterr().out.splitlines()
    cats = [one for one in content["annotations"] if one["category_id"] == 7 and not one["iscrowd"]]
    objects = [one for one in content["annotations"] if not one["iscrowd"]]
    row = next(line for line in told if line.split()[0] == "cat").split()
    assert row[1:4] == [str(len(cats)), f"{len(cats) / len(objects):.1%}", str(len({one["image_id"] for one in cats}))]
    assert " 10 x 10 " in next(line for line in told if line.split()[0] == "cat")
    assert [line.split(":")[0] for line in told if "without objects" in line] == ["train", "val"]
    assert next(line for line in told if line.split()[0] == "yak").split()[1:5] == ["0", "0.0%", "0", "-"]
    assert len(np.unique(pixels("stats.png").reshape(-1, 3), axis=0)) > 10


def test_stats_of_one_split_and_some_classes(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("set"), {"train": crowded(30), "val": crowded(5)}, images=False)
    assert main(["data", "stats", "--data", "set", "--split", "val", "--classes", "dog,cat", "--out", "a/b.png"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("val: 5 images")
    assert [line.split()[0] for line in told.splitlines()[2:-2]] == ["dog", "cat", "total"]
    assert Path("a/b.png").is_file()
    assert "did you mean 'dog'?" in refused(capsys, "stats", "--data", "set", "--classes", "dogg")
    assert "--out must end in .png or .jpg" in refused(capsys, "stats", "--data", "set", "--out", "b.txt")


def test_show_draws_the_labelled_images(coco_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    """Sheets of 3 x 2 cells of 320 and 2 x 2; images are grey, discs red and squares blue, frames are neither."""
    data = str(coco_set({"train": 8}))
    assert main(["data", "show", "--data", data, "--images", "6"]) == 0
    assert "6 of 8 images of train: samples.png" in capsys.readouterr().out
    sheet = pixels("samples.png")
    assert sheet.shape == (2 * 324 - 4, 3 * 324 - 4, 3)
    for row, column in np.ndindex(2, 3):
        cell = sheet[row * 324 :, column * 324 :][:320, :320]
        assert any((cell == class_colour(label)).all(2).sum() > 100 for label in (0, 1))
    assert main(["data", "show", "--data", data, "--images", "6", "--out", "again.png"]) == 0
    assert main(["data", "show", "--data", data, "--images", "6", "--seed", "1", "--out", "other.png"]) == 0
    assert (pixels("again.png") == sheet).all()
    assert (pixels("other.png") != sheet).any()
    assert main(["data", "show", "--data", data, "--images", "99"]) == 0
    assert "8 of 8 images" in capsys.readouterr().out


def test_show_augmented_draws_training_inputs(coco_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 3 x 4 in shape, an input of 96 x 128 fills a cell's width: the border above is a quarter of the rest."""
    data = str(coco_set({"train": 8, "val": 4}))
    command = ["data", "show", "--data", data, "--images", "4", "--augment", "--config", "nano"]
    size = ["--image-size", "96", "128"]
    assert main([*command, *size]) == 0
    assert "augmentation: mosaic of four (p 0.5); letterbox to 96 x 128; scale 0.6 to 1.4" in capsys.readouterr().out
    first = pixels("samples.png")
    assert (first[0, :320] == 114).all()
    assert main([*command, *size, "--out", "again.png"]) == 0
    assert (pixels("again.png") == first).all()
    assert main([*command, "--out", "plain.png"]) == 0
    assert (pixels("plain.png") != first).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "splits"),
    [
        pytest.param((), {"train": 12, "val": 4}, id="by default, from the shipped weights"),
        pytest.param((), {"train": 12}, id="a tenth set aside to validate on"),
        pytest.param(("--config", "nano", "--set", "train.seed=3"), {"train": 12, "val": 4}, id="from scratch"),
    ],
)
def test_show_augmented_draws_the_very_images_of_the_run(
    coco_set: MakeSet, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], splits: dict[str, int]
) -> None:
    """The oracle is what a run prepares for its own sheet training.jpg: pixels, boxes, names."""
    data = str(coco_set(splits))
    shown: list[SheetImage] = []

    def keep(images: list[SheetImage], path: Path, columns: int, font: Path | None) -> None:
        shown.extend(images)
        path.touch()

    monkeypatch.setattr("yolo_lite.draw.sheets.draw_sheet", keep)
    assert main(["data", "show", "--data", data, "--augment", "--images", "99", *asked]) == 0
    config = plan(data, config="nano" if asked else None, settings={"train.seed": 3} if asked else {}).config
    task = DetectionTask.prepare(config, start=None, device=torch.device("cpu"), listener=Listener())
    trained = task.samples()
    assert len(shown) == len(trained) == (11 if len(splits) == 1 else 12)
    for one in trained:
        (same,) = [
            other for other in shown if other.image.shape == one.image.shape and (other.image == one.image).all()
        ]
        assert np.array_equal(same.boxes, one.boxes)
        assert same.texts == one.texts


@pytest.mark.parametrize("command", ["show", "stats"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_drawing_never_replaces_an_image_of_the_set(
    coco_set: MakeSet, capsys: pytest.CaptureFixture[str], command: str, linked: bool
) -> None:
    data = coco_set()
    image = data / "images" / "0003.png"
    before, out = image.read_bytes(), image
    if linked:
        out = data / "link.png"
        out.symlink_to(image)
    line = refused(capsys, command, "--data", str(data), "--out", str(out))
    assert line == f"error: {out} is an input file, which would be replaced; choose another --out"
    assert image.read_bytes() == before


def test_show_refuses_in_one_line(coco_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("show", "--data", str(coco_set({"train": 2})))
    assert "go with --augment" in refused(capsys, *command, "--config", "nano")
    assert "go with --augment" in refused(capsys, *command, "--set", "train.seed=1")
    assert "training does not use valid" in refused(capsys, *command, "--augment", "--split", "valid")
    assert "multiples of 32" in refused(capsys, *command, "--augment", "--image-size", "100")
    assert "did you mean 'nano'?" in refused(capsys, *command, "--augment", "--config", "nan")
    assert "has no split 'val'" in refused(capsys, *command, "--split", "val")
    assert "--out must end in" in refused(capsys, *command, "--out", "samples")
    (Path(command[2]) / "images" / "0001.png").unlink()
    assert "0001.png does not exist" in refused(capsys, *command)
    assert not Path("samples.png").exists()


# Sheets


def test_a_box_of_a_sheet_is_where_the_image_is() -> None:
    """An image of 80 x 160 fills the width twice over, 80 below the cell's top: 40..80 x 20..60 becomes 80..160 x 120..200."""
    image = np.full((80, 160, 3), 10, np.uint8)
    path = Path("sheet.png")
    draw_sheet([SheetImage(image, [[40, 20, 80, 60]], labels=[1], texts=["cat"])], path)
    sheet = pixels("sheet.png")
    assert sheet.shape == (320, 320, 3)
    coloured = (sheet == class_colour(1)).all(2)
    coloured[:120] = False  # the plate above
    rows, columns = np.nonzero(coloured)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (120, 199, 80, 159)
    assert (sheet[0] == 114).all()
    assert (image == 10).all()


def test_sheets_take_images_without_boxes_and_refuse_none() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    draw_sheet([SheetImage(image, np.zeros((0, 4)), labels=[], texts=[])] * 3, Path("a.png"), columns=2)
    assert pixels("a.png").shape == (644, 644, 3)
    assert (pixels("a.png")[324:, 324:] == 255).all()  # the cell that is left over
    with pytest.raises(ValueError, match="at least one"):
        draw_sheet([], Path("b.png"))


@pytest.mark.parametrize("count", [0, 5])
def test_plot_stats_takes_any_number_of_objects(count: int) -> None:
    centres = np.full((count, 2), 0.5)
    plot_stats(
        {"train": [count, 0]}, ["a", "$b"], sides={"train": np.full(count, 30.0)}, centres=centres, path=Path("a.png")
    )
    assert pixels("a.png").shape[1] == 1100


def _json(**changes: str) -> str:
    """Return a COCO file with one image, in which some texts are replaced."""
    parts = {
        "id": "1",
        "file": '"0001.png"',
        "size": '"height": 96, "width": 128',
        "box": "[1, 2, 30, 40]",
        "name": '"disc"',
    }
    parts |= changes
    return (
        f'{{"images": [{{"id": {parts["id"]}, "file_name": {parts["file"]}, {parts["size"]}}}], "annotations": '
        f'[{{"id": 1, "image_id": 1, "category_id": 7, "bbox": {parts["box"]}}}], '
        f'"categories": [{{"id": 7, "name": {parts["name"]}}}]}}'
    )


CRAFTED = {
    "deep lists": "[" * 100_000,
    "deep mappings": '{"a":' * 100_000,
    "an id of 5,000 digits": _json(id="9" * 5000),
    "an id of 4,000 digits": _json(id="9" * 4000),
    "a side of 5,000 digits": _json(box=f"[1, 2, 30, {'9' * 5000}]"),
    "a side of 4,000 digits": _json(box=f"[1, 2, 30, {'9' * 4000}]"),
    "a height of 4,000 digits": _json(size=f'"height": {"9" * 4000}, "width": 128'),
    "a list where the name belongs": _json(name='["disc"]'),
    "a mapping where the name belongs": _json(name='{"a": 1}'),
    "nothing where the name belongs": _json(name="null"),
    "half a character in the name": _json(name='"\\ud800"'),
    "a name of a million letters": _json(name=f'"{"x" * 1_000_000}"'),
    "a list where the file belongs": _json(file='["0001.png"]'),
    "half a character in the file": _json(file='"\\ud800.png"'),
    "a file that no disk holds": _json(file=f'"{"x" * 5000}.png"'),
    "a file with a zero": _json(file='"a\\u0000.png"'),
    "a deep box": _json(box="[" * 800 + "]" * 800),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_is_one_line_and_leaves_no_folder(
    name: str, coco_set: MakeSet, capsys: pytest.CaptureFixture[str]
) -> None:
    root = coco_set({"train": 1})
    (root / "annotations" / "instances_train.json").write_text(CRAFTED[name])
    out = root.parent / "out"
    for command in (
        *(["convert", "--to", layout, "--out", str(out)] for layout in ("coco", "yolo", "voc")),
        ["subset", "--images", "1", "--out", str(out)],
        ["stats", "--out", str(root / "stats.png")],
    ):
        status = main(["data", command[0], "--data", str(root), *command[1:]])
        if (command[0], status) == ("subset", 0):  # which copies boxes as they are
            shutil.rmtree(out)
            continue
        assert status == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert len(error) < 1300
        assert list(root.parent.iterdir()) == [root]
    assert main(["data", "check", "--data", str(root)]) in (1, 2)


@pytest.mark.parametrize("layout", ["coco", "yolo", "voc", "subset"])
def test_a_conversion_that_fails_half_way_leaves_nothing(
    layout: str, coco_set: MakeSet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = coco_set({"train": 3, "val": 2})
    (root / "images" / "0005.png").unlink()
    command = ["subset"] if layout == "subset" else ["convert", "--to", layout]
    for out in (root.parent / "new" / "out", root.parent / "empty"):
        (root.parent / "empty").mkdir(exist_ok=True)
        assert main(["data", *command, "--data", str(root), "--out", str(out)]) == 2
        assert "0005.png" in capsys.readouterr().err
        assert sorted(path.name for path in root.parent.iterdir()) == ["empty", "set"]
        assert not any((root.parent / "empty").iterdir())
