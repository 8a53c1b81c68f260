"""Batch jobs: equal files for any number of workers, and whole shards whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.shards.conftest import Grey, write_images
from tests.shards.test_manifest import write_tar
from yolo_lite.errors import InputError
from yolo_lite.media.images import read_image
from yolo_lite.shards import detect
from yolo_lite.shards.detect import Job, Summary, detect_manifest
from yolo_lite.shards.workers import Worker


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_list(folder: Path, count: int) -> Path:
    """Write images, and a list of them that ends with a missing one."""
    names = write_images(folder / "images", count)
    (folder / "list.txt").write_text("".join(f"images/{name}\n" for name in [*names, "missing.png"]))
    return folder / "list.txt"


def test_rows_are_what_the_detector_says_about_each_image_alone(tmp_path: Path, grey: Grey) -> None:
    manifest = write_list(tmp_path, 23)
    summary = detect_manifest(grey, manifest, out=tmp_path / "out", shard_size=10)
    lines = [line for n in range(3) for line in (tmp_path / "out" / f"shard-{n:06d}.jsonl").read_text().splitlines()]
    names = manifest.read_text().split()
    assert [json.loads(line)["source"] for line in lines] == names
    for name, row in zip(names, map(json.loads, lines)):
        number = int(Path(name).stem) if "missing" not in name else 3
        if number % 5 == 3:
            assert row.keys() == {"schema_version", "source", "error"}
            assert row["error"].startswith(name)
            continue
        score, width = (number * 37) % 256 / 255, 8 + number
        box = {"class_name": "bright" if score > 0.75 else "grey", "box": [0, 0, width / 2, 3]}
        assert row["image_size"] == [width, 6]
        assert [{key: detection[key] for key in box} for detection in row["detections"]] == [box] * (score > 0.25)
        assert [detection["score"] for detection in row["detections"]] == pytest.approx([score] * (score > 0.25))
    assert (summary.shards, summary.images, summary.errors) == (3, 24, 5)  # 3, 8, 13, 18 and the missing one
    assert summary.objects == sum(len(json.loads(line).get("detections", ())) for line in lines)


@pytest.mark.parametrize("workers", [2, 3, 7])
@pytest.mark.parametrize("rows", ["jsonl", "parquet"])
def test_files_do_not_depend_on_the_number_of_workers(tmp_path: Path, grey: Grey, workers: int, rows: str) -> None:
    if rows == "parquet":
        pytest.importorskip("pyarrow")
    manifest = write_list(tmp_path, 23)
    detect_manifest(grey, manifest, out=tmp_path / "one", shard_size=5, rows=rows)
    for number in reversed(range(workers)):
        summary = detect_manifest(
            grey, manifest, out=tmp_path / "several", shard_size=5, rows=rows, worker=f"{number}/{workers}"
        )
    assert summary.missing == 0
    assert contents(tmp_path / "several") == contents(tmp_path / "one")


def test_the_environment_says_which_worker_this_is(tmp_path: Path, grey: Grey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    summary = detect_manifest(grey, write_list(tmp_path, 23), out=tmp_path / "out", shard_size=5)
    assert [path.name for path in sorted((tmp_path / "out").glob("shard*"))] == [
        "shard-000001.jsonl",
        "shard-000003.jsonl",
    ]
    assert (summary.shards, summary.missing) == (2, 3)


def test_existing_shards_are_skipped_without_a_look_at_their_images(tmp_path: Path, grey: Grey) -> None:
    manifest = write_list(tmp_path, 23)
    detect_manifest(grey, manifest, out=tmp_path / "out", shard_size=10)
    (tmp_path / "out" / "shard-000001.jsonl").unlink()
    before, grey.batches = contents(tmp_path / "out"), []
    summary = detect_manifest(grey, manifest, out=tmp_path / "out", shard_size=10)
    assert (summary.shards, summary.there, summary.images) == (1, 2, 10)
    assert sum(grey.batches) == 8  # images 10 to 19, of which 13 and 18 are broken
    assert before.items() < contents(tmp_path / "out").items()


def test_batches_do_not_cross_shards(tmp_path: Path, grey: Grey) -> None:
    detect_manifest(grey, write_list(tmp_path, 9), out=tmp_path / "out", shard_size=5)
    assert grey.batches == [3, 1, 3]  # 0 1 2 and the broken 3, then 4; 5 6 7 and the broken 8; the missing one alone


def test_tars_and_a_list_of_the_same_images_give_the_same_detections(tmp_path: Path, grey: Grey) -> None:
    names = write_images(tmp_path / "images", 9)
    for number in range(3):
        chosen = names[3 * number : 3 * number + 3]
        write_tar(tmp_path / f"s-{number}.tar", {name: (tmp_path / "images" / name).read_bytes() for name in chosen})
    detect_manifest(grey, tmp_path / "images", out=tmp_path / "list", shard_size=3)
    detect_manifest(grey, tmp_path / "s-{0..2}.tar", out=tmp_path / "tars")
    for number in range(3):
        text = (tmp_path / "tars" / f"shard-{number:06d}.jsonl").read_text()
        assert text.replace(f"s-{number}.tar/", "") == (tmp_path / "list" / f"shard-{number:06d}.jsonl").read_text()


def test_a_shard_without_a_readable_image_is_not_written_and_the_next_one_is(tmp_path: Path, grey: Grey) -> None:
    names = write_images(tmp_path, 4)
    (tmp_path / "list.txt").write_text("\n".join(["gone/0.png", "gone/1.png", *names]))
    summary = detect_manifest(grey, tmp_path / "list.txt", out=tmp_path / "out", shard_size=2)
    assert (summary.shards, summary.unreadable, summary.missing, summary.images) == (2, 1, 1, 4)
    assert summary.reason == "no image of shard 0 could be read: gone/0.png does not exist"
    assert sorted(contents(tmp_path / "out")) == ["manifest.json", "shard-000001.jsonl", "shard-000002.jsonl"]
    for name in ("0.png", "1.png"):
        (tmp_path / "gone").mkdir(exist_ok=True)
        Image.new("L", (8, 8), 99).save(tmp_path / "gone" / name)
    assert detect_manifest(grey, tmp_path / "list.txt", out=tmp_path / "out", shard_size=2).missing == 0


def test_errors_name_images_as_the_manifest_does(tmp_path: Path, grey: Grey) -> None:
    """So the files are the same on machines that see the images in different places."""
    for place in ("here", "there/deep"):
        detect_manifest(grey, write_list(tmp_path / place, 9), out=tmp_path / place / "out")
    assert contents(tmp_path / "here" / "out") == contents(tmp_path / "there/deep" / "out")


def test_a_line_that_repeats_an_image_gives_a_row_of_its_own(tmp_path: Path, grey: Grey) -> None:
    write_images(tmp_path, 1)
    Image.new("L", (9, 9), 200).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png\n000.png\na.png\n")
    detect_manifest(grey, tmp_path / "list.txt", out=tmp_path / "out")
    lines = (tmp_path / "out" / "shard-000000.jsonl").read_text().splitlines()
    assert lines[0] == lines[2] != lines[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"score_threshold": 0.5}, "score_threshold 0.25 there, 0.5 now"), ({"classes": ("grey",)}, "classes null there")],
)
def test_a_job_is_not_continued_with_other_settings(
    tmp_path: Path, grey: Grey, change: dict[str, object], words: str
) -> None:
    manifest = write_list(tmp_path, 9)
    detect_manifest(grey, manifest, out=tmp_path / "out")
    before = contents(tmp_path / "out")
    for name, value in change.items():
        setattr(grey, name, value)
    with pytest.raises(InputError, match=words):
        detect_manifest(grey, manifest, out=tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_job_is_not_continued_with_another_list_weights_or_shard_size(tmp_path: Path, grey: Grey) -> None:
    manifest = write_list(tmp_path, 9)
    detect_manifest(grey, manifest, out=tmp_path / "out", shard_size=4)
    with pytest.raises(InputError, match="shards 3 there, 2 now, shard_size 4 there, 5 now"):
        detect_manifest(grey, manifest, out=tmp_path / "out", shard_size=5)
    with pytest.raises(InputError, match='rows "jsonl" there, "parquet" now'):
        pytest.importorskip("pyarrow")
        detect_manifest(grey, manifest, out=tmp_path / "out", shard_size=4, rows="parquet")
    grey.weights.write_bytes(b"other")
    with pytest.raises(InputError, match="weights [0-9a-f]{12} there, [0-9a-f]{12} now"):
        detect_manifest(grey, manifest, out=tmp_path / "out", shard_size=4)
    grey.weights.write_bytes(b"grey")
    manifest.write_text(manifest.read_text().replace("missing", "absent_"))
    with pytest.raises(InputError, match="sha256 [0-9a-f]{12} there, [0-9a-f]{12} now"):
        detect_manifest(grey, manifest, out=tmp_path / "out", shard_size=4)


def test_results_among_the_images_are_refused(tmp_path: Path, grey: Grey) -> None:
    write_images(tmp_path / "images", 2)
    with pytest.raises(InputError, match="is the folder of the images; choose another --out"):
        detect_manifest(grey, tmp_path / "images", out=tmp_path / "images" / ".")


def test_a_shard_that_another_worker_has_written_meanwhile_is_skipped(tmp_path: Path, grey: Grey) -> None:
    job, summary = Job(str(write_list(tmp_path, 23)), tmp_path / "out", shard_size=5), Summary(Worker())
    job.begin(grey)
    job.run(grey, summary, on_progress=lambda done, total: (tmp_path / "out" / "shard-000003.jsonl").touch())
    assert (summary.shards, summary.there, summary.missing) == (4, 1, 0)


def test_progress_counts_the_images_of_this_worker(tmp_path: Path, grey: Grey) -> None:
    job, shown = Job(str(write_list(tmp_path, 23)), tmp_path / "out", shard_size=5), list[tuple[int, int]]()
    job.begin(grey)
    job.run(grey, Summary(Worker(0, 2)), on_progress=lambda done, total: shown.append((done, total)))
    assert shown == [(4, 14), (5, 14), (9, 14), (10, 14), (14, 14), (14, 14)]
    shown.clear()
    job.folder.path(2).unlink()
    job.run(grey, Summary(Worker(0, 2)), on_progress=lambda done, total: shown.append((done, total)))
    assert shown == [(13, 14), (14, 14)]


def test_several_threads_read_at_the_same_time_and_keep_the_order(
    tmp_path: Path, grey: Grey, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, pair = write_list(tmp_path, 23), threading.Barrier(2)

    def read(path: Path, max_16bit: int) -> object:
        pair.wait(60)  # for another thread that reads
        return read_image(path, max_16bit)

    detect_manifest(grey, manifest, out=tmp_path / "one", shard_size=12)
    monkeypatch.setattr(detect, "read_image", read)
    job = Job(str(manifest), tmp_path / "two", shard_size=12, readers=2)
    job.begin(grey)
    job.run(grey, Summary(Worker()))
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_a_16_bit_scale_and_tiles_are_those_of_the_detector(tmp_path: Path, grey: Grey) -> None:
    Image.fromarray(np.full((6, 8), 4095, np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "list.txt").write_text("deep.png")
    grey.max_16bit = 4095
    detect_manifest(grey, tmp_path / "list.txt", out=tmp_path / "out")
    (detection,) = json.loads((tmp_path / "out" / "shard-000000.jsonl").read_text())["detections"]
    assert detection["class_name"] == "bright"


MEMORY = """
import re, sys
from pathlib import Path
from tests.shards.conftest import Grey
from yolo_lite.shards.detect import detect_manifest
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
detector = Grey(Path(sys.argv[3]))
detector.batch_size = 8
images = detect_manifest(detector, folder, out=out).images
# Not ru_maxrss, which has the peak of the process that started this one.
print(images, re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def write_links(folder: Path, count: int, files: list[Path]) -> Path:
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(files[number % len(files)])
    return folder


def write_members(path: Path, count: int, files: list[Path]) -> Path:
    contents = [file.read_bytes() for file in files]
    write_tar(path, {f"{number:06d}.png": contents[number % len(contents)] for number in range(count)})
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "name", "most"),
    [(write_links, "images-{}", 100_000), (write_members, "images-{}.tar", 30_000)],
    ids=["links", "tar"],
)
def test_memory_does_not_grow_with_the_number_of_images(
    tmp_path: Path, grey: Grey, write: Callable[..., Path], name: str, most: int
) -> None:
    """The peak for many images, links to three tiny files, is that for 1,000 and at most 5 MB, which Python's collector needs.

    That is 5 % of a process with ONNX Runtime (docs/export.md). Names of 100,000 images alone would take more.
    """
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        Image.new("L", (32, 24), 100 + number).save(file)
    if not Path("/proc/self/status").exists():
        pytest.skip("reads the peak from Linux")
    peaks = {}
    for count in (1_000, most):
        manifest = write(tmp_path / name.format(count), count, files)
        words = [sys.executable, "-c", MEMORY, str(manifest), str(tmp_path / f"out-{count}"), str(grey.weights)]
        result = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        images, peaks[count] = map(int, result.stdout.split())
        assert images == count
    assert peaks[most] < peaks[1_000] + 5_000, peaks


@pytest.mark.parametrize(
    ("there", "words"), [(0, "written"), (1, "written, 1 was there"), (2, "written, 2 were there")]
)
def test_a_summary_counts_the_shards_that_were_there(there: int, words: str) -> None:
    assert str(Summary(Worker(), there=there)).endswith(words)
