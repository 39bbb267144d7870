#!/usr/bin/env bash
# Expected: ten frames of 39 ms make a GIF of the same length, however it is stored: 390 ms, or 300
#   or 400, as a GIF counts in hundredths of a second.
# Seen: 300 ms where the frames differ, 390 ms where they are equal. Equal frames are merged first,
#   their milliseconds summed, and only then is each duration cut to hundredths.
# Version: Pillow 13.0.0.
# Why it matters: an animation of a sampler's chain, whose last frame is held, runs faster than it
#   was asked to, but is held as long as it was; the speed is right only in multiples of 10 ms.
# Source: seen by running; PIL/GifImagePlugin.py, _write_multiple_frames and _write_local_header.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pillow==13.0.0
cd "$folder"
cat > lengths.py <<'PYTHON'
import PIL
from PIL import Image


def length(greys):
    frames = [Image.new("L", (8, 8), grey) for grey in greys]
    options = {"save_all": True, "append_images": frames[1:], "duration": 39, "loop": 0}
    frames[0].save("a.gif", **options)
    total = 0
    with Image.open("a.gif") as gif:
        for k in range(gif.n_frames):
            gif.seek(k)
            total += gif.info["duration"]
        return total, gif.n_frames


print("Pillow", PIL.__version__)
found = {"different": length(range(0, 100, 10)), "equal": length([50] * 10)}
for name, (total, stored) in found.items():
    print(f"ten {name} frames of 39 ms: {total} ms, stored as {stored}")
raise SystemExit(found != {"different": (300, 10), "equal": (390, 1)})
PYTHON
venv/bin/python lengths.py
