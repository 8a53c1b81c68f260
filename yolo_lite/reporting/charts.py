"""Charts as SVG inside the page: lines, rows of bars or intervals, and the reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from yolo_lite.errors import shortened
from yolo_lite.reporting.markup import Content, Html, element, fold, join
from yolo_lite.reporting.values import DASH, decimal, measured

_STYLES = 6  # that the style sheet knows: .s0 to .s5
_ROW = 25.0  # height of a row, in units of the drawing
_LETTERS = 16  # of a name beside a row


@dataclass(frozen=True)
class Axis:
    """An axis: its title with the unit, its ends and its ticks."""

    title: str
    low: float = 0.0
    high: float = 1.0
    ticks: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    places: int = 1

    def fraction(self, value: float) -> float:
        """Return where a value lies: 0 at the low end, 1 at the high end, and never beyond."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


@dataclass(frozen=True)
class Series:
    """A line. Where a value is None it is broken.

    Attributes:
        style: number of its colour and its dashes.
        is_faint: whether it is one of many behind the others, which have no name in the legend.
    """

    name: str
    xs: Sequence[float | None]
    ys: Sequence[float | None]
    style: int = 0
    is_faint: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a chart: a value, the interval around it, and what is written to its right."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Bin:
    """A bin of scores: the mean score and the precision of the detections in it, and their number."""

    low: float
    high: float
    count: int
    score: float | None
    precision: float | None


@dataclass(frozen=True)
class Caption:
    """What a chart is called.

    Attributes:
        key: its name among the ids of the page.
        text: what it shows, in words, for those who cannot see it.
    """

    key: str
    title: str
    text: str


@dataclass(frozen=True)
class Size:
    """Width and height of a drawing, and its margins for ticks and titles."""

    width: float = 480
    height: float = 330
    left: float = 64
    right: float = 18
    top: float = 12
    bottom: float = 58


LARGE = Size()
SMALL = Size(width=240, height=205, left=54, right=18, top=10, bottom=54)
HALVES = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Plot:
    """The area between the axes: maps values to units of the drawing."""

    x: Axis
    y: Axis
    size: Size = field(default_factory=Size)

    def across(self, value: float) -> float:
        """Return the x of a value."""
        return self.size.left + self.x.fraction(value) * (self.size.width - self.size.left - self.size.right)

    def down(self, value: float) -> float:
        """Return the y of a value; y points down."""
        bottom = self.size.height - self.size.bottom
        return bottom - self.y.fraction(value) * (bottom - self.size.top)


def fitted_axis(title: str, values: Iterable[float | None], *, include: Sequence[float] = (0.0,)) -> Axis:
    """Return an axis over values, with three to seven round ticks.

    Args:
        title: with the unit.
        values: those that were not measured (None) are ignored.
        include: values that must be on the axis as well.

    Example:
        >>> fitted_axis("AP lost", [0.031, 0.118, None]).ticks
        (0.0, 0.05, 0.1, 0.15)
    """
    known = [*measured(values), *include]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if high - low <= 0:
        high = low + 1.0
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple(round(number * step, places + 1) for number in range(first, last + 1))
    return Axis(title, ticks[0], ticks[-1], ticks, places)


def line_chart(
    caption: Caption,
    series: Sequence[Series],
    *,
    x: Axis,
    y: Axis,
    size: Size = LARGE,
    mark: float | None = None,
) -> Html:
    """Return a chart of lines.

    Args:
        caption: its name and its text alternative.
        series: the lines; later ones lie above earlier ones.
        x: axis from left to right.
        y: axis from bottom to top.
        size: of the drawing.
        mark: x of a vertical line across the chart.

    Example:
        >>> line = Series("all classes", [0, 0.5, 1], [1, 0.8, None])
        >>> svg = line_chart(Caption("pr", "Curve", "It falls."), [line], x=Axis("recall"), y=Axis("precision"))
        >>> svg.count("<polyline")
        1
    """
    plot = Plot(x, y, size)
    marks = None
    if mark is not None:
        at = _units(plot.across(mark))
        marks = element("line", x1=at, x2=at, y1=size.top, y2=size.height - size.bottom, class_="mark")
    lines = [
        element("polyline", points=points, class_=f"line s{line.style % _STYLES}{' faint' * line.is_faint}")
        for line in series
        for points in _runs(line, plot)
    ]
    return _svg(caption, size, _grid(plot), marks, lines)


