"""The web edition on a small and on a large screen: quiet, at home, within its page."""

import subprocess
import sys

import pytest
from browsing import ROOT

LOOK = """() => ({
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  silent: [...document.images].filter(i => !i.alt).length,
  broken: [...document.images].filter(i => i.complete && !i.naturalWidth).length,
  wrong: document.querySelectorAll("mjx-merror").length,
  raw: [...document.querySelectorAll("main :is(p, li, td)")]
    .filter(e => !e.querySelector("code, pre")).map(e => e.innerText)
    .filter(text => /\\$|\\\\[a-z]/.test(text)),
})"""


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "web"
    command = [sys.executable, "-m", "tinydiff", "site", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("width", [390, 1280])
def test_each_page_is_quiet_and_within_its_width(width, site, browser, shot):
    context = browser.new_context(viewport={"width": width, "height": 900})
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    context.route(
        "**/*", lambda route: route.abort() if outside(route.request.url) else route.continue_()
    )
    for path in sorted(site.glob("*.html")):
        page.goto(path.as_uri())
        if page.evaluate("Boolean(window.MathJax)"):
            page.wait_for_function("MathJax.startup && MathJax.startup.promise")
            page.evaluate("MathJax.startup.promise.then(() => 1)")
        found = page.evaluate(LOOK)
        assert found == {"wide": 0, "silent": 0, "broken": 0, "wrong": 0, "raw": []}, path.name
        shot(page, f"web_{width}_{path.stem}", full_page=True)
    context.close()
    assert said == [] and [url for url in asked if outside(url)] == []


def outside(url):
    return not url.startswith(("file:", "data:", "blob:"))


def test_a_player_plays_on_the_web_and_the_pages_have_a_dark_side(site, browser, shot):
    page = browser.new_context(color_scheme="dark").new_page()
    page.goto((site / "00_first_pictures.html").as_uri())
    player = page.locator(".output", has=page.locator("input[type=range]")).first
    player.scroll_into_view_if_needed()
    player.locator("button").click()
    first = player.locator("output").inner_text()
    page.wait_for_timeout(500)
    assert player.locator("output").inner_text() != first
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in paper[4:-1].split(",")) < 60
    shot(page, "web_dark")
    page.context.close()
