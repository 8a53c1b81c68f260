"""Detection in files: what is written, under which name, and what is never written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_lite import Detector
from yolo_lite.data.images import read_image
from yolo_lite.data.sources import VideoWriter, find_source, open_video, read_frames
from yolo_lite.engine.detect import JsonRows, detect_pictures, detect_video, image_ids
from yolo_lite.errors import InputError


@pytest.fixture(scope="module")
def detector(learnt: tuple[Path, Path]) -> Detector:
    return Detector(learnt[0] / "best.pt", device="cpu")


@pytest.fixture
def video(learnt: tuple[Path, Path], tmp_path: Path) -> Path:
    """Five times each of four pictures, as a film."""
    path = tmp_path / "film.mp4"
    writer = VideoWriter(path, 10.0, (96, 128))
    for file in sorted((learnt[1] / "images").iterdir())[:4]:
        for _ in range(5):
            writer.write(read_image(file))
    writer.close()
    return path


def test_image_ids_are_numeric_names_then_free_numbers() -> None:
    names = ["b.jpg", "000000000002.jpg", "x/2.jpg", "c.jpg", "7.png"]
    ids = image_ids([Path(name) for name in names])
    # 2 and 7 are named; the second "2" and the words take 1, 3, 4 in order
    assert [ids[Path(name)] for name in names] == [1, 2, 3, 4, 7]


def test_annotated_pictures_and_rows_are_written(detector: Detector, learnt: tuple[Path, Path], tmp_path: Path) -> None:
    files = find_source(str(learnt[1] / "images"))
    assert isinstance(files, list)
    with JsonRows(tmp_path / "rows.json") as rows_file:
        results = list(detect_pictures(detector, files, tmp_path / "out", rows_file))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == sum(len(result.detections or ()) for result in results) == 16
    assert {row["category_id"] for row in rows} == {7, 3}  # the ids it was trained on, not labels
    assert rows[0]["image_id"] == 1
    assert rows[0]["file_name"] == "0001.png"
    annotated = read_image(tmp_path / "out" / "0001.png")
    assert annotated.shape == (96, 128, 3)
    assert not np.array_equal(annotated, read_image(files[0]))
    x, y, _, _ = rows[0]["bbox"]
    assert np.allclose([x, y], results[0].detections.boxes[0][:2])  # type: ignore[union-attr]


def test_a_bad_picture_is_reported_and_the_rest_goes_on(
    detector: Detector, learnt: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    shutil.copytree(learnt[1] / "images", folder)
    (folder / "0003.png").write_bytes(b"")
    results = list(detect_pictures(detector, sorted(folder.iterdir()), tmp_path / "out"))
    assert [result.path.name for result in results if result.error] == ["0003.png"]
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_a_source_is_never_overwritten(detector: Detector, learnt: tuple[Path, Path]) -> None:
    files = sorted((learnt[1] / "images").iterdir())
    before = files[0].read_bytes()
    with pytest.raises(InputError, match="would replace .*0001.png; choose another --out"):
        list(detect_pictures(detector, files, learnt[1] / "images"))
    assert files[0].read_bytes() == before


def test_pictures_of_one_name_do_not_overwrite_each_other(detector: Detector, tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png", "a/x.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    files = [tmp_path / name for name in ("a/x.png", "b/x.png", "a/x.bmp")]
    list(detect_pictures(detector, files, tmp_path / "out"))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["x-2.png", "x.jpg", "x.png"]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_video_is_annotated_frame_by_frame(
    learnt: tuple[Path, Path], video: Path, tmp_path: Path, suffix: str
) -> None:
    detector = Detector(learnt[0] / "best.pt", score_threshold=0.005, device="cpu")  # the film's codec blurs the shapes
    target = tmp_path / "out" / f"film{suffix}"
    found = list(detect_video(detector, open_video(video), target))
    expected = [detector(frame) for frame in read_frames(open_video(video))]
    assert [len(one) for one in found] == [len(one) for one in expected]
    assert sum(len(one) for one in found) > 0
    assert sum(1 for _ in read_frames(open_video(target))) == 20
    assert [file.name for file in target.parent.iterdir()] == [target.name]


def test_frames_stream_one_at_a_time(detector: Detector, video: Path) -> None:
    stream = detector.stream(video)
    frame, found = next(stream)
    assert frame.shape == (96, 128, 3)
    np.testing.assert_allclose(found.boxes, detector(frame).boxes, rtol=1e-4)  # alone, not one of a batch
    assert sum(1 for _ in stream) == 19


def test_an_interrupted_video_leaves_no_file(detector: Detector, video: Path, tmp_path: Path) -> None:
    results = detect_video(detector, open_video(video), tmp_path / "out" / "film.mp4")
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert list((tmp_path / "out").iterdir()) == []


def test_interrupted_rows_leave_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(KeyboardInterrupt), JsonRows(tmp_path / "rows.json") as rows:
        rows.write([{"a": 1}])
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["rows.json"]
    assert (tmp_path / "rows.json").read_text() == "[]"


def test_no_rows_are_an_empty_list(tmp_path: Path) -> None:
    with JsonRows(tmp_path / "new" / "rows.json"):
        pass
    assert json.loads((tmp_path / "new" / "rows.json").read_text()) == []
