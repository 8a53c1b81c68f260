"""`yolo-lite detect --manifest`: batch jobs of any number of workers."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

import yolo_lite.shards.folder
from tests.conftest import write_coco_set
from tests.messages.test_image import VALIDATOR
from yolo_lite.cli import main
from yolo_lite.predict.detector import Detector as TrainedDetector
from yolo_lite.predict.files import sample_image
from yolo_lite.runtime import Detector

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write nine drawn images, and a list with these, a photograph, a broken and a missing one; return its lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {**os.environ})
    write_coco_set(tmp_path, {"train": 9})
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no image")
    shutil.copy(sample_image(), tmp_path / "images" / "photo.jpg")
    lines = ["images/photo.jpg", *(f"images/{number:04d}.png" for number in range(1, 10))]
    lines[4:4] = ["images/broken.jpg", "images/gone.jpg"]
    Path("list.txt").write_text("\n".join(lines))
    return lines


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def rows(folder: str) -> list[dict[str, object]]:
    return [json.loads(line) for path in sorted(Path(folder).glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_rows_are_the_detections_of_each_image(listed: list[str], pico: Path, capsys: Capture) -> None:
    words = ["--weights", str(pico), "--manifest", "list.txt", "--out", "out", "--shard-size", "4"]
    assert main(["detect", *words, "--score-threshold", "0.06"]) == 0
    documents, detector = rows("out"), Detector(pico, score_threshold=0.06)
    assert [row["source"] for row in documents] == listed
    for row in documents:
        jsonschema.validate(row, VALIDATOR.schema)
        if "error" not in row:
            assert row["detections"] == detector(str(row["source"])).to_dict()["detections"]
    assert [row["error"] for row in documents if "error" in row] == [
        "images/broken.jpg is not an image that can be read (looked for JPEG, PNG, WebP, TIFF ...)",
        "images/gone.jpg does not exist",
    ]
    objects = sum(len(row.get("detections", ())) for row in documents)  # type: ignore[arg-type]
    assert objects
    captured = capsys.readouterr()
    assert captured.out == f"{objects} objects in 12 images, 2 errors; 3 shards written; all 3 shards are in out\n"
    assert captured.err == "note: 3 of 3 shards\n"


def test_a_checkpoint_does_the_same(listed: list[str], finished_run: tuple[Path, Path]) -> None:
    weights = str(finished_run[0] / "best.pt")
    assert main(["detect", "--weights", weights, "--manifest", "list.txt", "--out", "out", "--quiet"]) == 0
    batches = [
        [line for line in part if "broken" not in line and "gone" not in line] for part in (listed[:8], listed[8:])
    ]
    detector = TrainedDetector(weights, "cpu")  # torch's last digits depend on the number of images in a batch
    expected = [detections.to_dict()["detections"] for batch in batches for detections in detector(batch)]
    assert [row["detections"] for row in rows("out") if "error" not in row] == expected


def test_two_workers_write_what_one_writes_and_the_second_run_nothing(
    listed: list[str], pico: Path, capsys: Capture
) -> None:
    job = ["detect", "--weights", str(pico), "--manifest", "list.txt", "--shard-size", "4"]
    assert main([*job, "--out", "one"]) == 0
    assert main([*job, "--out", "two", "--worker", "1/2"]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("; 1 shard written; 2 of 3 shards are still missing in two\n")
    assert captured.err.endswith("note: worker 1/2 (--worker): 1 of 3 shards\n")
    assert main([*job, "--out", "two", "--worker", "0/2"]) == 0
    assert contents("one") == contents("two")
    capsys.readouterr()
    assert main([*job, "--out", "two", "--quiet"]) == 0
    assert capsys.readouterr().out == "0 objects in 0 images; 0 shards written, 3 were there; all 3 shards are in two\n"


def test_shards_without_a_readable_image_end_with_status_2_but_do_not_end_the_others_of_torchrun(
    listed: list[str], pico: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("list.txt").write_text("".join(line.replace("images", "absent") + "\n" for line in listed))
    job = ["detect", "--weights", str(pico), "--manifest", "list.txt", "--out", "out"]
    assert main(job) == 2
    captured = capsys.readouterr()
    assert captured.out == "0 objects in 0 images; 0 shards written; 1 of 1 shard is still missing in out\n"
    assert captured.err.splitlines()[-1] == (
        "error: 1 shard not written; no image of shard 0 could be read: absent/photo.jpg does not exist; is a disk missing? "
        "Run the command again"
    )
    monkeypatch.setattr(os, "environ", {**os.environ, "RANK": "0", "WORLD_SIZE": "1"})
    assert main(job) == 0
    assert capsys.readouterr().err.endswith("Run the command again\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--manifest", "list.txt"], "--manifest needs --out FOLDER, which all workers share"),
        (["--manifest", "gone.txt", "--out", "out"], "gone.txt does not exist; --manifest takes a list"),
        (["--manifest", "list.txt", "--out", "out", "--show"], "--manifest writes rows alone; leave out --show"),
        (["--manifest", "list.txt", "--out", "out", "--video-format", "mp4"], "rows alone; leave out --video-format"),
        (["--manifest", "list.txt", "--out", "out", "--to", "jsonl:-"], "--manifest writes rows alone; leave out --to"),
        (["--manifest", "list.txt", "--out", "out", "--source", "a.jpg"], "leave out --source"),
        (
            ["--manifest", "list.txt", "--out", "out", "--worker", "2/2"],
            "--worker 2/2: 2 workers have the numbers 0 to 1",
        ),
        (["--manifest", "list.txt", "--out", "list.txt/out"], "cannot create the folder list.txt/out"),
        (["--source", "a.jpg", "--worker", "0/2"], "--worker belongs to batch jobs; add --manifest PATH"),
        (["--source", "a.jpg", "--format", "parquet"], "--format belongs to batch jobs"),
        (["--manifest", "list.txt", "--out", "out", "--actors", "2"], "--actors is the number of actors of Ray; add"),
        (["--manifest", "list.txt", "--out", "out", "--engine", "ray"], "--engine ray takes exported files"),
        (["--engine", "ray"], "--engine belongs to batch jobs"),
        (["--shard-size", "5"], "--shard-size belongs to batch jobs"),
    ],
)
def test_flags_that_do_not_fit_are_explained(
    listed: list[str], words: list[str], message: str, capsys: Capture
) -> None:
    assert main(["detect", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_other_settings_are_refused(listed: list[str], pico: Path, capsys: Capture) -> None:
    job = ["detect", "--weights", str(pico), "--manifest", "list.txt", "--out", "out"]
    assert main(job) == 0
    capsys.readouterr()
    assert main([*job, "--score-threshold", "0.5", "--classes", "car", "--tiles", "1x2"]) == 2
    line = capsys.readouterr().err
    assert "error: out was begun with other settings: score_threshold " in line
    assert 'classes null there, ["car"] now, tiles null there, "1x2, overlap 0.2" now; choose another --out' in line


TORCH_FREE = """
import sys
for name in ("torch", "torchvision", "matplotlib", "scipy", "yaml", "cv2", "pyarrow"):
    sys.modules[name] = None  # an import of it fails
