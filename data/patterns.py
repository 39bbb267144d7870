"""Patterns for cloth and paper, drawn by formulas: ten kinds in twelve palettes.

build.py makes patterns16.npz and patterns32.npz of them. A kind is a function (x, y, rng) ->
(H, W) ints, the colour of each point: 0 to 3 are the four colours of a palette in random order, 0
the ground, and 4 is the mean of 0 and 1. x, y: (H, W), the places of the points on an endless
plane; everything else is drawn from rng. Lengths are in units of the plane, one pixel of
patterns16. The crops cut from the plane do not repeat when they are laid side by side.
"""

import numpy as np

PALETTES = {
    "indigo": "f3ede0 22395b 5f86b3 b9cfe4",
    "terracotta": "f7e8d8 b5523b e2a07a 6b2f2a",
    "sage": "f2efe2 6f8f72 b9cba9 34524a",
    "mustard": "fcf3da e0a526 7a4f2b 2f3e46",
    "rose": "fdf0ee d9788b f2b8b5 8c3b53",
    "ocean": "e9f5f1 006d77 6fbcb2 f2a65a",
    "plum": "f2eaf4 5b3a6f a47fb6 e7b46a",
    "ink": "f6f5f1 1f1f24 8b8d93 cfcfca",
    "forest": "efe9d4 2e4a36 8a9a52 c2703d",
    "candy": "fff6e9 ff7f6b 3fa9b5 ffd166",
    "night": "14213d f7b538 e9e4d8 4a6fa5",
    "berry": "3b1730 e0527e f6b7c1 f4e6d6",
}


def turned(x, y, degrees):
    """Turn the axes of the plane by an angle. -> x, y along the new axes"""
    a = np.deg2rad(degrees)
    return np.cos(a) * x + np.sin(a) * y, np.cos(a) * y - np.sin(a) * x


def cell(x, y):
    """Find the unit square that each point lies in.

    -> column, row (ints), and the place within the square: x, y in [0, 1)
    """
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    return i, j, x - i, y - j


def bands(u, rng):
    """Cut a coordinate into bands, each 1.8 to 3.6 wide, that repeat one order of colours.

    u: any shape -> ints of that shape
    """
    order = [[0, 1], [0, 1, 0, 2], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 1]][rng.integers(5)]
    ends = np.cumsum(rng.uniform(1.8, 3.6, len(order)))
    return np.take(order, np.searchsorted(ends, u % ends[-1], side="right"), mode="clip")


def stripes(x, y, rng):
    """Draw stripes, straight or in zigzags."""
    x, y = turned(x, y, rng.choice([0, 90, 45, 135]))
    side = rng.uniform(5, 8)
    return bands(y + rng.integers(2) * np.abs(x % side - side / 2), rng)


def waves(x, y, rng):
    """Draw wavy bands."""
    x, y = turned(x, y, rng.choice([0, 90]))
    return bands(y + rng.uniform(0.8, 2) * np.sin(2 * np.pi * x / rng.uniform(7, 14)), rng)


def checks(x, y, rng):
    """Draw gingham: bands that cross, mixed half and half where they do; some with thin lines."""
    x, y = turned(x, y, rng.choice([0, 0, 45]))
    side, lines = rng.uniform(2, 4), rng.integers(2)
    down, across = ((np.floor(u / side) % 2).astype(int) for u in (x, y))
    thin = ((x / side + 0.5) % 2 < 0.35) | ((y / side + 0.5) % 2 < 0.35)
    return np.where(lines & thin, 2, np.take([0, 4, 1], down + across))


def dots(x, y, rng):
    """Draw rows of dots, every other row shifted or not; in one or two colours, some with a core.

    Each point takes the nearest dot of the two rows between which it lies.
    """
    side, style = rng.uniform(4.5, 8), rng.integers(4)
    height, shift = side * rng.choice([1, 0.866]), rng.choice([0.0, 0.5])
    rows = np.floor(y / height) + np.array([0, 1])[:, None, None]  # (2, H, W)
    columns = np.round(x / side - rows % 2 * shift)
    distance = np.hypot(x - (columns + rows % 2 * shift) * side, y - rows * height)
    above, below = zip(columns, rows, distance, strict=True)
    i, j, d = np.where(distance[0] < distance[1], above, below)
    radius = side * rng.uniform(0.24, 0.4)
    dot = np.where(d < radius, [1, 1 + i % 2, 1 + j % 2, 1][style], 0)
    return np.where((style == 3) & (radius > 2) & (d < radius / 2), 2, dot).astype(int)


def scales(x, y, rng):
    """Draw rings that overlap like the scales of a fish (seigaiha)."""
    x, y = turned(x, y, rng.choice([0, 0, 90, 180]))
    radius = rng.uniform(5, 8)
    choices = [[1, 1, 1, 0], [0, 0, 0, 1], [0, 1, 0, 1], [2, 2, 0, 1], [1, 2, 1, 0], [3, 0, 1, 0]]
    rings = choices[rng.integers(6)]  # from the centre outwards
    index = np.zeros(x.shape, int)
    for k in range(-2, 4):  # rows from the top, each over the one before
        j = np.floor(2 * y / radius) + k
        d = np.hypot((x + radius * (j % 2)) % (2 * radius) - radius, y - j * radius / 2) / radius
        index = np.where(d < 1, np.take(rings, (4 * d).astype(int), mode="clip"), index)
    return index


