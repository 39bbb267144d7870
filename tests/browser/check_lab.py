"""The lessons as a student meets them in JupyterLab, in a browser."""

import re

import pytest
from browsing import opened

MINUTES = 60_000  # milliseconds
RUN = """async () => {
  const notebook = jupyterapp.shell.currentWidget;
  await notebook.sessionContext.ready;
  await notebook.sessionContext.session.kernel.info;
  await jupyterapp.commands.execute("notebook:run-all-cells");
  return [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].map(p => p.textContent);
}"""


def run_all(page):
    prompts = page.evaluate(RUN)
    unfinished = [prompt for prompt in prompts if re.search(r"[ *]\]", prompt)]  # "" where folded
    assert not unfinished and len(prompts) > 1


def cell(page, words):
    """Find the one code cell whose first line is this"""
    return page.locator(
        ".jp-CodeCell", has=page.locator(f".cm-line:first-child:has-text('{words}')")
    )


def type_into(page, found, text):
    found.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


def moves(page, picture):
    """Tell whether a picture moves, within two seconds."""
    picture.scroll_into_view_if_needed()
    first = picture.screenshot()
    for _ in range(10):
        page.wait_for_timeout(200)
        if picture.screenshot() != first:
            return True
    return False


@pytest.mark.parametrize("name", ["00_first_pictures", "03_reverse"])
def test_a_player_moves_before_anything_is_run(name, browser, lab, shot):
    with opened(browser, lab, f"{name}.ipynb") as page:
        players = page.locator(".jp-OutputArea img[src^='data:image/webp']")
        players.first.wait_for(state="attached")
        assert page.locator(".jp-OutputArea canvas").count() == 0, "no script runs untrusted"
        picture = players.first
        assert len(picture.get_attribute("alt")) > 10 and moves(page, picture)
        assert picture.evaluate("p => p.naturalWidth") > 50
        shot(page, f"{name}_untrusted")


ANSWER = """def q_sample(s, x0, t, eps):
    signal, noise = diffusion.rates(s, t, x0)
    return signal * x0 + {noise} * eps"""


def test_a_wrong_answer_is_told_and_the_lesson_goes_on_then_a_right_one_passes(browser, lab, shot):
    with opened(browser, lab, "01_forward.ipynb") as page:
        pictures = page.locator(".jp-RenderedImage img").count()
        type_into(page, cell(page, "def q_sample("), ANSWER.format(noise="noise**2"))
        run_all(page)
        check = cell(page, "check(q_sample")
        check.scroll_into_view_if_needed()
        title = check.locator(".jp-OutputArea-output b").first
        assert title.inner_text().endswith("diffusion.q_sample: failed")
        red, green, blue = re.findall(r"\d+", title.evaluate("b => getComputedStyle(b).color"))[:3]
        assert int(red) > 150 and int(green) < 80 and int(blue) < 80
        slip = check.locator(".jp-OutputArea-output td b").first.inner_text()
        assert "square root" in slip
        assert page.locator(".jp-RenderedImage img").count() >= pictures, "the rest is drawn"
        assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
        shot(page, "01_wrong")
        type_into(page, cell(page, "def q_sample("), ANSWER.format(noise="noise"))
        page.keyboard.press("Shift+Enter")
        page.keyboard.press("Shift+Enter")
        check.locator("b", has_text="diffusion.q_sample: passed").wait_for(timeout=MINUTES)
        shot(page, "01_right")


CHANGED = """([slider, value]) => new Promise(resolve => {
  const canvases = () => [...document.querySelectorAll(".td-hand canvas")];
  const seen = () => canvases().map(c => c.toDataURL()).join();
  const before = seen(), began = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
  const look = () => {
    const after = performance.now() - began;
    if (seen() !== before || after > 5000) resolve(after);
    else requestAnimationFrame(look);
  };
  look();
})"""


def test_a_hand_answers_and_a_player_keeps_the_keys(browser, lab, shot):
    with opened(browser, lab, "small.ipynb") as page:
        run_all(page)
        hand = page.locator(".td-hand")
        hand.locator("canvas").first.wait_for(timeout=MINUTES)
        hand.scroll_into_view_if_needed()
        slider = hand.locator("input[type=range]").first
        ends = float(slider.get_attribute("min")), float(slider.get_attribute("max"))
        times = []
        for k in range(6):
            value = ends[0] + (ends[1] - ends[0]) * (0.2 + 0.1 * k)
            times.append(page.evaluate(CHANGED, [slider.element_handle(), value]))
        print("milliseconds from a move to a new picture:", [round(t) for t in times])
        assert min(times) < 500  # the machine may be busy with other things in between
        shot(page, "hand")

        cells = page.locator(".jp-Cell:visible").count()
        player = page.locator(
            ".jp-OutputArea", has=page.locator("canvas[aria-label='grey grows light']")
        )
        player.scroll_into_view_if_needed()
        slider, label = player.locator("input[type=range]"), player.locator("output")
        slider.focus()
        start = int(slider.input_value())
        for key, moved in (("ArrowLeft", -1), ("ArrowLeft", -2), ("ArrowRight", -1)):
            page.keyboard.press(key)
            assert int(slider.input_value()) == start + moved
            assert label.inner_text() == f"t = {start + moved}"
            assert slider.evaluate("s => s === document.activeElement")
        assert page.locator(".jp-Cell:visible").count() == cells, "no section is folded"
        screen = player.locator("canvas")
        assert not moves(page, screen)
        player.locator("button").click()
        assert moves(page, screen)
        box = slider.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        assert not moves(page, screen), "a drag holds"
        page.mouse.up()
        shot(page, "player")


def test_the_links_of_a_lesson_open_its_neighbours_and_the_errata(browser, lab, shot):
    with opened(browser, lab, "01_forward.ipynb") as page:
        head = page.locator(".jp-MarkdownCell").first
        head.locator("a", has_text="Errata").click()
        page.locator(".jp-MarkdownViewer h1", has_text="Errata").wait_for()
        shot(page, "errata")
        page.locator(".lm-TabBar-tab", has_text="01_forward").first.click()
        head.locator("a", has_text="→").click()
        page.locator(".jp-Notebook h1", has_text="02").wait_for()
        page.locator(".lm-TabBar-tab", has_text="01_forward").first.click()
        head.locator("a", has_text="Contents").click()
        page.locator(".jp-Notebook h2", has_text="map").wait_for()
        page.wait_for_timeout(1000)
        shot(page, "contents")
