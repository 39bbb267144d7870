"""A browser, and a JupyterLab of its own that knows nothing of the user's settings.

A plugin of pytest, which tests/browser/run names: a conftest.py would meet that of all other tests.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {  # no news, no question about them; every cell is on the page, not only those in sight
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    "notebook-extension/tracker": '{"windowingMode": "none"}',
}


def pytest_addoption(parser):
    parser.addoption("--shots", type=Path, help="folder for screenshots (default: none are kept)")


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        started = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def shot(request):
    """Keep a picture of a page where --shots asks for it: shot(page, name)"""
    folder = request.config.getoption("--shots")

    def take(page, name, **options):
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=folder / f"{name}.png", **options)

    return take


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Start JupyterLab on a copy of the lessons, none of them trusted -> its address, the folder"""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "lessons"
    shutil.copytree(ROOT / "lessons", folder)
    nbformat.write(small_notebook(), folder / "small.ipynb")
    for name, text in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "IPYTHONDIR": str(home / "ipython")}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces")}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    options = ["--no-browser", f"--ServerApp.port={port}", "--IdentityProvider.token=''"]
    options += [f"--ServerApp.root_dir={folder}", "--allow-root"]
    options += ["--LabApp.expose_app_in_browser=True"]  # as jupyterapp, to scripts of the checks
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env=os.environ | own | {"PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=(home / "log").open("w"),
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address)
        yield address, folder
    finally:
        process.terminate()
        process.wait(20)


def wait_for(address, seconds=60):
    for _ in range(10 * seconds):
        try:
            return urllib.request.urlopen(f"{address}/api").read()
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"no JupyterLab at {address} after {seconds} s")


def small_notebook():
    """Make a notebook with a player and a live hand, each under a heading that can be folded."""
    player = """import numpy as np
from tinydiff import plot
frames = [np.full((40, 40, 3), 12 * k, np.uint8) for k in range(20)]
plot.player(frames, labels=[f"t = {k}" for k in range(20)], alt="grey grows light", first=10)"""
    hand = """from tinydiff.design.pipeline import Pipeline
from tinydiff.studio import hands
hands.guidance(Pipeline.load("portraits"))"""
    markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [markdown("# A page"), markdown("## A player"), code(player), markdown("## A hand")]
    cells += [code(hand), markdown("## The end")]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


@contextmanager
def opened(browser, lab, name, size=(1280, 900)):
    """Open a notebook in JupyterLab, and wait until it is all there -> page"""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    try:
        page.goto(f"{lab[0]}/lab/tree/{name}?reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_function("document.querySelectorAll('.jp-Notebook .jp-Cell').length > 3")
        page.wait_for_function("jupyterapp.shell.currentWidget.sessionContext.isReady")
        yield page
    finally:
        page.close()
