"""Remake the image sets of this folder.

    python data/build.py SET|all [--work DIR]

Each SET but the last two comes from a published package, which the ordinary client fetches by name
and pinned version:

    digits     pip      scikit-learn 1.9.1 (only its file digits.csv.gz is read)
    fashion    apt      dataset-fashion-mnist 0.0~git20200523.55506a9-1 (Debian; unpacked,
                        not installed)
    portraits  npm      @dicebear/core 9.4.3, @dicebear/pixel-art 9.4.3 (needs node 18 or later)
               pip      resvg_py 0.5.0, Pillow 13.0.0 (draw the SVG pictures)
    edits      made from portraits16.npz, with the same packages
    emoji      npm      unicode-emoji-json 0.9.0 (names), @iconify-json/* as listed in EMOJI_STYLES
               pip      resvg_py and Pillow as above
    typefaces  npm      @fontsource/* 5.3.0, the faces listed in TYPEFACES
               pip      Pillow as above
    patterns, patterns32  drawn by the formulas of data/patterns.py, with NumPy alone

Needs Python 3.11 or later. Nothing is installed outside DIR;
without --work, DIR is a temporary folder that is removed at the end.
"""

import argparse
import gzip
import io
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import patterns as drawn_patterns

HERE = Path(__file__).resolve().parent
PIP = sys.executable, "-m", "pip", "--disable-pip-version-check"
SKLEARN, RESVG, PILLOW = "1.9.1", "0.5.0", "13.0.0"
DICEBEAR, FONTSOURCE, EMOJI_NAMES = "9.4.3", "5.3.0", "0.9.0"
FASHION = "dataset-fashion-mnist", "0.0~git20200523.55506a9-1"
FASHION_LABELS = (
    "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
).split(", ")
ATTRIBUTES = (
    "hair hat glasses beard accessories clothing eyes mouth "
    "hairColor hatColor clothingColor skinColor eyesColor mouthColor glassesColor accessoriesColor "
    "primaryBackgroundColor"
).split()

# The labels of a model of the portraits: each label, the attribute it is read from, and that
# attribute's values (how the value begins, then the name it gets). Colours that look alike share a
# name; a hat and its colour are one label.
PORTRAIT_LABELS = {
    "hat": (
        "hatColor",
        "2663a3 blue, 2e1e05 black-brown, 3d8a6b green, 614f8a violet, 989789 grey, a62116 red, "
        "cc6192 pink",
    ),
    "glasses": ("glasses", "none none, dark dark, light light"),
    "hair": ("hair", "long long, short short"),
    "hair-colour": (
        "hairColor",
        "28150a black-brown, 603015 brown, 603a14 brown, 611c17 red-brown, 612616 red-brown, "
        "83623b light-brown, a78961 dark-blond, cab188 blond, bd1700 red, 91cb15 green, "
        "009bbd blue",
    ),
    "beard": ("beard", "none none, variant beard"),
    "mouth": ("mouth", "happy happy, sad sad"),
    "skin": (
        "skinColor",
        "8d5524 1, a26d3d 2, b68655 3, cb9e6e 4, e0b687 5, eac393 6, f5cfa0 7, ffdbac 8",
    ),
    "clothes": (
        "clothingColor",
        "00b159 green, 44c585 light-green, 88d8b0 mint, 03396c navy, 428bca blue, 5bc0de sky, "
        "ae0001 dark-red, d11141 red, ff6f69 coral, ffc425 amber, ffd969 yellow, ffeead cream",
    ),
    "background": (
        "primaryBackgroundColor",
        "b6e3f4 blue, c0aede violet, d1d4f9 lilac, ffd5dc pink, ffdfbf peach, ffffff white",
    ),
}

# style: package @iconify-json/..., its version, and the margin left blank on each side, in pixels
# of 256 (negative: cut off), so that all styles fill the square alike
EMOJI_STYLES = {
    "line": ("fluent-emoji-high-contrast", "1.2.6", 0),
    "flat": ("fluent-emoji-flat", "1.2.6", -9),
    "shaded": ("fluent-emoji", "1.2.7", -9),
    "noto": ("noto", "1.2.9", 0),
    "twemoji": ("twemoji", "1.2.5", 8),
}