def interval_chart(caption: Caption, rows: Sequence[Row], *, axis: Axis, reference: float | None = None) -> Html:
    """Return a chart with a dot in each row, and a line from the low to the high end of its interval.

    Args:
        caption: its name and its text alternative.
        rows: from top to bottom; a row without a value says "not measured".
        axis: from left to right.
        reference: value of a vertical line to compare with, such as no difference.

    Example:
        >>> svg = interval_chart(Caption("ap", "AP", "One class."), [Row("car", 0.4, 0.3, 0.5)], axis=Axis("AP"))
        >>> svg.count("<circle"), "<title>car: 0.400 (0.300 to 0.500)</title>" in svg
        (1, True)
    """

    def shape(row: Row, plot: Plot, middle: float) -> list[Html]:
        if row.value is None:
            return []
        dot = element("circle", cx=_units(plot.across(row.value)), cy=middle, r=4.5, class_="dot s0")
        if row.low is None or row.high is None:
            return [dot]
        ends = {"x1": _units(plot.across(row.low)), "x2": _units(plot.across(row.high))}
        return [element("line", **ends, y1=middle, y2=middle, class_="whisker s0"), dot]

    return _row_chart(caption, rows, axis=axis, reference=reference, shape=shape)


def bar_chart(caption: Caption, rows: Sequence[Row], *, axis: Axis, style: int = 0) -> Html:
    """Return a chart with a bar in each row, which starts at zero.

    Args:
        caption: its name and its text alternative.
        rows: from top to bottom; a row without a value says "not measured".
        axis: from left to right; zero is on it.
        style: number of the colour.

    Example:
        >>> rows = [Row("missed", 0.1, note="0.100"), Row("duplicate", None)]
        >>> svg = bar_chart(Caption("errors", "Errors", "Two kinds."), rows, axis=Axis("AP lost"))
        >>> svg.count('class="bar s0"')
        1
    """

    def shape(row: Row, plot: Plot, middle: float) -> list[Html]:
        if row.value is None:
            return []
        start, end = sorted((plot.across(0.0), plot.across(row.value)))
        box = {"x": _units(start), "y": _units(middle - 7), "width": _units(end - start)}
        return [element("rect", **box, height=14, rx=2, class_=f"bar s{style % _STYLES}")]

    return _row_chart(caption, rows, axis=axis, reference=0.0, shape=shape)


def reliability_chart(caption: Caption, bins: Sequence[Bin], *, x: Axis, y: Axis) -> Html:
    """Return precision by score, with the diagonal of a calibrated network and a strip of counts above.

    Args:
        caption: its name and its text alternative.
        bins: of scores; those without detections are empty.
        x: axis of the scores.
        y: axis of the precision.

    Example:
        >>> bins = [Bin(0.0, 0.5, 10, 0.3, 0.2), Bin(0.5, 1.0, 0, None, None)]
        >>> svg = reliability_chart(Caption("c", "Calibration", "Two."), bins, x=Axis("score"), y=Axis("precision"))
        >>> svg.count('class="bar s0 soft"'), svg.count("<circle")
        (1, 1)
    """
    size = Size(height=410, top=84)
    plot = Plot(x, y, size)
    most = max((each.count for each in bins), default=0)
    strip = [_strip_bar(each, plot, most) for each in bins if each.count]
    label = element("text", f"count, at most {most:,}", x=size.left, y=18, class_="tick")
    floor = element("line", x1=size.left, x2=size.width - size.right, y1=66, y2=66, class_="axis")
    ends = {"x1": plot.across(0.0), "y1": plot.down(0.0), "x2": plot.across(1.0), "y2": plot.down(1.0)}
    diagonal = element("line", **ends, class_="diagonal")
    dots = [_reliability_dot(each, plot) for each in bins if each.score is not None and each.precision is not None]
    bars = [_reliability_bar(each, plot) for each in bins if each.precision is not None]
    return _svg(caption, size, label, floor, strip, _grid(plot), bars, diagonal, dots)


def figure(
    chart: Content, *, title: str, reading: str, counts: str, legend: Content = None, numbers: Content = None
) -> Html:
    """Return a chart with its title, what was counted, how to read it, and its numbers to unfold.

    Args:
        chart: the drawing.
        title: its title.
        reading: a sentence that says how to read it.
        counts: what it was counted from, such as "n = 357 images".
        legend: what its colours mean.
        numbers: a table of the same numbers.

    Example:
        >>> text = figure("chart", title="AP", reading="Higher is better.", counts="n = 3 images", numbers="table")
        >>> "<summary>Numbers</summary>" in text
        True
    """
    head = element("figcaption", element("strong", title), element("span", counts, class_="counts"))
    table = fold("Numbers", numbers) if numbers else None
    return element("figure", head, legend, chart, element("p", reading, class_="reading"), table)


def legend(names: Sequence[tuple[str, str]]) -> Html:
    """Return names with a sample of their lines.

    Args:
        names: the class of the style sheet ("s0", "mark", "diagonal" ...) and the name of each.

    Example:
        >>> legend([("s0", "F1")])
        '<ul class="legend"><li><span class="sample s0"></span>F1</li></ul>'
    """
    items = [element("li", element("span", class_=f"sample {style}"), name) for style, name in names]
    return element("ul", items, class_="legend")


