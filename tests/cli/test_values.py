"""What flags alone show to be wrong is refused in one line, before anything slow is imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from yolo_lite.cli.values import check_shares, parse_box, parse_minutes
from yolo_lite.errors import InputError

REFUSED = {
    "train --data d --time 20m --epochs 3": "--time sets the number of epochs; leave out --epochs",
    "train --data d --time soon": "--time takes a duration such as 20m, 1h30m or 90s, got 'soon'",
    "train --resume --config nano": "--resume uses the configuration of the run; leave out --config",
    "classify train --resume --config lenet": "leave out --config",
    "train --resume --time 20m": "--resume keeps the epochs and steps of the run; leave out --time",
    "train": "train needs --data",
    "classify train --config lenet": "classify train needs --data",
    "train --data d --image-size 100": "--image-size must be multiples of 32, got 100 x 100 (height x width); try 96 96",
    "train --data d --image-size 32 64 96": "--image-size takes one side, or height and width, got 3 numbers",
    "detect --image-size 100": "--image-size must be multiples of 32",
    "eval --data d --image-size 100": "--image-size must be multiples of 32",
    "inspect grid --image-size 100": "--image-size must be multiples of 32",
    "inspect model --config nano --image-size 100": "--image-size must be multiples of 32",
    "tune --task detect --data d --image-size 100": "--image-size must be multiples of 32",
    "bench train --data d --image-size 100": "--image-size must be multiples of 32",
    "convert nanodet --param p --bin b --out o.pt --image-size 100": "--image-size must be multiples of 32",
    "train --data d --weights nothing": "nothing does not exist; shipped weights:",
    "detect --weights nothing": "nothing does not exist; shipped weights:",
    "card --weights yolo_lite-n-voc": "did you mean 'yolo_lite-n-voc5'?",
    "train --data d --config huge": "huge does not exist; shipped configs:",
    "classify train --data d --config lennet": "did you mean 'lenet'?",
    "inspect model --config huge": "huge does not exist; shipped configs:",
    "bench model --config huge": "huge does not exist; shipped configs:",
    "bench train --data d --config lenet": "lenet is the configuration of a classifier",
    "tune --task classify --data d --config lennet": "did you mean 'lenet'?",
    "tune --task detect --data d --time 0": "--time takes a duration",
    "train --data d --out file/run": "cannot create the folder file/run",
    "eval --data d --out file/e": "cannot create the folder file/e",
    "detect --out file/d": "cannot create the folder file/d",
    "inspect filters --out file/f.png": "cannot create the folder file",
    "inspect filters --out f.txt": "--out must end in .png, .jpg, .pdf or .svg, got f.txt",
    "inspect why --box 1,2,3": "--box takes x1,y1,x2,y2",
    "inspect model --config nano --weights yolo_lite-n-voc5": "name --config or --weights, not both",
    "detect --tiles 2": "--tiles takes rows and columns such as 2x2, got '2'; a side goes with --tile",
    "detect --tiles 2x": "--tiles: tiles must be rows and columns such as 2x2",
    "eval --data d --tiles 99x99": "--tiles: tiles must have 1 to 64 rows and columns, got 99x99",
    "detect --tile 8": "--tile: the side of tiles must be at least 32 pixels, got 8",
    "detect --tile 640 --overlap 1": "--overlap: overlap must be from 0 to 0.9, a fraction of a tile's side, got 1",
    "eval --data d --tile 640 --overlap nan": "--overlap: overlap must be a finite number, got nan",
    "detect --tile 640 --tiles 2x2": "--tiles names a grid and --tile the side of a tile; leave one out",
    "eval --data d --overlap 0.3": "--overlap is the overlap of tiles; add --tiles 2x2 or --tile 640",
    "data show --data d --set train.lr=1": "go with --augment",
    "eval --data d --weights yolo_lite-n-voc5 --detections rows.json": "eval takes --weights or --detections, not both",
    "eval --data d --weights rows.json": "rows.json holds no weights; pass a COCO result file with --detections",
    "eval --data d --detections own.pt": "--detections takes a COCO result file that ends in .json, got own.pt",
    "eval --data d --detections rows.json --iou-threshold 0.5": "--iou-threshold changes how a detector runs",
    "eval --data d --detections rows.json --tta": "--tta changes how a detector runs",
    "eval --data d --image-size 99968": "--image-size must be at most 16,384 pixels on each side, got 99968",
    "config trian.lr": "there is no setting 'trian.lr'; did you mean 'train.lr'?",
    "config --config huge": "huge does not exist; shipped configs:",
    "train --data d --fraction 2": "--fraction must be above 0 and at most 1, got 2",
    "train --data d --set train.lr": "--set expects KEY=VALUE",
    "classify train --data d --shares 50/20/20": "--shares takes percentages of train, val and test",
    "classify predict --weights yolo_lite-n-voc5 --source a.png --out a.png": "--out takes a file name that ends in .csv",
}
SCRIPT = """
import contextlib, io, json, sys
from yolo_lite.cli import main
results = {}
for command in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as error:
        status = main(command.split())
    results[command] = status, error.getvalue(), "torch" in sys.modules
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, bool]]:
    """Return exit status, what is written on standard error, and whether torch was imported, of each command."""
    folder = tmp_path_factory.mktemp("refused")
    for name in ("file", "rows.json"):
        (folder / name).write_text("")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        input=json.dumps(list(REFUSED)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(path.name for path in folder.iterdir()) == ["file", "rows.json"]
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("command", REFUSED)
def test_what_flags_show_to_be_wrong_is_refused_without_torch(
    results: dict[str, tuple[int, str, bool]], command: str
) -> None:
    status, error, torch = results[command]
    assert status == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert REFUSED[command] in error
    assert not torch


@pytest.mark.parametrize(("text", "minutes"), [("20m", 20), ("45", 45), ("1h30m", 90), ("90s", 1.5), ("0.5h", 30)])
def test_durations(text: str, minutes: float) -> None:
    assert parse_minutes(text) == pytest.approx(minutes)


@pytest.mark.parametrize("text", ["", "soon", "-3m", "0m", "5 m", "1d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InputError, match="--time takes a duration"):
        parse_minutes(text)


@pytest.mark.parametrize("text", ["70/15/15", "80/20", " 60 / 20 / 20"])
def test_shares(text: str) -> None:
    check_shares(text)


@pytest.mark.parametrize("text", ["", "100", "50/20/20", "100/0", "25/25/25/25", "a/b", "70/15/15x", "-10/110"])
def test_what_are_no_shares(text: str) -> None:
    with pytest.raises(InputError, match="--shares takes percentages"):
        check_shares(text)


def test_boxes() -> None:
    assert parse_box("1,2,3.5,4") == (1.0, 2.0, 3.5, 4.0)
    for text in ("1,2,3", "a,b,c,d", "5,5,1,9"):
        with pytest.raises(InputError, match="--box takes"):
            parse_box(text)