def arcs(x, y, rng):
    """Draw quarter circles around two opposite corners of each square, chosen at random (Truchet).

    The lines are drawn, or the areas between them, or both.
    """
    side, turn = rng.uniform(4.5, 7), rng.integers(2, size=(64, 64))
    style, width = rng.integers(3), rng.uniform(0.12, 0.2)
    i, j, fx, fy = cell(x / side, y / side)
    bit = turn[j % 64, i % 64]
    fx = np.where(bit, 1 - fx, fx)
    d = np.minimum(np.hypot(fx, fy), np.hypot(1 - fx, 1 - fy))
    line = np.abs(d - 0.5) < width
    inside = (d < 0.5) ^ ((i + j + bit) % 2 == 1)  # swapped so that areas continue across squares
    both = np.where(line, 1, np.where(inside, 2, 0))
    return [np.where(line, 1, 0), np.where(inside, 1, 0), both][style]


def terrazzo(x, y, rng):
    """Draw chips of stone: the points that are clearly closer to one random spot than to any other.

    Every square of the grid has one spot, and its stone a random colour or that of the ground.
    """
    side, gap, share = rng.uniform(3.5, 6), rng.uniform(0.1, 0.3), rng.uniform(0.75, 1)
    spots = rng.uniform(0.1, 0.9, (64, 64, 2))
    coloured = rng.random((64, 64)) < share
    colours = np.where(coloured, rng.integers(1, 4, (64, 64)), 0)
    i, j, fx, fy = cell(x / side, y / side)
    around = np.arange(25).reshape(25, 1, 1)  # a point's own square and the 24 around it
    across, down = around % 5 - 2, around // 5 - 2
    square = (j + down) % 64, (i + across) % 64
    d = np.hypot(fx - across - spots[square][..., 0], fy - down - spots[square][..., 1])
    first, second = np.sort(d, axis=0)[:2]
    nearest = np.take_along_axis(colours[square], d.argmin(0)[None], 0)[0]
    return np.where(second - first > gap, nearest, 0)


def camouflage(x, y, rng):
    """Draw blobs: a sum of 30 waves in all directions, cut at one, two or three heights."""
    angle, phase = rng.uniform(0, 2 * np.pi, (2, 30, 1, 1))
    k = 2 * np.pi / rng.uniform(7, 11) * rng.uniform(0.6, 1.2, (30, 1, 1))
    height = np.cos(k * (np.cos(angle) * x + np.sin(angle) * y) + phase).sum(0) / np.sqrt(15)
    return np.searchsorted([[0.0], [-0.4, 0.5], [-0.7, 0.0, 0.8]][rng.integers(3)], height)


def petals(x, y, rng):
    """Draw circles whose overlaps are petals (shippo), some with dots at their centres."""
    x, y = turned(x, y, 45)
    side, style = rng.uniform(5.5, 9), rng.integers(4)
    _, _, fx, fy = cell(x / side, y / side)
    d = np.array([np.hypot(fx - a, fy - b) for a in (0, 1) for b in (0, 1)])
    held = d < 0.5**0.5
    lying = (held[0] & held[1]) | (held[2] & held[3])
    upright = (held[0] & held[2]) | (held[1] & held[3])
    index = np.where(upright, 1, np.where(lying, 1 + style // 2, 0))
    return np.where((d.min(0) < 0.17) & (style % 2 == 1), 3, index)


def triangles(x, y, rng):
    """Draw equilateral triangles, coloured at random or by the way they point."""
    x, y = turned(x, y, rng.choice([0, 90]))
    side, style, colours = rng.uniform(4.5, 7), rng.integers(3), rng.integers(4, size=(64, 64, 2))
    v = y / (side * 0.866)
    i, j, fu, fv = cell(x / side - v / 2, v)
    up = (fu + fv > 1).astype(int)
    chance = colours[j % 64, i % 64, up]
    return [chance, up, np.where(up, 0, 1 + chance % 3)][style]


KINDS = (stripes, waves, checks, dots, scales, arcs, terrazzo, camouflage, petals, triangles)


def draw(M, size=16, fine=4, scale=1.0, seed=0):
    """Draw M crops that take the kinds in turn, and the palettes likewise, one per round of kinds.

    size: pixels per side; each pixel is the mean of fine x fine points; scale: pixels per unit of
    the plane. The same seed gives the same patterns at every size, scale and fineness.
    -> images (M, size, size, 3) uint8, labels (M, 2) uint8: indices into KINDS and PALETTES
    """
    rng, images = np.random.default_rng(seed), np.empty((M, size, size, 3), np.uint8)
    # (12, 4, 3)
    colours = np.array([[list(bytes.fromhex(c)) for c in p.split()] for p in PALETTES.values()])
    turn = np.arange(M)
    pairs = turn % len(KINDS), turn // len(KINDS) % len(PALETTES)
    labels = np.stack(pairs, axis=1).astype(np.uint8)
    y, x = (np.mgrid[: size * fine, : size * fine] + 0.5) / fine / scale
    for n, (kind, palette) in enumerate(labels):
        c = rng.permutation(colours[palette])
        while np.abs(c[0] - c[1]).sum() < 200:  # too similar to tell apart
            c = rng.permutation(c)
        across, down = rng.uniform(100, 900, 2)
        index = KINDS[kind](x + across, y + down, rng)
        points = np.concatenate([c, [(c[0] + c[1]) / 2]])[index]
        images[n] = np.round(points.reshape(size, fine, size, fine, 3).mean((1, 3)))
    return images, labels