def _row_chart(
    caption: Caption,
    rows: Sequence[Row],
    *,
    axis: Axis,
    reference: float | None,
    shape: Callable[[Row, Plot, float], list[Html]],
) -> Html:
    """Draw rows with their names at the left, a shape of each, and their notes at the right."""
    size = Size(height=_ROW * max(len(rows), 1) + 66, left=146, right=68, top=8)
    plot = Plot(axis, Axis("", ticks=()), size)
    drawn = []
    for place, row in enumerate(rows):
        middle = size.top + _ROW * (place + 0.5)
        name = shortened(row.name, width=_LETTERS)
        label = element("text", name, x=size.left - 8, y=middle + 4.5, class_="name", text_anchor="end")
        note = row.note or (DASH if row.value is None else decimal(row.value))
        beside = element("text", note, x=size.width - size.right + 8, y=middle + 4.5, class_="note")
        drawn.append(element("g", element("title", _spoken(row)), label, shape(row, plot, middle), beside))
    line = None
    if reference is not None:
        at = _units(plot.across(reference))
        line = element("line", x1=at, x2=at, y1=size.top, y2=size.height - size.bottom, class_="axis")
    return _svg(caption, size, _grid(plot), line, drawn)


def _spoken(row: Row) -> str:
    if row.value is None:
        return f"{row.name}: not measured"
    ends = "" if row.low is None or row.high is None else f" ({decimal(row.low)} to {decimal(row.high)})"
    return f"{row.name}: {row.note or decimal(row.value)}{ends}"


def _strip_bar(each: Bin, plot: Plot, most: int) -> Html:
    """Return the bar of a bin's count, in the strip above the diagram."""
    left, right = plot.across(each.low), plot.across(each.high)
    height = max(1.0, 40 * each.count / most)
    box = {"x": _units(left + 1), "y": _units(66 - height), "width": _units(right - left - 2), "height": _units(height)}
    return element("rect", element("title", f"{each.count:,}"), **box, class_="bar count")


def _reliability_bar(each: Bin, plot: Plot) -> Html:
    left, right = plot.across(each.low), plot.across(each.high)
    top = plot.down(each.precision or 0.0)
    box = {"x": _units(left + 1), "y": _units(top), "width": _units(right - left - 2)}
    return element("rect", **box, height=_units(plot.down(plot.y.low) - top), class_="bar s0 soft")


def _reliability_dot(each: Bin, plot: Plot) -> Html:
    words = f"mean score {decimal(each.score)}, precision {decimal(each.precision)}, n = {each.count:,}"
    at = {"cx": _units(plot.across(each.score or 0.0)), "cy": _units(plot.down(each.precision or 0.0))}
    return element("circle", element("title", words), **at, r=4.5, class_="dot s0")


def _grid(plot: Plot) -> Html:
    """Return the lines behind a chart, the numbers at its axes, and the titles of these."""
    size = plot.size
    right, bottom = size.width - size.right, size.height - size.bottom
    parts = []
    for tick in plot.x.ticks:
        at = _units(plot.across(tick))
        parts.append(element("line", x1=at, x2=at, y1=size.top, y2=bottom, class_="grid"))
        text = decimal(tick, places=plot.x.places)
        parts.append(element("text", text, x=at, y=bottom + 19, class_="tick", text_anchor="middle"))
    for tick in plot.y.ticks:
        down = plot.down(tick)
        parts.append(element("line", x1=size.left, x2=right, y1=_units(down), y2=_units(down), class_="grid"))
        text = decimal(tick, places=plot.y.places)
        parts.append(element("text", text, x=size.left - 7, y=_units(down + 4.5), class_="tick", text_anchor="end"))
    middle = _units((size.left + right) / 2)
    parts.append(element("text", plot.x.title, x=middle, y=size.height - 8, class_="title", text_anchor="middle"))
    if plot.y.title:
        at = _units((size.top + bottom) / 2)
        turned = {"transform": f"translate(15 {at}) rotate(-90)", "text_anchor": "middle"}
        parts.append(element("text", plot.y.title, **turned, class_="title"))
    return join(parts)


def _svg(caption: Caption, size: Size, *content: Content) -> Html:
    title = element("title", caption.title, id=f"{caption.key}-title")
    text = element("desc", caption.text, id=f"{caption.key}-text")
    return element(
        "svg",
        title,
        text,
        *content,
        viewBox=f"0 0 {_units(size.width)} {_units(size.height)}",
        role="img",
        aria_labelledby=f"{caption.key}-title {caption.key}-text",
        class_="chart small" if size.width < LARGE.width else "chart",
    )


def _runs(line: Series, plot: Plot) -> Iterator[str]:
    """Yield the points of each unbroken part of a line."""
    points: list[str] = []
    for x, y in zip(line.xs, line.ys):
        if x is None or y is None:
            if points:
                yield " ".join(points)
            points = []
        else:
            points.append(f"{_units(plot.across(x))},{_units(plot.down(y))}")
    if points:
        yield " ".join(points)


def _units(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
