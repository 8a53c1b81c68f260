"""What docs/serve.md and docs/examples/Dockerfile say about running the server: read, and run as far as possible."""

from __future__ import annotations

import configparser
import http.client
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.loopback import free_port, wait_for_port
from tests.serve.conftest import Server, Stub, grey, running
from tests.test_docs import FENCE
from yolo_lite.media.writers import encode_image
from yolo_lite.serve.application import Access
from yolo_lite.serve.models import Choices, open_models
from yolo_lite.serve.server import IDLE_SECONDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
DOCKERFILE = ROOT / "docs" / "examples" / "Dockerfile"
NAME = "detect.example.com"
Start = Callable[..., Server]


def blocks(language: str) -> list[str]:
    return [code for _, kind, code in FENCE.findall(PAGE) if kind == language]


@pytest.fixture(scope="module")
def shipped() -> Iterator[Server]:
    """Run a server with the shipped network, as the page does."""
    with running(open_models([], Choices(device="cpu"))) as server:
        yield server


def curls() -> list[tuple[str, str]]:
    """Return the requests of the page by curl, and what it shows for each."""
    lines = [line for code in blocks("console") if "$ curl" in code for line in code.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith("$ curl")]
    ends = [*starts[1:], len(lines)]
    return [(lines[start][2:], "\n".join(lines[start + 1 : end])) for start, end in zip(starts, ends)]


