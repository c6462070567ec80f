"""A browser for the tests of the built site, with the network cut.

NUMPYVAE_SITE names the folder with the site's index.html. The tests in a browser need playwright
and a Chromium besides; without them they are skipped.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

SITE = os.environ.get("NUMPYVAE_SITE")

needs_site = pytest.mark.skipif(
    not SITE, reason="no built site: set NUMPYVAE_SITE to the folder with its index.html"
)


def is_external(url: str) -> bool:
    return bool(re.match(r"(https?:)?//", url))


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
SWITCHES = (
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium: install the package chromium")
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=[f"--{s}" for s in SWITCHES])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens a page of the site and what it complained about."""
    contexts = []

    def open_(name: str, width: int = 1400, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: complaints.append(r.url) if is_external(r.url) else None)
        page.goto(f"{Path(SITE).resolve().as_uri()}/{name}")
        return page, complaints

    yield open_
    for context in contexts:
        context.close()


CONTRAST = """() => {
  const channels = text => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return found.length > 3 ? found : [...found, 1];
  };
  const over = (top, under) =>
    [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const luminance = color => {
    const linear = color.slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.push(channels(getComputedStyle(e).backgroundColor));
    }
    return layers.reduceRight((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  const pale = {};
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!text || element.closest("script, style, noscript, mjx-container")) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    seen += 1;
    const style = getComputedStyle(element);
    const under = ground(element);
    const pair = [over(channels(style.color), under), under].map(luminance);
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) {
      pale[`${element.tagName}.${element.className}`] = [ratio.toFixed(2), text.slice(0, 30)];
    }
  }
  return [seen, pale];
}"""
