"""The pages: links lead somewhere, the README stays short, and the examples in Python run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from shutil import copy

import pytest

from tests.conftest import write_coco_set
from yolo_lite.cli import main
from yolo_lite.predict.files import sample_image

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "weights" / "README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"((?:<!--[^\n]*-->\n)?)```(\w*)\n(.*?)```", re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of one language on a page that are not marked as not run."""
    fences = FENCE.findall(page.read_text(encoding="utf-8"))
    return [code for mark, kind, code in fences if kind == language and "<!-- not run" not in mark]


def anchors(page: Path) -> set[str]:
    """Return the names that headings of a page have as link targets."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_resolves(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with what the pages name the current one."""
    for name in ("photo.jpg", "grace_hopper.jpg"):
        copy(sample_image(), tmp_path / name)
    write_coco_set(tmp_path / "my_images", {"train": 6, "val": 3})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_in_python_run(page: Path, folder: Path) -> None:
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_run(page: Path, folder: Path) -> None:
    for code in blocks(page, "bash"):
        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            assert words[0] == "yolo-lite", f"not run by this test: {line}"
            assert main(words[1:]) == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_print_what_the_page_shows(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for code in blocks(page, "console"):
        command, *shown = code.splitlines()
        assert main(shlex.split(command)[2:]) == 0
        assert capsys.readouterr().out.splitlines() == shown
