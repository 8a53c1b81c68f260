"""Letters that DejaVu Sans lacks, from fonts that the tests draw themselves: no font of the system is asked for."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from PIL import Image

from yolo_lite.draw import boxes, fonts, labels, plots, sheets
from yolo_lite.errors import InputError
from yolo_lite.structures.results import Detections

MakeFont = Callable[[str, str], Path]


@pytest.fixture
def make_font(tmp_path: Path) -> MakeFont:
    """Return a function that writes a font whose letters are all a black square."""
    builder = pytest.importorskip("fontTools.fontBuilder")
    pens = pytest.importorskip("fontTools.pens.ttGlyphPen")

    def make(name: str, letters: str) -> Path:
        pen = pens.TTGlyphPen(None)
        for step, point in enumerate([(0, 0), (0, 800), (800, 800), (800, 0)]):
            pen.lineTo(point) if step else pen.moveTo(point)
        pen.closePath()
        square, names = pen.glyph(), {letter: f"u{ord(letter):X}" for letter in letters}
        font = builder.FontBuilder(1000, isTTF=True)
        font.setupGlyphOrder([".notdef", *names.values()])
        font.setupCharacterMap({ord(letter): glyph for letter, glyph in names.items()})
        font.setupGlyf(dict.fromkeys([".notdef", *names.values()], square))
        font.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 0)))
        font.setupHorizontalHeader(ascent=800, descent=-200)
        font.setupNameTable({"familyName": name, "styleName": "Regular"})
        font.setupOS2()
        font.setupPost()
        font.save(tmp_path / f"{name}.ttf")
        return tmp_path / f"{name}.ttf"

    return make


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that says which fonts the system has; none until it is called."""

    def install(*paths: Path) -> None:
        monkeypatch.setattr(fonts, "_system_fonts", lambda: paths)
        for cached in (fonts._search, labels._fonts_for):
            cached.cache_clear()

    install()
    return install


def drawn(name: str, font: Path | None = None) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    found = Detections(np.array([[20, 40, 180, 90]]), np.array([0.5]), labels=np.array([0]), class_names=(name,))
    return boxes.draw_detections(np.full((100, 200, 3), 60, np.uint8), found, font=font)


def test_letters_that_no_font_has_are_named_once(installed: Callable[..., None]) -> None:
    line = fonts.missing_letters(["cat", "кошка", "猫", "子猫", "🐈"])
    assert line
    assert line.startswith(
        "no font on this machine has 猫, 子, 🐈: drawings show empty boxes in their place; install a"
    )
    assert fonts.missing_letters(["cat", "кошка", "café", "e\u0301", "a\u200db", "two\nlines", "\ud83d"]) is None


def test_a_font_of_the_system_gives_what_dejavu_lacks(make_font: MakeFont, installed: Callable[..., None]) -> None:
    """The square of the test's font is full; the box that stands for a missing letter is empty."""
    before = drawn("猫")
    unused, han = make_font("Latin", "abc"), make_font("Han", "猫子")
    (unused.parent / "broken.ttf").write_bytes(b"no font")
    installed(unused.parent / "broken.ttf", unused, han)
    assert fonts.missing_letters(["猫"]) is None
    assert fonts.fonts_for(["a 猫"]) == (fonts.base_font(), han)
    assert fonts.fonts_for(["кошка"]) == (fonts.base_font(),)
    after = drawn("猫")
    assert (after != before).any()
    plate = after[:40, 20:]
    dark = (plate.max(2) < 60).all(0)
    assert dark.sum() == 0  # no column is all letter ...
    assert ((plate.max(2) < 60).sum(0) >= 7).sum() >= 7  # ... but the square is at least 7 x 7


def test_a_text_is_cut_where_the_font_changes(make_font: MakeFont, installed: Callable[..., None]) -> None:
    base, han = fonts.base_font(), make_font("Han", "猫")
    assert fonts.pieces("cat", (base, han)) == [("cat", base)]
    assert fonts.pieces("my 猫\u0301猫 50%", (base, han)) == [("my ", base), ("猫\u0301猫", han), (" 50%", base)]
    assert fonts.pieces("字", (base, han)) == [("字", base)]  # an empty box of the first
    assert fonts.pieces("", (base, han)) == []
    assert fonts.pieces("猫", ()) == [("猫", None)]


