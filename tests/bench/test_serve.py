"""`bench serve`: answers that belong to another request are counted, and the figures are those of one run."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from types import SimpleNamespace

import pytest

from tests.loopback import free_port, no_network
from yolo_lite.bench.clients import SECONDS, Clients, comparable, plan
from yolo_lite.bench.peers import Peer
from yolo_lite.bench.serve import Load, _cpu_seconds, _divide, _measure, _resident, _words, several_sizes
from yolo_lite.cli import main
from yolo_lite.errors import InputError
from yolo_lite.media.images import read_image
from yolo_lite.predict.files import sample_image

__all__ = ["no_network"]
Answer = Callable[[bytes], tuple[int, bytes]]


def document(body: bytes) -> bytes:
    """Return an answer to an image whose "detections" are its bytes."""
    return b'{"source":"request","captured_at":1.5,"image_size":[1,1],"detections":[%d]}' % len(body)


@pytest.fixture
def start() -> Iterator[Callable[[Answer], int]]:
    """Return a function that runs a server with a given answer to each body, and returns its port."""
    with ExitStack() as stack:

        def begin(answer: Answer) -> int:
            class Handler(BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"

                def do_POST(self) -> None:
                    status, body = answer(self.rfile.read(int(self.headers["Content-Length"])))
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *arguments: object) -> None:
                    pass

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(server.shutdown)
            return int(server.server_address[1])

        yield begin


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Return three files of different lengths."""
    for number in range(3):
        (tmp_path / str(number)).write_bytes(b"x" * (number + 1))
    return [str(tmp_path / str(number)) for number in range(3)]


ANSWERS = [comparable(document(b"x" * size)) for size in (1, 2, 3)]


def test_a_server_that_answers_each_request_itself_gives_no_wrong_answers(
    start: Callable[[Answer], int], files: list[str]
) -> None:
    sent: list[int] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        sent.append(len(body))
        return 200, document(body)

    clients = Clients(start(answer), files, answers=ANSWERS)
    alone, together = clients.single(), clients.together(20, 4)
    assert (alone["wrong"], together["wrong"]) == (0, 0)
    assert len(alone["ms"]) == 3
    assert all(ms > 0 for ms in alone["ms"])
    assert together["seconds"] > 0
    assert sent[:3] == [1, 2, 3]
    expected = map(int, "01201 12012 20120 01201".replace(" ", ""))  # client by client
    assert Counter(sent[3:]) == Counter(image + 1 for image in expected)


def test_an_answer_to_another_request_is_counted(start: Callable[[Answer], int], files: list[str]) -> None:
    """Two requests that are there at once get each other's answers."""
    met, bodies = threading.Barrier(2, timeout=60), dict[int, bytes]()

    def swap(body: bytes) -> tuple[int, bytes]:
        place = met.wait()
        bodies[place] = body
        met.wait()
        other = bodies[1 - place]
        met.wait()
        return 200, document(other)

    assert Clients(start(swap), files, answers=ANSWERS).together(6, 2)["wrong"] == 6


def test_one_wrong_answer_of_many_is_counted(start: Callable[[Answer], int], files: list[str]) -> None:
    asked = iter(range(100))

    def answer(body: bytes) -> tuple[int, bytes]:
        return 200, document(body if next(asked) != 7 else body + b"y")

    assert Clients(start(answer), files, answers=ANSWERS).together(24, 3)["wrong"] == 1


@pytest.mark.parametrize("together", [False, True])
def test_a_refusal_ends_the_measurement_with_the_words_of_the_server(
    together: bool, start: Callable[[Answer], int], files: list[str]
) -> None:
    clients = Clients(start(lambda body: (413, b'{"error": "Too large."}')), files, answers=ANSWERS)
    with pytest.raises(InputError, match=r"^the server answered 413: Too large\.$"):
        clients.together(8, 2) if together else clients.single()


