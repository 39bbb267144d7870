#!/usr/bin/env bash
# Pillow: a picture in the colours of a palette is not left alone by quantize(palette=...)
#
# Expected: with dither=NONE each pixel becomes the nearest colour of the palette, so a pixel that has
#   a colour of the palette keeps it.
# Seen: Pillow looks a colour up in boxes of 4 x 4 x 4 levels, all of which get the entry that suits
#   the first colour met in, or the middle of, the box: of two palette colours 2 levels apart one is
#   never used again, and of random colours 3 in 100 do not get their nearest.
# Version: Pillow 13.0.0, numpy 2.4.6
# Why it matters: pixel art is indexed; a tool that draws in a brand's exact colours and lets Pillow
#   index them changes some of them in silence.
# Source: Pillow's src/libImaging/Palette.c, ImagingPaletteCache; seen by running.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import PIL
from PIL import Image

print("Pillow", PIL.__version__)


def indexed(pixels, colours):
    """Index pixels (H, W, 3) by colours (K, 3) -> the pixels that come out, (H, W, 3)"""
    palette = Image.new("P", (1, 1))
    fill = np.repeat(colours[:1], 256 - len(colours), axis=0)
    palette.putpalette(np.concatenate([colours, fill]).astype(np.uint8).tobytes())
    picture = Image.fromarray(pixels).quantize(palette=palette, dither=Image.Dither.NONE)
    return np.asarray(picture.convert("RGB"))


two = np.array([[20, 33, 61], [22, 33, 61]], np.uint8)
came = indexed(two[None], two)[0]
print("palette and pixels", two.tolist(), "become", came.tolist())

rng = np.random.default_rng(0)
colours = rng.integers(0, 256, (16, 3))
pixels = rng.integers(0, 256, (200, 200, 3)).astype(np.uint8)
nearest = colours[((pixels[:, :, None].astype(int) - colours) ** 2).sum(-1).argmin(-1)]
share = (indexed(pixels, colours) != nearest).any(-1).mean()
print(f"of random pixels {share:.1%} are not given the nearest of 16 random colours")
sys.exit(not (len(np.unique(came, axis=0)) == 1 and 0.01 < share < 0.1))
PYTHON
