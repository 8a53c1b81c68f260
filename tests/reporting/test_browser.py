"""The page in a real browser: no errors, no requests, both themes, a phone and a desktop."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.sample_reports import classification_report, detection_report, without_numbers
from yolo_lite.reporting.page import render_page

BROWSER = shutil.which("chromium")
PAGES = {
    "detector": lambda: detection_report(20),
    "detector-80": lambda: detection_report(80),
    "classifier": lambda: classification_report(10),
    "no-numbers": lambda: without_numbers(detection_report(20)),
}
OPEN = "document.querySelectorAll('details').forEach(each => each.open = true)"
# Contrast of every text with what is behind it: backgrounds are laid over each other from the page to the text.
CONTRAST = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, below) => {
    const a = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a));
  };
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const worst = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || ['TITLE', 'title', 'desc'].includes(element.tagName)) continue;
    if (!element.getClientRects().length) continue;
    const chain = [];
    for (let each = element; each; each = each.parentElement) chain.unshift(each);
    let behind = [255, 255, 255];
    for (const each of chain) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.length >= 3) behind = over(colour, behind);
    }
    const style = getComputedStyle(element);
    const text = over(parse(element.closest('svg') ? style.fill : style.color), behind);
    const [high, low] = [light(text), light(behind)].sort((a, b) => b - a);
    const key = element.tagName + '.' + (element.getAttribute('class') || '');
    worst[key] = Math.min(worst[key] || 99, (high + 0.05) / (low + 0.05));
  }
  return worst;
}"""
# Texts of charts that reach out of their drawing, by more than a unit.
OUTSIDE = """() => [...document.querySelectorAll('svg.chart text')].filter(text => {
  const box = text.getBBox(), view = text.ownerSVGElement.viewBox.baseVal;
  if (text.getAttribute('transform')) return box.width > view.height;
  return box.x < -1 || box.x + box.width > view.width + 1 || box.y < -1 || box.y + box.height > view.height + 1;
}).map(text => text.textContent)"""
# Numbers at an axis that run into each other.
CROWDED = """() => [...document.querySelectorAll('svg.chart')].flatMap(svg => {
  const ticks = [...svg.querySelectorAll('text.tick[text-anchor=middle]')].map(text => text.getBBox());
  return ticks.slice(1).filter((box, i) => box.x < ticks[i].x + ticks[i].width + 2).map(() => svg.textContent);
})"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no chromium (apt-get install chromium)")
    library = pytest.importorskip("playwright.sync_api", reason="no playwright (pip install playwright)")
    with library.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_a_browser(name: str, theme: str, width: int, browser: Any, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.html"
    file.write_text(render_page(PAGES[name]()), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    page.set_default_timeout(120_000)
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    for opened in (False, True):
        if opened:
            page.evaluate(OPEN)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        contrast = page.evaluate(CONTRAST)
        assert len(contrast) > 15
        assert {key: value for key, value in contrast.items() if value < 4.5} == {}
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate(CROWDED) == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 600) == (theme == "light")
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    page.close()


def test_a_page_prints_on_white_with_no_box_that_scrolls(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(render_page(detection_report(80)), encoding="utf-8")
    page = browser.new_page(color_scheme="dark")
    page.set_default_timeout(120_000)
    page.goto(file.as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    boxes = "[...document.querySelectorAll('.scroll')].filter(box => box.checkVisibility())"
    assert page.evaluate(f"{boxes}.every(box => getComputedStyle(box).overflowY === 'visible')")
    assert {key: value for key, value in page.evaluate(CONTRAST).items() if value < 4.5} == {}
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