def test_a_client_that_cannot_connect_ends_the_measurement_at_once(
    start: Callable[[Answer], int], files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third of four connections is refused, and the wait of the others would last 5 seconds."""
    monkeypatch.setattr("yolo_lite.bench.clients.SECONDS", 5.0)
    connect, tries, opened = HTTPConnection.connect, count(1), list[HTTPConnection]()

    def refuse_the_third(connection: HTTPConnection) -> None:
        if next(tries) == 3:
            raise ConnectionRefusedError(111, "Connection refused")
        connect(connection)
        opened.append(connection)

    monkeypatch.setattr(HTTPConnection, "connect", refuse_the_third)
    clients = Clients(start(lambda body: (200, document(body))), files, answers=ANSWERS)
    started = time.monotonic()
    with pytest.raises(InputError, match=r"^no connection to the server on port \d+: Connection refused; check"):
        clients.together(8, 4)
    assert time.monotonic() - started < 4.5
    assert len(opened) >= 2
    assert all(connection.sock is None for connection in opened)  # closed


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"nonsense\r\n\r\n"])
def test_a_connection_that_ends_without_an_answer_ends_the_measurement(
    sent: bytes, together: bool, files: list[str]
) -> None:
    """As a server does that is killed, or that has too many connections."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(sent)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        clients = Clients(server.server_address[1], files, answers=ANSWERS)
        with pytest.raises(InputError, match=r"^no answer from the server on port \d+: .+; check that it runs"):
            clients.together(4, 2) if together else clients.single()
        server.shutdown()


@pytest.mark.parametrize("call", ["single", "together"])
def test_a_peer_lives_on_if_its_clients_cannot_connect(call: str, files: list[str]) -> None:
    port = free_port()
    with Peer("yolo_lite.bench.clients") as peer:
        peer.ask("open", port=port, files=files, answers=ANSWERS)
        values = {"total": 6, "clients": 3} if call == "together" else {}
        for _ in range(2):
            with pytest.raises(InputError, match=f"^no connection to the server on port {port}: "):
                peer.ask(call, **values)


@pytest.mark.parametrize(("total", "clients", "images"), [(1, 1, 1), (7, 3, 8), (400, 8, 8), (5, 8, 3), (100, 8, 9)])
def test_a_plan_has_all_requests_and_no_neighbours_that_send_the_same_image(
    total: int, clients: int, images: int
) -> None:
    turns = plan(total, clients, images=images)
    assert len(turns) == clients
    assert sum(map(len, turns)) == total
    assert {image for turn in turns for image in turn} <= set(range(images))
    assert max(map(len, turns)) - min(map(len, turns)) <= 1
    if images > 1:
        pairs = ((a, b) for one, other in zip(turns, turns[1:]) for a, b in zip(one, other))
        assert all(a != b for a, b in pairs)


def test_the_server_refuses_no_client_that_waits_for_its_turn() -> None:
    words = _words("a.pt", "cpu", batch_size=8, threads=0, clients=100)
    values = dict(zip(words[1::2], words[2::2]))
    assert int(values["--queue"]) >= 100
    assert float(values["--seconds"]) >= SECONDS  # for which the clients wait


@pytest.mark.parametrize(("total", "parts", "expected"), [(50, 5, [10] * 5), (7, 5, [2, 2, 1, 1, 1]), (2, 5, [1, 1])])
def test_requests_are_divided_among_the_rounds(total: int, parts: int, expected: list[int]) -> None:
    assert _divide(total, parts) == expected


def test_few_images_are_completed_with_crops_of_other_sizes(tmp_path: Path) -> None:
    files = several_sizes([sample_image()], tmp_path)
    assert files[0] == sample_image()
    assert len({read_image(file).shape for file in files}) == 8
    (tmp_path / "again").mkdir()
    again = several_sizes([sample_image()], tmp_path / "again")
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


def test_many_images_are_sent_as_they_are(tmp_path: Path) -> None:
    images = [tmp_path / f"{number}.jpg" for number in range(9)]
    assert several_sizes(images, tmp_path) == images
    with pytest.raises(InputError, match="no images to send"):
        several_sizes([], tmp_path)


def test_a_peer_passes_on_an_error_and_says_when_it_ends() -> None:
    with Peer("yolo_lite.bench.clients") as peer:
        assert peer.ask("open", port=1, files=["no such file"], answers=[""]) is None
        peer._process.kill()
        peer._process.wait()
        with pytest.raises(InputError, match="the process clients ended"):
            peer.ask("single")


def test_memory_and_cpu_time_are_those_of_the_process() -> None:
    """The oracle is ps."""
    import os

    shown = subprocess.run(
        ["ps", "-o", "rss=,cputimes=", "-p", str(os.getpid())], capture_output=True, text=True, check=False
    )
    if shown.returncode:
        pytest.skip("there is no ps that tells CPU time")
    kilobytes, seconds = map(int, shown.stdout.split())
    assert _resident(os.getpid()) == pytest.approx(kilobytes * 1024, rel=0.2)
    assert _cpu_seconds(os.getpid()) == pytest.approx(seconds, abs=2)
    assert _resident(2**22 + 1) == 0


class Scripted:
    """A peer that answers each call with the next value of a list, and remembers the calls."""

    def __init__(self, log: list[str], **answers: list[object]) -> None:
        self.log, self.answers = log, {name: iter(values) for name, values in answers.items()}

    def ask(self, call: str, **values: object) -> object:
        self.log.append(call if self.__class__ is Scripted else f"http {call}")
        return next(self.answers[call])


class ScriptedClients(Scripted):
    """The same, for clients."""


def test_the_figures_are_medians_of_rounds_that_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images, two clients, two rounds of one request each; expected numbers are worked out by hand."""
    monkeypatch.setattr("yolo_lite.bench.serve._TURNS", 1)
    clock = iter([0.0, 0.0, 1.0, 1.2, 5.0, 5.4])
    monkeypatch.setattr("yolo_lite.bench.serve._cpu_seconds", lambda pid: next(clock))
    log: list[str] = []
    warm = {"seconds": 9.0, "cpu": 9.0}
    direct = Scripted(
        log,
        single=[[99, 99], [10, 30], [20, 50]],
        batched=[warm, {"seconds": 0.5, "cpu": 0.1}, {"seconds": 1, "cpu": 0.2}],
    )
    clients = ScriptedClients(
        log,
        single=[{"ms": [99, 99], "wrong": 0}, {"ms": [12, 33], "wrong": 1}, {"ms": [22, 55], "wrong": 0}],
        together=[{"seconds": 9, "wrong": 0}, {"seconds": 1, "wrong": 0}, {"seconds": 1, "wrong": 2}],
    )
    server = SimpleNamespace(pid=1, port=1, line="a detector")
    load = Load(clients=2, requests=2, rounds=2)
    report = _measure(direct, clients, server=server, load=load, count=2, say=lambda line: None)  # type: ignore[arg-type]
    assert report.direct_ms == pytest.approx((15 + 40) / 2)
    assert report.http_ms == pytest.approx((17 + 44) / 2)
    assert report.overhead_ms == pytest.approx(3)
    assert report.direct_rate == pytest.approx((4 + 2) / 2)  # 2 images in 0.5 s and in 1 s
    assert report.http_rate == pytest.approx(2)
    assert report.ratio == pytest.approx((2 / 4 + 2 / 2) / 2)
    assert report.cpu_ms == pytest.approx((75, 150))
    assert (report.answers, report.wrong) == (3 * 2 + 4 + 2 + 2, 3)
    singles = ["single", "http single"]
    pair = ["batched", "http together"]
    assert log == [*singles, *pair, *singles, *pair[::-1], *singles, *pair]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--memory-requests", "100"], "error: --memory-requests must be above 100, after which"),
        (["--weights", "nothing.onnx"], "error: nothing.onnx does not exist"),
        (["--source", "nowhere"], "error: "),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    words: list[str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "serve", *words]) == 2
    errors = [each for each in capfd.readouterr().err.splitlines() if not each.startswith("note: ")]
    assert len(errors) == 1
    assert errors[0].startswith(line)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["checkpoint", "exported"])
def test_the_command_measures_a_real_server(
    kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("starlette", "uvicorn", "python_multipart"):
        pytest.importorskip(name)
    weights = "yolo_lite-pico-voc5" if kind == "checkpoint" else str(request.getfixturevalue("pico"))
    words = ["--clients", "3", "--requests", "4", "--threads", "1", "--device", "cpu", "--memory-requests", "120"]
    assert main(["bench", "serve", "--weights", weights, *words]) == 0
    head, columns, alone, several, cpu, answers, memory = capsys.readouterr().out.splitlines()
    assert ("torch on cpu" if kind == "checkpoint" else "onnxruntime on cpu") in head
    assert head.endswith(", 1 thread")
    assert columns.split() == ["direct", "calls", "requests"]
    assert re.fullmatch(r"one after the other, ms +[\d.]+ +[\d.]+   [+-][\d.]+ ms, [+-][\d.]+%", alone)
    assert re.fullmatch(r"3 clients, images/s +[\d.]+ +[\d.]+   ratio [\d.]+", several)
    assert re.fullmatch(r"CPU ms an image +[\d.]+ +[\d.]+   ratio [\d.]+", cpu)
    # memory 120; warming up: 4 turns of 8 images and 6 requests; 4 rounds of 4 turns and 3 requests
    assert answers == f"{120 + 32 + 6 + 4 * (32 + 3)} answers, of which 0 differ from direct calls"
    assert re.fullmatch(
        r"memory of the server: [\d.]+ MB after 100 requests, [\d.]+ MB after 120: ratio [\d.]+", memory
    )