# group: its faces, by the names of their packages @fontsource/...
TYPEFACES = {
    "serif": (
        "eb-garamond playfair-display merriweather lora libre-baskerville cormorant crimson-text "
        "prata abril-fatface old-standard-tt bodoni-moda dm-serif-display rufina im-fell-english"
    ),
    "slab": "roboto-slab alfa-slab-one bree-serif zilla-slab patua-one special-elite courier-prime",
    "sans": (
        "roboto montserrat oswald anton raleway quicksand comfortaa josefin-sans poiret-one "
        "archivo-black fjalla-one"
    ),
    "display": (
        "titan-one righteous fredoka lobster chewy shrikhand lilita-one carter-one creepster "
        "black-ops-one audiowide orbitron cabin-sketch fredericka-the-great"
    ),
    "mono": "inconsolata space-mono share-tech-mono",
    "pixel": "vt323 press-start-2p pixelify-sans jersey-10",
    "blackletter": "unifrakturmaguntia unifrakturcook medievalsharp uncial-antiqua germania-one",
    "script": (
        "pacifico kaushan-script courgette dancing-script satisfy great-vibes cookie yellowtail "
        "sacramento"
    ),
    "hand": "caveat indie-flower shadows-into-light gloria-hallelujah patrick-hand",
}

# Portrait i depends on its seed alone, so any number of them can be drawn. Prints one line of JSON
# per portrait.
PORTRAITS_JS = """
import { createAvatar } from '@dicebear/core';
import * as pixelArt from '@dicebear/pixel-art';
for (let i = 0; i < Number(process.argv[2]); i++) {
  const { svg, extra } = createAvatar(pixelArt, {
    seed: `tinydiff-${i}`, backgroundType: ['solid'],
    backgroundColor: ['b6e3f4', 'c0aede', 'd1d4f9', 'ffd5dc', 'ffdfbf', 'ffffff'],
    hatProbability: 30, glassesProbability: 30, beardProbability: 20, accessoriesProbability: 15,
  }).toJson();
  console.log(JSON.stringify({ svg, extra }));
}
"""

# Draws portraits from their attributes and leaves nothing to chance: each list has one value to
# choose from, each probability is 0 or 100.
PINNED_JS = """
import { readFileSync } from 'node:fs';
import { createAvatar } from '@dicebear/core';
import * as pixelArt from '@dicebear/pixel-art';
for (const face of JSON.parse(readFileSync('pinned.json', 'utf8'))) {
  const pinned = { backgroundType: ['solid'] };
  for (const [name, value] of Object.entries(face)) {
    const key = name === 'primaryBackgroundColor' ? 'backgroundColor' : name;
    pinned[key] = value === 'none' ? undefined : [value.replace('#', '')];
    if (['hat', 'glasses', 'beard', 'accessories'].includes(name))
      pinned[name + 'Probability'] = value === 'none' ? 0 : 100;
  }
  console.log(JSON.stringify(createAvatar(pixelArt, pinned).toString()));
}
"""

# the attributes that an edit changes, each with the label of PORTRAIT_LABELS that shows it
EDITED = {
    "hat": "hat",
    "glasses": "glasses",
    "hairColor": "hair-colour",
    "clothingColor": "clothes",
    "mouth": "mouth",
    "primaryBackgroundColor": "background",
}


def run(name, *arguments, cwd):
    """Run a program in the folder cwd and return what it printed.

    Exits with a plain message if the program is missing or fails.
    """
    program = shutil.which(name)
    if program is None:
        sys.exit(f"build.py: '{name}' not found; this set needs it: install it and run this again")
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"build.py: '{name} {' '.join(arguments)}' failed:\n{done.stderr.strip()}")
    return done.stdout


def npm(work, *packages):
    """Install npm packages into work/node_modules without running any of their code."""
    (work / "package.json").write_text('{"private": true, "type": "module"}')
    options = "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact"
    run("npm", "install", *options, *packages, cwd=work)