from yolo_lite.cli import main
sys.exit(main(["detect", *sys.argv[1:]]))
"""


def test_an_exported_file_needs_no_torch(listed: list[str], pico: Path) -> None:
    words = ["--weights", str(pico), "--manifest", "list.txt", "--out", "out"]
    assert subprocess.run([sys.executable, "-c", TORCH_FREE, *words], check=False).returncode == 0


def test_torchrun_divides_the_shards_and_the_cores(
    listed: list[str], pico: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def open_detector(*args: object, threads: int, **settings: object) -> Detector:
        seen.append(threads)
        return Detector(pico)

    seen = threads
    monkeypatch.setattr("yolo_lite.runtime.Detector", open_detector)
    monkeypatch.setattr("yolo_lite.cores.usable_cores", lambda: 8)
    for rank in range(2):
        torchrun = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
        monkeypatch.setattr(os, "environ", {**os.environ, **torchrun})
        assert (
            main(["detect", "--weights", str(pico), "--manifest", "list.txt", "--out", "out", "--shard-size", "4"]) == 0
        )
    assert len(rows("out")) == 12
    assert seen == [4, 4]


def test_a_worker_of_torchrun_says_why_it_alone_fails(
    listed: list[str], pico: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    job = ["detect", "--weights", str(pico), "--manifest", "list.txt", "--out", "out", "--shard-size", "4"]
    assert main([*job, "--worker", "0/2"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(yolo_lite.shards.folder, "_store", full)
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    torchrun |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    monkeypatch.setattr(os, "environ", {**os.environ, **torchrun})
    monkeypatch.setattr(yolo_lite.shards.folder, "write_once", lambda path, write: None)
    assert main(job) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "error: worker 1/2 (RANK): cannot write out/shard-000001.jsonl: No space left on device"


def test_a_batch_script_without_srun_does_all_the_work_and_says_so(
    listed: list[str], pico: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    monkeypatch.setattr(os, "environ", {**os.environ, **batch})
    job = ["detect", "--weights", str(pico), "--manifest", "list.txt", "--shard-size", "4", "--out"]
    assert main([*job, "out"]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("; 3 shards written; all 3 shards are in out\n")
    assert captured.err.splitlines() == [
        "note: 3 of 3 shards",
        "note: the job has 4 tasks, but srun did not start this command, so it does all the work alone",
    ]
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2"}
    monkeypatch.setattr(os, "environ", {**os.environ, **step})
    assert main([*job, "two"]) == 0
    assert capsys.readouterr().err.splitlines() == ["note: worker 2/4 (SLURM_PROCID): 1 of 3 shards"]


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_LOCALID"])
def test_a_malformed_variable_is_named_in_one_line(
    listed: list[str], name: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchrun = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    there = {} if name.startswith("SLURM") else {**torchrun, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    monkeypatch.setattr(os, "environ", {**os.environ, **there, name: "x"})
    assert main(["detect", "--manifest", "list.txt", "--out", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: the environment variable {name} must be a whole number, got 'x'; ")


def test_without_ray_one_line_says_what_to_install(
    listed: list[str], pico: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["detect", "--weights", str(pico), "--manifest", "list.txt", "--out", "out", "--engine", "ray"]) == 2
    assert "error: --engine ray needs Ray: pip install ray, or leave it out" in capsys.readouterr().err


@pytest.mark.slow
def test_ray_writes_the_same_files(listed: list[str], pico: Path) -> None:
    """A shard without a readable image among them is reported, as without Ray."""
    pytest.importorskip("ray")
    Path("list.txt").write_text("\n".join([*listed * 3, *["gone.jpg"] * 8]))
    job = [
        sys.executable,
        "-m",
        "yolo_lite",
        "detect",
        "--weights",
        str(pico),
        "--manifest",
        "list.txt",
        "--shard-size",
        "4",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    results = [
        subprocess.run([*job, "--out", out, *engine], env=environment, capture_output=True, text=True, check=False)
        for out, engine in (("one", []), ("ray", ["--engine", "ray", "--actors", "2"]))
    ]
    assert [result.returncode for result in results] == [2, 2]
    said = [
        [line for line in result.stderr.splitlines() if line.startswith(("note:", "error:"))] for result in results
    ]  # beside progress, and what Ray's own processes say of a busy machine
    assert said[1] == said[0] != [], results[1].stderr
    assert results[1].stdout == results[0].stdout.replace(" in one", f" in {Path('ray').absolute()}")
    assert contents("ray") == contents("one")


@pytest.mark.slow
def test_killed_workers_leave_whole_shards_and_the_next_run_completes_them(listed: list[str], pico: Path) -> None:
    """Kill two workers at random moments, several times; every file that has its name is whole throughout."""
    Path("list.txt").write_text("\n".join(listed * 60))
    job = [
        sys.executable,
        "-m",
        "yolo_lite",
        "detect",
        "--weights",
        str(pico),
        "--manifest",
        "list.txt",
        "--shard-size",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*job, "20", "--out", "whole", "--quiet"], env=environment, check=True)
    generator, whole = random.Random(0), contents("whole")
    killed = 0
    for _ in range(6):
        before = len(contents("out")) if Path("out").exists() else 0
        workers = [
            subprocess.Popen([*job, "20", "--out", "out", "--quiet", "--worker", f"{n}/2"], env=environment)
            for n in range(2)
        ]
        end = time.monotonic() + 60
        while time.monotonic() < end and (not Path("out").exists() or len(contents("out")) <= before):
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.05))
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            killed += worker.wait() == -signal.SIGKILL
        there = {name: content for name, content in contents("out").items() if not name.startswith(".")}
        assert there.items() <= whole.items()
    assert killed >= 6
    subprocess.run([*job, "20", "--out", "out", "--quiet"], env=environment, check=True)
    assert contents("out") == whole


@pytest.mark.slow
def test_torchrun_starts_killed_workers_again(listed: list[str], pico: Path) -> None:
    """Kill one of two; the group begins again and goes on from the shards that are there."""
    Path("list.txt").write_text("\n".join(listed * 400))
    words = ["--weights", str(pico), "--manifest", "list.txt", "--shard-size", "40", "--quiet", "--out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(ROOT / "tools" / "detect.py"), *words, "whole"], env=environment, check=True)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
    ]
    code = (
        "import os, sys, threading, time\n"
        "from pathlib import Path\n"
        "from yolo_lite.cli import main\n"
        "def end():\n"
        "    while len(list(Path('out').glob('shard*'))) < 8: time.sleep(0.01)\n"
        "    os.kill(os.getpid(), 9)\n"
        "if os.environ['RANK'] == '1' and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':\n"
        "    threading.Thread(target=end, daemon=True).start()\n"
        "sys.exit(main(['detect', *sys.argv[1:]]))\n"
    )
    Path("worker.py").write_text(code)
    result = subprocess.run(
        [*torchrun, "worker.py", *words, "out"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "exitcode: -9" in result.stderr
    assert "were there" in result.stdout
    assert contents("out") == contents("whole")


def test_a_stopped_run_says_what_it_has_written(
    listed: list[str], pico: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def interrupt(self: Detector, images: list[object]) -> list[object]:
        looks.append(len(images))
        if len(looks) == 3:
            raise KeyboardInterrupt
        return original(self, images)  # type: ignore[return-value, arg-type]

    original = Detector._detect
    monkeypatch.setattr(Detector, "_detect", interrupt)
    job = ["detect", "--weights", str(pico), "--manifest", "list.txt", "--out", "out", "--shard-size", "4"]
    assert main(job) == 130
    assert "; 2 shards written\n" in capsys.readouterr().out
    assert sorted(contents("out")) == ["manifest.json", "shard-000000.jsonl", "shard-000001.jsonl"]


def test_a_full_disk_ends_the_run_in_one_line(listed: list[str], pico: Path, tmp_path: Path) -> None:
    """The largest file that this process may write has 1,000 bytes: rows need more, settings less."""
    resource = pytest.importorskip("resource")
    limit = f"resource.setrlimit({resource.RLIMIT_FSIZE}, (1000, 1000))"
    code = f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {limit}"
    words = ["--weights", str(pico), "--manifest", "list.txt", "--out", "out", "--score-threshold", "0.06"]
    result = subprocess.run(
        [sys.executable, "-c", code + TORCH_FREE, *words], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "error: cannot write out/shard-000000.jsonl: File too large"
    assert sorted(contents("out")) == ["manifest.json"]
    shutil.rmtree("out")