@pytest.mark.slow
def test_requests_by_curl_are_answered_as_the_page_shows(shipped: Server, photo: bytes, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("there is no curl")
    (tmp_path / "grace_hopper.jpg").write_bytes(photo)
    assert len(curls()) == 4
    for command, shown in curls():
        words = [word.replace(":8000", f":{shipped.port}") for word in shlex.split(command)]
        result = subprocess.run([*words, "--silent"], capture_output=True, cwd=tmp_path, check=True)
        if shown:
            check_close(json.loads(result.stdout), json.loads(shown))
    assert (tmp_path / "annotated.jpg").read_bytes()[:2] == b"\xff\xd8"


def check_close(got: Any, shown: Any, *, key: str = "") -> None:
    """Assert that two documents are the same, except for time and the last digits of numbers."""
    assert type(got) is type(shown)
    if isinstance(got, dict):
        assert got.keys() == shown.keys()
        for name in got.keys() - {"captured_at"}:
            check_close(got[name], shown[name], key=name)
    elif isinstance(got, list):
        assert len(got) == len(shown)
        for one, other in zip(got, shown):
            check_close(one, other, key=key)
    else:
        assert got == (pytest.approx(shown, abs=1e-3 if key == "score" else 0.1) if isinstance(got, float) else shown)


@pytest.mark.slow
def test_the_request_in_python_prints_what_the_page_shows(shipped: Server, photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "grace_hopper.jpg").write_bytes(photo)
    ((code, shown),) = re.findall(r"```python\n([^`]*urlopen[^`]*)```\n\nIt prints:\n\n```\n([^`]*)```", PAGE)
    words = [sys.executable, "-c", code.replace(":8000", f":{shipped.port}")]
    result = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert result.stdout == shown


def instructions() -> list[list[tuple[str, str]]]:
    """Return the instructions of the Dockerfile, by stage."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    stages: list[list[tuple[str, str]]] = []
    for word, value in lines:
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, value.strip()))
    return stages


def values(stage: list[tuple[str, str]], word: str) -> list[str]:
    return [value for name, value in stage if name == word]


def test_everything_that_the_dockerfile_copies_is_there() -> None:
    build, run = instructions()
    sources = [word for value in values(build, "COPY") for word in value.split()[:-1]]
    assert {"setup.cfg", "yolo_lite", "tools", "weights", "configs", "README.md", "LICENSE", "NOTICE"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    (build_name,) = (value.split()[-1] for value in values(build, "FROM"))
    (copied,) = values(run, "COPY")
    assert copied == f"--from={build_name} /wheels /wheels"
    assert values(build, "RUN")[-1].endswith("--out /wheels")


def test_the_last_stage_has_no_torch_and_no_root() -> None:
    _, run = instructions()
    assert values(run, "FROM") == ["python:3.12-slim"]
    assert "torch" not in " ".join(value for _, value in run)
    (user,) = values(run, "USER")
    number, group = map(int, user.split(":"))
    assert number > 0
    assert group > 0
    words = [word for word, _ in run]
    assert words.index("USER") > max(place for place, word in enumerate(words) if word == "RUN")
    assert words.index("USER") < words.index("ENTRYPOINT")


def test_the_packages_are_those_of_the_extra() -> None:
    """The wheel asks for numpy, Pillow and onnxruntime, and its extra `serve` for what setup.cfg says."""
    from tools.build_runtime import metadata

    _, run = instructions()
    (install,) = (value for value in values(run, "RUN") if "pip install" in value)
    assert '"$(ls /wheels/*.whl)[serve]"' in install
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extra = [line for line in config["options.extras_require"]["serve"].splitlines() if line and line[0] != "#"]
    needed = [line.removeprefix("Requires-Dist: ") for line in metadata().splitlines() if "Requires-Dist" in line]
    assert {f"{line}; extra == 'serve'" for line in extra} <= set(needed)
    assert {re.split(r"\W", line)[0] for line in needed if "extra" not in line} == {"numpy", "Pillow", "onnxruntime"}


def test_the_container_starts_a_command_that_exists() -> None:
    from yolo_lite.cli import build_parser

    _, run = instructions()
    (entry,), (more,) = values(run, "ENTRYPOINT"), values(run, "CMD")
    program, *words = [*json.loads(entry), *json.loads(more)]
    assert program == "yolo-lite"
    args = build_parser(words[0]).parse_args(words)
    assert (args.host, str(args.port)) == ("0.0.0.0", values(run, "EXPOSE")[0])


def test_the_health_check_fails_unless_the_server_answers(start: Start) -> None:
    _, run = instructions()
    (check,) = values(run, "HEALTHCHECK")
    _, option, code = json.loads(check.partition("CMD ")[2])
    assert option == "-c"
    assert "http://127.0.0.1:8000/healthz" in code
    port = start(Access(hosts=None)).port
    for asked, status in ((port, 0), (free_port(), 1)):
        words = [sys.executable, "-c", code.replace(":8000", f":{asked}")]
        assert subprocess.run(words, capture_output=True, check=False).returncode == status


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a certificate for NAME, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl")
    folder = tmp_path_factory.mktemp("tls")
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} -addext subjectAltName=DNS:{NAME}"
    files = folder / "one.pem", folder / "one.key"
    subprocess.run([*words.split(), "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


@dataclass(frozen=True)
class Asker:
    """Asks a proxy."""

    port: int
    pid: int
    certificate: Path

    def __call__(
        self, method: str, path: str, *, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of an answer."""
        connection = http.client.HTTPConnection(NAME, self.port, timeout=60)
        plain = socket.create_connection(("127.0.0.1", self.port), 30)
        context = ssl.create_default_context(cafile=str(self.certificate))
        connection.sock = context.wrap_socket(plain, server_hostname=NAME)
        try:
            sent = {name: value.replace("PORT", str(self.port)) for name, value in (headers or {}).items()}
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def proxied(kind: str, server: int, folder: Path, certificate: tuple[Path, Path]) -> Iterator[Asker]:
    """Run a proxy with the configuration of the page, and yield a function that asks it."""
    if not shutil.which(kind):
        pytest.skip(f"there is no {kind}")
    port, log = free_port(), folder / "log"
    words = (_nginx if kind == "nginx" else _caddy)(folder, port, server, certificate)
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=log.open("wb"), env=environment, cwd=folder)
    try:
        wait_for_port(port, process, log=log)
        yield Asker(port, process.pid, certificate[0])
    finally:
        process.terminate()
        process.wait(20)


def _nginx(folder: Path, port: int, server: int, certificate: tuple[Path, Path]) -> list[str]:
    text = blocks("nginx")[0].replace("listen 443", f"listen 127.0.0.1:{port}")
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{server}")
    for ending, file in zip(("pem", "key"), certificate):
        assert f"/etc/ssl/{NAME}.{ending};" in text
        text = text.replace(f"/etc/ssl/{NAME}.{ending}", str(file))
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\nevents {{}}\n"
        f"http {{ access_log off;\n{temporary}{text}}}\n"
    )
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def _caddy(folder: Path, port: int, server: int, certificate: tuple[Path, Path]) -> list[str]:
    (text,) = blocks("caddy")
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{server}")
    tls = f"tls {certificate[0]} {certificate[1]}"
    text = text.replace(f"{NAME} {{", f"https://{NAME}:{port} {{\n    bind 127.0.0.1\n    {tls}")
    (folder / "Caddyfile").write_text("{\n    admin off\n    auto_https off\n}\n" + text)
    return ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]


