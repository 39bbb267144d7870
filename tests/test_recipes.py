"""The designers' page: each command runs as it stands there, and writes what the page shows."""

import numpy as np
import pytest
import recipes
from PIL import Image

PAGE = recipes.PAGE.read_text(encoding="utf-8")


def test_nine_recipes_of_two_commands_each():
    found = recipes.recipes(PAGE)
    assert len(found) == PAGE.count("\n## ") == 9
    assert all(len(commands) == 2 for _, commands, _, _ in found)
    assert PAGE.count("    python -m tinydiff ") == 18


def test_a_picture_shows_the_files_side_by_side(tmp_path):
    for k, colour in enumerate(("red", "blue")):
        Image.new("RGBA", (4, 4), (0, 0, 0, 0) if k else colour).save(tmp_path / f"{k}.png")
    page = recipes.composed(["*.png"], tmp_path)
    scale = (page.width - recipes.GAP) // 8
    assert page.size == (8 * scale + recipes.GAP, 4 * scale)
    assert page.getpixel((0, 0)) == (255, 0, 0) and page.getpixel((page.width - 1, 0)) == (255,) * 3
    with pytest.raises(AssertionError, match="no file is called none"):
        recipes.composed(["none"], tmp_path)


@pytest.mark.slow
def test_each_recipe_writes_what_its_picture_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = recipes.folder_of_its_own(tmp_path)
    for title, commands, name, shown in recipes.recipes(PAGE):
        recipes.run(commands)
        with Image.open(recipes.PICTURES / name) as committed:
            now, then = recipes.composed(shown, folder), committed.convert("RGB")
        assert now.size == then.size, title
        apart = np.abs(np.asarray(now, int) - np.asarray(then, int)).mean()
        assert apart < 5, f"{title}: python tests/recipes.py draws its picture anew"