def pip(work, *packages):
    """Install Python packages into work/python and make them importable."""
    run(*PIP, "install", "--upgrade", "--target", "python", *packages, cwd=work)
    sys.path.insert(0, str(work / "python"))


def held_out(labels, n, seed=0):
    """Choose n of M images for testing, from each class in proportion to its size.

    The images are shuffled, then sorted by class (a stable sort keeps the shuffled order within a
    class), and evenly spaced ones are taken, M / n apart.
    labels: (M,) -> (M,) bool, True for the n images
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    test = np.zeros(len(labels), bool)
    test[order[np.arange(n) * len(labels) // n]] = True
    return test


def named(values, labels):
    """Arrange labels as the arrays of a file, by name.

    values: {label: the names of its values}; labels: (M, number of labels), or None to leave out
    -> {"labels": labels, "label_names": (labels,), "label_values": (labels,), joined by "|"}
    """
    joined = ["|".join(v) for v in values.values()]
    names = dict(label_names=np.array(list(values)), label_values=np.array(joined))
    return names if labels is None else dict(labels=labels) | names


def name_of(value, pairs):
    """Find the name of an attribute's value. pairs: how a value begins (without #), and its name"""
    return next(name for start, name in pairs if value.lstrip("#").startswith(start))


def portrait_labels(chosen):
    """Read the labels of M portraits off their attributes, by PORTRAIT_LABELS.

    chosen: {attribute: M values}
    -> {label: the names of its values}, labels (M, 9) uint8, indices into those names
    """
    values, columns = {}, []
    for label, (attribute, table) in PORTRAIT_LABELS.items():
        pairs = [pair.split() for pair in table.split(", ")]
        names = list(dict.fromkeys(name for _, name in pairs))
        column = np.array([names.index(name_of(v, pairs)) for v in chosen[attribute]])
        if label == "hat":  # a colour is stored even where there is no hat
            names = ["none", *names]
            column = np.where(np.array(chosen["hat"]) == "none", 0, column + 1)
        values[label] = names
        columns.append(column)
    return values, np.stack(columns, axis=1).astype(np.uint8)


