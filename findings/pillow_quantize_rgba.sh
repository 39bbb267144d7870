#!/usr/bin/env bash
# Pillow: quantize(8) changes a sprite of four colours if it has an alpha channel
#
# Expected: a picture with fewer colours than asked for keeps them all, as it does in RGB.
# Seen: in RGBA, where the method is FASTOCTREE, two colours 1 level apart per channel are merged
#   though four of the eight places stay empty, and what is left is a colour that the picture never
#   had. LIBIMAGEQUANT, the one other method for RGBA, is not in the wheels.
# Version: Pillow 13.0.0
# Why it matters: sprites have transparency; saving one as an indexed PNG this way shifts its palette.
# Source: seen by running; the methods: Pillow's documentation of Image.quantize.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pillow==13.0.0
"$work/venv/bin/python" - <<'PYTHON'
import sys

import PIL
from PIL import Image, features

print("Pillow", PIL.__version__, "- libimagequant:", features.check_feature("libimagequant"))
four = [(20, 33, 61), (21, 34, 60), (229, 229, 229), (252, 163, 17)]
sprite = Image.new("RGB", (8, 8))
sprite.putdata([four[i // 16] for i in range(64)])
kept = {}
for mode in ("RGB", "RGBA"):
    few = sprite.convert(mode).quantize(8, dither=Image.Dither.NONE).convert("RGB")
    kept[mode] = sorted(colour for _, colour in few.getcolors())
    print(mode, "->", kept[mode])
sys.exit(not (kept["RGB"] == sorted(four) and len(kept["RGBA"]) == 3))
PYTHON