def test_the_chosen_font_goes_first_for_what_it_has(make_font: MakeFont, installed: Callable[..., None]) -> None:
    base, chosen = fonts.base_font(), make_font("Chosen", "a猫")
    assert fonts.fonts_for(["猫"], chosen) == (chosen, base)
    assert fonts.pieces("ab猫", (chosen, base)) == [("a", chosen), ("b", base), ("猫", chosen)]
    assert (drawn("a", chosen) != drawn("a")).any()
    assert fonts.missing_letters(["猫"], chosen) is None


def test_what_is_no_font_is_refused(tmp_path: Path) -> None:
    for name, content in (("none.ttf", None), ("text.ttf", b"no font"), ("empty.otf", b"")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read as a font"):
            fonts.check_font(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read as a font"):
        fonts.check_font(tmp_path)


def test_a_font_whose_name_is_not_utf8_is_refused(make_font: MakeFont, tmp_path: Path) -> None:
    named = make_font("Han", "猫").rename(tmp_path / "caf\udce9.ttf")
    with pytest.raises(InputError, match="cannot be read as a font"):
        fonts.check_font(named)


@pytest.mark.parametrize("installed_fonts", [0, 1])
def test_figures_use_the_same_fonts_without_a_warning(
    make_font: MakeFont, installed: Callable[..., None], tmp_path: Path, installed_fonts: int
) -> None:
    installed(*[make_font("Han", "猫")][:installed_fonts])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.plot_confusion(np.eye(2, dtype=np.int64), ("猫", "犬"), path=tmp_path / "a.png")
        plots.plot_confusion(np.eye(2, dtype=np.int64), ("犬", "犬"), path=tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as one, Image.open(tmp_path / "b.png") as other:
        same = one.size == other.size and (np.asarray(one) == np.asarray(other)).all()
    assert same != bool(installed_fonts)


def test_a_sheet_writes_letters_of_the_system(
    make_font: MakeFont, installed: Callable[..., None], tmp_path: Path
) -> None:
    image = sheets.SheetImage(np.full((64, 64, 3), 60, np.uint8), np.array([[5, 20, 60, 60]]), labels=[0], texts=["猫"])
    sheets.draw_sheet([image], tmp_path / "a.png")
    installed(make_font("Han", "猫"))
    sheets.draw_sheet([image], tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as one, Image.open(tmp_path / "b.png") as other:
        assert (np.asarray(one) != np.asarray(other)).any()


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let matplotlib's fonts be missing, as in the runtime."""
    cached = (fonts._open, fonts._has, fonts._search, fonts._system_fonts, labels._fonts_for)
    for name in ("matplotlib.ft2font", "matplotlib.font_manager"):
        monkeypatch.setitem(sys.modules, name, None)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_pillow_finds_the_letters_of_a_font(tmp_path: Path) -> None:
    base = fonts.base_font()
    assert base
    has = {letter for letter in "aZ9é€кжλאα猫子🐈" if fonts.font_of(letter, [base])}
    assert has == set("aZ9é€кжλאα")  # as matplotlib finds
    assert fonts.check_font(base) == base
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    with pytest.raises(InputError, match="broken.ttf cannot be read as a font"):
        fonts.check_font(tmp_path / "broken.ttf")


@pytest.mark.usefixtures("no_matplotlib")
def test_without_matplotlib_the_fonts_of_the_system_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = fonts.base_font()
    assert base
    (tmp_path / "truetype").mkdir()
    copy(base, tmp_path / "truetype" / "Found.ttf")
    monkeypatch.setattr(fonts, "_FOLDERS", (str(tmp_path), str(tmp_path / "missing")))
    monkeypatch.setattr(fonts, "base_font", lambda: None)
    assert fonts.fonts_for(["кот"]) == (tmp_path / "truetype" / "Found.ttf",)
    assert fonts.missing_letters(["кот"]) is None
    assert str(fonts.missing_letters(["猫"])).startswith("no font on this machine has 猫")
    assert (drawn("кот") != drawn("cat")).any()