def digits(work):
    """Fetch 1,797 handwritten digits; their grey levels 0..16 are scaled to 0..255.

    -> images (M, 8, 8, 1), labels (M, 1), ...
    """
    run(*PIP, "download", "--no-deps", "--only-binary=:all:", f"scikit-learn=={SKLEARN}", cwd=work)
    with zipfile.ZipFile(next(work.glob(f"scikit_learn-{SKLEARN}-*.whl"))) as wheel:
        table = gzip.decompress(wheel.read("sklearn/datasets/data/digits.csv.gz")).decode()
    rows = np.loadtxt(io.StringIO(table), delimiter=",")  # (M, 65): 64 pixels, then the class
    images = np.round(rows[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = rows[:, 64].astype(np.uint8)
    names = named({"digit": list("0123456789")}, labels[:, None])
    return dict(images=images, **names, test=held_out(labels, 297))


def fashion(work, M=12_000):
    """Fetch the first M training images of Fashion-MNIST.

    28x28 becomes 14x14 by 2x2 means, then 16x16 by a frame of one black pixel.
    -> images (M, 16, 16, 1), labels (M, 1), ...
    """
    run("apt-get", "download", "=".join(FASHION), cwd=work)
    run("dpkg-deb", "-x", next(work.glob(f"{FASHION[0]}_*.deb")).name, "fashion", cwd=work)
    folder = work / "fashion/usr/share/datasets/fashion-mnist"
    read = lambda part: gzip.decompress((folder / f"train-{part}-ubyte.gz").read_bytes())
    pixels = np.frombuffer(read("images-idx3"), np.uint8, offset=16)  # 16 and 8 bytes of header
    labels = np.frombuffer(read("labels-idx1"), np.uint8, offset=8)[:M]
    means = pixels.reshape(-1, 28, 28)[:M].reshape(M, 14, 2, 14, 2).mean((2, 4))
    images = np.pad(np.round(means).astype(np.uint8), ((0, 0), (1, 1), (1, 1)))[..., None]
    names = named({"kind": FASHION_LABELS}, labels[:, None])
    return dict(images=images, **names, test=held_out(labels, 2000))


def node_portraits(work, script, *arguments):
    """Run a script that uses DiceBear's pixel art. -> list, each line of JSON that it printed"""
    (work / "portraits.mjs").write_text(script)
    npm(work, f"@dicebear/core@{DICEBEAR}", f"@dicebear/pixel-art@{DICEBEAR}")
    printed = run("node", "portraits.mjs", *arguments, cwd=work)
    return [json.loads(line) for line in printed.splitlines()]


def draw_portraits(work, svgs):
    """Draw M SVG pictures -> (M, 16, 16, 3) uint8

    Their finest detail is one pixel wide, so nothing is blurred.
    """
    pip(work, f"resvg_py=={RESVG}", f"Pillow=={PILLOW}")
    import resvg_py
    from PIL import Image

    options = dict(width=16, height=16, skip_system_fonts=True)
    pngs = [resvg_py.svg_to_bytes(svg_string=svg, **options) for svg in svgs]
    return np.stack([np.array(Image.open(io.BytesIO(bytes(png))).convert("RGB")) for png in pngs])


def portraits(work, M=6_000):
    """Draw M pixel-art portraits with 17 attributes each.

    -> images (M, 16, 16, 3), labels (M, 9), attributes (M, 17), ...
    """
    pictures = node_portraits(work, PORTRAITS_JS, str(M))
    images = draw_portraits(work, [p["svg"] for p in pictures])
    chosen = [[p["extra"].get(name) or "none" for p in pictures] for name in ATTRIBUTES]
    none_first = lambda value: (value != "none", value)
    values = [sorted(set(column), key=none_first) for column in chosen]
    indices = [[v.index(c) for c in column] for column, v in zip(chosen, values, strict=True)]
    attributes = np.array(indices, np.uint8).T.copy()  # (17, M) -> (M, 17)
    chosen = dict(zip(ATTRIBUTES, chosen, strict=True))
    hat, glasses = (np.array(chosen[name]) != "none" for name in ("hat", "glasses"))
    return dict(
        images=images,
        **named(*portrait_labels(chosen)),
        attributes=attributes,
        attribute_names=np.array(ATTRIBUTES),
        attribute_values=np.array(["|".join(v) for v in values]),
        test=held_out(2 * hat + glasses, 600),
    )


def another(face, attribute, values, rng):
    """Choose another of an attribute's values for a face, at random.

    A hat or glasses are taken off, or put on where there are none; a happy mouth becomes sad and a
    sad one happy; a colour becomes any other.
    face: {attribute: value}; values: all values of the attribute -> str
    """
    if attribute == "mouth":
        values = [v for v in values if v[:3] != face["mouth"][:3]]
    elif "none" in values:
        values = [v for v in values if (v == "none") != (face[attribute] == "none")]
    return str(rng.choice([v for v in values if v != face[attribute]]))


def edits(work, each=50):
    """Draw held-out portraits before and after one attribute is changed.

    each: pairs per attribute of EDITED. Pairs without a visible change, or with equal labels, are
    left out.
    -> before, after (M, 16, 16, 3), labels_before, labels_after (M, 9),
       changed (M,): index of the label, portrait (M,): index of before in portraits16.npz, ...
    """
    with np.load(HERE / "portraits16.npz", allow_pickle=False) as f:
        names = f["attribute_names"].tolist()
        values = [v.split("|") for v in f["attribute_values"].tolist()]
        images, attributes, held = f["images"], f["attributes"], np.flatnonzero(f["test"])
    rng, pairs = np.random.default_rng(0), []
    for n, i in enumerate(rng.permutation(held)):  # each portrait once, the attributes in turn
        attribute = list(EDITED)[n % len(EDITED)]
        face = {name: v[k] for name, v, k in zip(names, values, attributes[i], strict=True)}
        new = another(face, attribute, values[names.index(attribute)], rng)
        pairs.append((int(i), attribute, face, face | {attribute: new}))
    faces = [face for *_, before, after in pairs for face in (before, after)]
    (work / "pinned.json").write_text(json.dumps(faces))
    drawn = draw_portraits(work, node_portraits(work, PINNED_JS))
    portrait, before, after = np.array([i for i, *_ in pairs]), drawn[::2], drawn[1::2]
    if not np.array_equal(before, images[portrait]):
        sys.exit("build.py: portraits drawn from portraits16.npz differ from it: remake it first")
    label_values, labels = portrait_labels({k: [face[k] for face in faces] for k in names})
    labels_before, labels_after = labels[::2], labels[1::2]
    places = [list(label_values).index(EDITED[attribute]) for _, attribute, *_ in pairs]
    changed = np.array(places, np.uint8)
    moved = np.any(before != after, axis=(1, 2, 3))  # a hat hides the hair's new colour
    real = moved & np.any(labels_before != labels_after, axis=1)  # two browns have one name
    kept = [np.flatnonzero(real & (changed == k))[:each] for k in np.unique(changed)]
    kept = np.sort(np.concatenate(kept))
    return dict(
        before=before[kept],
        after=after[kept],
        labels_before=labels_before[kept],
        labels_after=labels_after[kept],
        changed=changed[kept],
        portrait=portrait[kept].astype(np.uint16),
        **named(label_values, None),
    )


def clusters(x, distance):
    """Cluster images: those linked by a chain of near-duplicates, RMSE < distance, belong together.

    x: (M, ...) in 0..255; distance: as a share of that range -> (M,) ints, equal within a cluster
    """
    x = x.reshape(len(x), -1).astype(np.float32) / 255
    squares = (x**2).sum(1)
    rmse = np.sqrt((squares[:, None] + squares - 2 * x @ x.T).clip(0) / x.shape[1])
    cluster = np.arange(len(x))
    for i, j in np.argwhere(rmse < distance):
        cluster[cluster == cluster[i]] = cluster[j]
    return cluster


def emoji_subjects(modules):
    """List the subjects that all styles draw, without flags and combinations ("woman astronaut").

    modules: the folder node_modules -> [(name, [its SVG in each style])]
    """
    # fe0f means "in colour" and is not always written
    bare = lambda code: "-".join(part for part in code.lower().split("-") if part != "fe0f")
    read = lambda package, file: json.loads((modules / package / file).read_text(encoding="utf-8"))
    sets = []
    for package, _, _ in EMOJI_STYLES.values():
        characters = read(f"@iconify-json/{package}", "chars.json")
        codes = {bare(code): name for code, name in characters.items()}
        sets.append((codes, read(f"@iconify-json/{package}", "icons.json")))
    subjects = []
    for emoji, entry in read("unicode-emoji-json", "data-by-emoji.json").items():
        code = bare("-".join(f"{ord(c):x}" for c in emoji))
        if entry["group"] == "Flags" or "200d" in code.split("-"):
            continue
        # The set "shaded" has no codes: there the names that other sets give the code must do.
        others = [codes[code] for codes, _ in sets[1:] if code in codes]
        others.append(entry["slug"].replace("_", "-"))
        svgs = []
        for codes, icons in sets:
            own = [codes[code]] if code in codes else []
            svgs.append(emoji_svg(icons, own if codes else others))
        if all(svgs):
            subjects.append((entry["name"], svgs))
    return subjects


def emoji_svg(icons, names):
    """Write an icon as SVG: the first of names that the set has, or None if it has none of them.

    SIDE stands for the width and height in pixels; what has the colour of the page becomes black.
    icons: the set's icons.json -> str or None
    """
    aliases = icons["aliases"].items()  # some are mirrored or turned: plain ones are names alone
    plain = {name: alias["parent"] for name, alias in aliases if set(alias) == {"parent"}}
    names = [name if name in icons["icons"] else plain.get(name) for name in names]
    name = next((name for name in names if name in icons["icons"]), None)
    if name is None:
        return None
    size = {k: icons[k] for k in ("width", "height") if k in icons}
    icon = {"left": 0, "top": 0, **size, **icons["icons"][name]}
    width, height = icon.get("width", 16), icon.get("height", 16)
    side = max(width, height)
    box = f"{icon['left'] - (side - width) / 2} {icon['top'] - (side - height) / 2} {side} {side}"
    links = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    body = icon["body"].replace("currentColor", "#000000")
    return f'<svg {links} width="SIDE" height="SIDE" viewBox="{box}">{body}</svg>'


def emoji(work):
    """Draw 1,363 emoji, each in five styles, on white.

    -> images (M, 5, 16, 16, 3), names (M,), style_names (5,), test (M,)
    """
    sets = [f"@iconify-json/{package}@{version}" for package, version, _ in EMOJI_STYLES.values()]
    npm(work, f"unicode-emoji-json@{EMOJI_NAMES}", *sets)
    pip(work, f"resvg_py=={RESVG}", f"Pillow=={PILLOW}")
    import resvg_py
    from PIL import Image

    def draw(svg, margin):
        """Draw one SVG picture at 256 x 256, then take means of 16 x 16 pixels. -> (16, 16, 3)"""
        side = 256 - 2 * margin
        svg = svg.replace("SIDE", str(side))
        for k in (1, 2, 3):  # resvg panics on a few filters, but not at another size
            options = dict(width=k * side, height=k * side, skip_system_fonts=True)
            try:
                png = resvg_py.svg_to_bytes(svg_string=svg, **options)
                break
            except BaseException as e:  # a PanicException is not an Exception
                if "Panic" not in type(e).__name__ or k == 3:
                    raise
        picture = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
        if k > 1:
            picture = picture.convert("RGBa").reduce(k).convert("RGBA")
        rgba = np.pad(np.array(picture), ((max(margin, 0),) * 2,) * 2 + ((0, 0),)) / 255
        cut = max(-margin, 0)  # cut here, since clipping while drawing is what makes resvg panic
        rgba = rgba[cut : cut + 256, cut : cut + 256]
        over_white = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        return np.round(over_white.reshape(16, 16, 16, 16, 3).mean((1, 3)) * 255).astype(np.uint8)

    subjects = emoji_subjects(work / "node_modules")
    margins = [margin for _, _, margin in EMOJI_STYLES.values()]
    draw_all = lambda svgs: [draw(*pair) for pair in zip(svgs, margins, strict=True)]
    images = np.stack([draw_all(svgs) for _, svgs in subjects])
    # near-duplicates, judged by flat, noto and twemoji, go to the same side of the split
    cluster = clusters(images[:, [1, 3, 4]], 0.10)
    test = np.zeros(len(images), bool)
    for c in np.random.default_rng(0).permutation(np.unique(cluster)):
        if test.sum() < 250 and (cluster == c).sum() <= 6:
            test[cluster == c] = True
    names, style_names = np.array([name for name, _ in subjects]), np.array(list(EMOJI_STYLES))
    return dict(images=images, names=names, style_names=style_names, test=test)


def held_out_pairs(shape, share=0.2, seed=0):
    """Choose a share of all pairs (face, letter), at most half of any face and of any letter.

    shape: F, L -> (F, L) bool
    """
    test = np.zeros(shape, bool)
    F, L = shape
    for pair in np.random.default_rng(seed).permutation(test.size):
        f, l = divmod(int(pair), L)
        room = 2 * (test[f].sum() + 1) <= L and 2 * (test[:, l].sum() + 1) <= F
        if room and test.sum() < int(share * test.size):
            test[f, l] = True
    return test


def typefaces(work, letters="ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
    """Draw the 26 capitals of 72 typefaces, white on black.

    -> images (72, 26, 16, 16, 1), font_names (72,), test (72, 26), ...
    """
    faces = [(face, group) for group, names in TYPEFACES.items() for face in names.split()]
    npm(work, *(f"@fontsource/{face}@{FONTSOURCE}" for face, _ in faces))
    pip(work, f"Pillow=={PILLOW}")
    from PIL import Image, ImageDraw, ImageFont

    def draw(face, side=384):
        """Draw all capitals of a face in one size -> (26, 16, 16, 1) uint8

        The size makes the median capital 12 pixels high, or less where otherwise more than about
        one in twelve would be wider or higher than 15 pixels.
        """
        folder = work / "node_modules/@fontsource" / face / "files"
        files = sorted(folder.glob("*-latin-[0-9]*-normal.woff"))
        file = next((f for f in files if "-latin-400-" in f.name), files[0])
        big = ImageFont.truetype(file, 400)
        left, top, right, bottom = np.array([big.getbbox(c, anchor="ls") for c in letters]).T
        width, height = np.percentile(right - left, 92), np.percentile(bottom - top, 92)
        scale = side / 16 * min(12 / np.median(-top), 15 / width, 15 / height)
        font = ImageFont.truetype(file, int(400 * scale))
        baseline = side / 2 + np.median(-top) * scale / 2
        sheets = []
        for c in letters:
            left, _, right, _ = font.getbbox(c, anchor="ls")
            place = (side - right + left) / 2 - left, baseline
            sheet = Image.new("L", (side, side))
            ImageDraw.Draw(sheet).text(place, c, font=font, fill=255, anchor="ls")
            sheets.append(np.array(sheet))
        k = side // 16
        means = np.stack(sheets).reshape(-1, 16, k, 16, k).mean((2, 4))
        return np.round(means).astype(np.uint8)[..., None]

    groups = sorted(TYPEFACES)
    return dict(
        images=np.stack([draw(face) for face, _ in faces]),
        font_names=np.array([face for face, _ in faces]),
        group=np.array([groups.index(group) for _, group in faces], np.uint8),
        group_names=np.array(groups),
        letters=np.array(list(letters)),
        test=held_out_pairs((len(faces), len(letters))),
    )


def crops(M, n, **form):
    """Draw M crops of patterns by formulas, n of them held out; the crops do not tile.

    form: of patterns.draw -> images (M, size, size, 3), labels (M, 2), ...
    """
    images, labels = drawn_patterns.draw(M, **form)
    kinds = [kind.__name__ for kind in drawn_patterns.KINDS]
    values = {"kind": kinds, "palette": list(drawn_patterns.PALETTES)}
    return dict(images=images, **named(values, labels), test=held_out(labels[:, 0], n))


def patterns(work):
    """Draw crops of 16 x 16 pixels. work is not used."""
    return crops(8_000, 800)


def patterns32(work):
    """Draw crops of 32 x 32 pixels, their motifs 1.6 times as large. work is not used."""
    return crops(4_800, 480, size=32, fine=2, scale=1.6)


def save(path, arrays):
    """Write an .npz without time stamps, so that equal arrays give equal bytes.

    The old file stays until the new one is complete. Prints what the file holds, and whether it is
    new, unchanged or CHANGED.
    """
    new = path.with_suffix(".npz.part")
    with zipfile.ZipFile(new, "w") as z:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # otherwise the bytes depend on the operating system
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
            z.writestr(member, buffer.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    before = path.read_bytes() if path.exists() else None
    now = new.read_bytes()
    new.replace(path)
    news = "new" if before is None else "unchanged" if before == now else "CHANGED"
    if "test" in arrays:
        test = arrays["test"]
        size = f"{test.size - test.sum()} train + {test.sum()} test"
    else:
        size = f"{len(arrays['before'])} pairs"
    print(f"{path.name}: {size}, {len(now):,} bytes, {news}", flush=True)


def main():
    """Read the command line and build the requested sets."""
    files = "digits8 fashion16 portraits16 edits16 emoji16 typefaces16 patterns16 patterns32"
    builds = digits, fashion, portraits, edits, emoji, typefaces, patterns, patterns32
    pairs = zip(builds, files.split(), strict=True)
    sets = {build.__name__: (build, file) for build, file in pairs}
    purpose = "Remake the image sets of this folder from their published packages."
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("which", choices=[*sets, "all"])
    place = "keep downloads here (default: a temporary folder)"
    parser.add_argument("--work", type=Path, metavar="DIR", help=place)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in sets if args.which == "all" else [args.which]:
            build, file = sets[name]
            work = (args.work or Path(temporary)).resolve() / name
            work.mkdir(parents=True, exist_ok=True)
            save(HERE / f"{file}.npz", build(work))


if __name__ == "__main__":
    main()
