"""The pages: links lead somewhere, the README stays short, and the examples in Python run."""

from __future__ import annotations

import re
from pathlib import Path
from shutil import copy

import pytest

from yolo_lite.predict.files import sample_image

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "weights" / "README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"((?:<!--[^\n]*-->\n)?)```python\n(.*?)```", re.DOTALL)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_in_python_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photo.jpg", "grace_hopper.jpg"):
        copy(sample_image(), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for marked, code in FENCE.findall(page.read_text(encoding="utf-8")):
        if "not run" not in marked:
            exec(compile(code, str(page), "exec"), {})
