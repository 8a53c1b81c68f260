"""`yolo-lite serve` before it answers: what it says, warns about and refuses."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from yolo_lite.cli import main
from yolo_lite.serve.access import check_host
from yolo_lite.serve.models import Models

PICO = ("--weights", "yolo_lite-pico-voc5", "--batch-size", "1", "--device", "cpu")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the applications that would be served; none is."""
    from yolo_lite.serve import server

    applications: list[Any] = []

    def serve(application: Any, bound: Any, *, on_start: Any) -> None:
        applications.append(application)
        on_start()
        application.close()

    monkeypatch.setattr(server, "serve", serve)
    return applications


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        status = main(["serve", *words])
    except SystemExit as error:  # of argparse
        status = int(str(error.code))
    out, err = capsys.readouterr()
    return status, out, err


def test_it_says_what_it_serves_and_where(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *PICO, "--port", "0")
    first, second = out.splitlines()
    assert (status, err) == (0, "")
    assert first == "yolo_lite-pico-voc5: detector of 5 classes, torch on cpu, one image at a time"
    assert second.startswith("listening on http://127.0.0.1:")
    assert second.endswith(" (Ctrl-C stops)")
    assert (served[0].access.token, set(served[0].access.hosts)) == (None, {"127.0.0.1"})


def test_its_networks_warm_up_in_the_thread_that_works(
    served: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    monkeypatch.setattr(Models, "warm_up", lambda self: threads.append(threading.current_thread().name))
    assert run(capsys, *PICO, "--port", "0")[0] == 0
    assert threads == ["engine"]


def test_an_address_that_others_reach_is_warned_about(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run(capsys, *PICO, "--port", "0", "--host", "0.0.0.0")
    password, names = err.splitlines()
    assert password.startswith("warning: everybody who can reach 0.0.0.0 can use this server: it asks for no password")
    assert names.startswith("warning: the server answers for any host name, so a web page")
    assert names.endswith("pass the name that your clients use: --allow-host NAME")
    assert served[0].access.hosts is None
    _, _, err = run(capsys, *PICO, "--port", "0", "--host", "0.0.0.0", "--token", "abc", "--allow-host", "GPU.example.")
    assert err == "warning: images and the token travel unencrypted; put a proxy with TLS in front\n"
    check_host("gpu.example:8000", served[1].access.hosts)
    assert (served[1].access.token, set(served[1].access.hosts)) == ("abc", {"gpu.example", "0.0.0.0"})


def test_it_answers_by_the_address_that_it_listens_on(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """All of 127.0.0.0/8 is this machine; Debian gives it the name 127.0.1.1."""
    _, out, _ = run(capsys, *PICO, "--port", "0", "--host", "127.0.1.1")
    assert "listening on http://127.0.1.1:" in out
    check_host("127.0.1.1:8000", served[0].access.hosts)


def test_the_token_may_come_from_the_environment(
    served: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLO_LITE_TOKEN", "hidden")
    run(capsys, *PICO, "--port", "0")
    run(capsys, *PICO, "--port", "0", "--token", "given")
    assert [application.access.token for application in served] == ["hidden", "given"]


def test_settings_become_those_of_the_network_and_the_server(
    served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--port 0 --score-threshold 0.7 --max-detections 9 --tiles 2x2 --image-size 64 --queue 3 --seconds 2.5"
    run(capsys, *PICO, *words.split(), "--max-bytes", "1000", "--max-pixels", "2000")
    (application,) = served
    network, limits = application.models.default.network, application.limits
    assert (network.score_threshold, network.max_detections, network.image_size) == (0.7, 9, (64, 64))
    assert str(network.tiling) == "2x2, overlap 0.2"
    assert (limits.max_bytes, limits.max_pixels, limits.seconds, limits.queue) == (1000, 2000, 2.5, 3)


def test_any_batch_forms_batches_of_all_sizes(served: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, *PICO[:2], "--batch-size", "3", "--any-batch", "--port", "0")
    assert out.startswith("yolo_lite-pico-voc5: detector of 5 classes, torch on cpu, batches of up to 3\n")
    assert served[0].models.default.batch_sizes == (1, 2, 3)


def test_networks_get_names(served: list[Any], capsys: pytest.CaptureFixture[str], pico: Path) -> None:
    words = ("--weights", "yolo_lite-pico-voc5", f"fast={pico}", str(pico), "--batch-size", "1", "--port", "0")
    _, out, _ = run(capsys, *words)
    assert [line.partition(":")[0] for line in out.splitlines()[:3]] == ["yolo_lite-pico-voc5", "fast", "pico"]
    assert served[0].models.default.name == "yolo_lite-pico-voc5"


@pytest.mark.parametrize("name", [".", "*", "*.example", "a,b", "http://a", "a b", "[::1]"])
def test_what_is_no_host_name_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, *PICO, "--port", "0", "--allow-host", "gpu.example", name)
    refusal = f"--allow-host takes names without port or *, such as gpu.example, got {name!r}"
    assert (status, err) == (2, f"error: {refusal}\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--port", "70000"), "argument --port: expected a port from 0 to 65535, got '70000'"),
        (("--port", "x"), "argument --port: expected a port from 0 to 65535, got 'x'"),
        (("--queue", "0"), "argument --queue: expected a whole number of at least 1, got '0'"),
        (("--seconds", "nan"), "argument --seconds: expected a number of seconds above 0, got 'nan'"),
        (("--host", "192.0.2.1", "--port", "0"), "cannot listen on 192.0.2.1, port 0: Cannot assign requested address"),
        (("--host", "not an address", "--port", "0"), "--host not an address is not an address of this machine"),
        (
            (*PICO, "--port", "0", "--allow-host", "gpu.example:1"),
            "--allow-host takes names without port or *, such as gpu.example, got 'gpu.example:1'",
        ),
        (("--weights", "nothing.pt", "--port", "0"), "nothing.pt does not exist; shipped weights: "),
        (("--weights", "nothing.onnx", "--port", "0"), "nothing.onnx does not exist"),
        ((*PICO, "--port", "0", "--token", "two words"), "--token takes letters, digits and signs of ASCII"),
        (
            (*PICO, "--port", "0", "--tiles", "2x2", "--tile", "64"),
            "--tiles names a grid and --tile the side of a tile",
        ),
        (("--image-size", "100", "--port", "0"), "--image-size"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], line: str, served: list[Any]
) -> None:
    status, _, err = run(capsys, *words)
    assert (status, len(err.splitlines())) == (2, 1), err
    assert err.startswith("error: ")
    assert line in err
    assert not served


def test_two_networks_of_one_name_are_refused(capsys: pytest.CaptureFixture[str], served: list[Any]) -> None:
    twice = ("a=yolo_lite-pico-voc5", "a=yolo_lite-n-voc5", "--batch-size", "1", "--port", "0")
    status, _, err = run(capsys, "--weights", *twice)
    assert (status, "two networks are called 'a'; give them different names" in err) == (2, True)


def test_settings_that_an_exported_file_has_fixed_are_refused(
    capsys: pytest.CaptureFixture[str], served: list[Any], pico: Path
) -> None:
    for words in (("--iou-threshold", "0.5"), ("--image-size", "64"), ("--tta",), ("--device", "cuda")):
        status, _, err = run(capsys, "--weights", str(pico), "--port", "0", *words)
        assert (status, words[0] in err) == (2, True)


def test_a_port_that_is_in_use_is_refused(capsys: pytest.CaptureFixture[str], served: list[Any]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        status, _, err = run(capsys, *PICO, "--port", str(port))
    assert status == 2
    assert err == f"error: cannot listen on 127.0.0.1, port {port}: Address already in use; choose another --port\n"


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "python_multipart"])
def test_a_missing_package_is_named_with_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    status, _, err = run(capsys, *PICO)
    name = module.replace("_", "-")
    assert (status, err) == (2, f"error: serve needs {name}, which is not installed: pip install 'yolo-lite[serve]'\n")