PROXIES = pytest.mark.parametrize("kind", ["nginx", "caddy"])


@PROXIES
def test_requests_of_programs_and_of_its_own_page_pass_the_proxy(
    kind: str, start: Start, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    server = start(Access("secret", hosts=(NAME,)))
    bearer = {"Authorization": "Bearer secret"}
    with proxied(kind, server.port, tmp_path, certificate) as ask:
        assert ask("GET", "/healthz") == (200, b'{"status":"ok"}')
        assert ask("GET", "/")[0] == 200
        large = noise(3)
        assert len(large) > 3_000_000  # nginx refuses more than 1 MB unless it is told not to
        assert ask("POST", "/v1/detect", body=large, headers=bearer)[0] == 200
        assert ask("POST", "/v1/detect", body=iter([large]), headers=bearer)[0] == 200  # in chunks, without a length
        assert ask("POST", "/v1/detect", body=grey(9))[0] == 401
        own = {**bearer, "Origin": f"https://{NAME}:PORT"}
        assert ask("POST", "/v1/detect", body=grey(9), headers=own)[0] == 200
        foreign = {**bearer, "Origin": "https://evil.example"}
        assert ask("POST", "/v1/detect", body=grey(9), headers=foreign)[0] == 403
        assert ask("GET", "/metrics", headers=bearer)[0] == 403


@PROXIES
def test_without_the_name_of_the_proxy_the_server_refuses(
    kind: str, start: Start, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    server = start(Access())
    with proxied(kind, server.port, tmp_path, certificate) as ask:
        status, body = ask("POST", "/v1/detect", body=grey(9))
        assert (status, b"--allow-host" in body) == (403, True)


@PROXIES
def test_limits_of_the_server_work_through_the_proxy(
    kind: str, start: Start, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    server = start(Access(hosts=(NAME,)), max_bytes=1000)
    with proxied(kind, server.port, tmp_path, certificate) as ask:
        status, body = ask("POST", "/v1/detect", body=b"x" * 3_000_000)
        assert (status, json.loads(body)["error"][:30]) == (413, "The body has more than 1,000 b")


@PROXIES
def test_the_proxy_writes_no_upload_to_its_disk(
    kind: str, start: Start, stub: Stub, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """While the network works on an image, the proxy has no file of its size open; nginx's files have no names."""
    server = start(Access(hosts=(NAME,)))
    stub.gate.clear()
    with proxied(kind, server.port, tmp_path, certificate) as ask, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(ask, "POST", "/v1/detect", body=noise(4))
        until = time.monotonic() + 60
        while not server.application.engine.places and time.monotonic() < until:
            time.sleep(0.01)
        assert server.application.engine.places == 1
        sizes = open_files(ask.pid)
        stub.gate.set()
        assert sent.result(60)[0] == 200
    assert max(sizes) < 100_000


def open_files(pid: int) -> list[int]:
    """Return the sizes of the files that a process has open."""
    folder = Path(f"/proc/{pid}/fd")
    if not folder.is_dir():
        pytest.skip("this system does not list open files")
    found = [entry.stat() for entry in folder.iterdir()]
    return [0, *(each.st_size for each in found if stat.S_ISREG(each.st_mode))]


def test_the_proxies_close_idle_connections_before_the_server_does() -> None:
    """Else a request may be sent over a connection that is being closed."""
    text = "\n".join(blocks("nginx") + blocks("caddy"))
    times = [int(seconds) for seconds in re.findall(r"keepalive(?:_timeout)? (\d+)s", text)]
    assert len(times) == 3
    assert max(times) < IDLE_SECONDS


def noise(seed: int) -> bytes:
    """Return a PNG of more than 3 MB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1100, 1000, 3), np.uint8)
    return encode_image(pixels, ".png")


def test_the_unit_of_systemd_is_valid(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    (text,) = blocks("ini")
    assert "ExecStart=/opt/yolo-lite/bin/yolo-lite serve " in text
    (tmp_path / "yolo-lite.service").write_text(text.replace("/opt/yolo-lite/bin/yolo-lite", sys.executable))
    words = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "yolo-lite.service")]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert not [line for line in result.stderr.splitlines() if "yolo-lite.service" in line], result.stderr
