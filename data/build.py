"""Remake the image sets of this folder:  python data/build.py digits|fashion|portraits|all [--work DIR]

Each set comes out of a published package, fetched by name and pinned version with the ordinary client:

    digits     pip      scikit-learn 1.9.1 (only its file digits.csv.gz is read)
    fashion    apt      dataset-fashion-mnist 0.0~git20200523.55506a9-1 (Debian; unpacked, not installed)
    portraits  npm      @dicebear/core 9.4.3, @dicebear/pixel-art 9.4.3 (needs node 18 or later)
               pip      resvg_py 0.5.0, Pillow 13.0.0 (draw the SVG pictures)

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

HERE = Path(__file__).resolve().parent
PIP = sys.executable, "-m", "pip", "--disable-pip-version-check"
SKLEARN, RESVG, PILLOW, DICEBEAR = "1.9.1", "0.5.0", "13.0.0", "9.4.3"
FASHION = "dataset-fashion-mnist", "0.0~git20200523.55506a9-1"
FASHION_LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
ATTRIBUTES = [
    "hair",
    "hat",
    "glasses",
    "beard",
    "accessories",
    "clothing",
    "eyes",
    "mouth",
    "hairColor",
    "hatColor",
    "clothingColor",
    "skinColor",
    "eyesColor",
    "mouthColor",
    "glassesColor",
    "accessoriesColor",
    "primaryBackgroundColor",
]

# What a model of the portraits can be told: each label, the attribute it is read from, and its values (how it begins, its name).
# Colours that look alike share a name; a hat and its colour are one label.
PORTRAIT_LABELS = {
    "hat": ("hatColor", "2663a3 blue, 2e1e05 black-brown, 3d8a6b green, 614f8a violet, 989789 grey, a62116 red, cc6192 pink"),
    "glasses": ("glasses", "none none, dark dark, light light"),
    "hair": ("hair", "long long, short short"),
    "hair-colour": (
        "hairColor",
        "28150a black-brown, 603015 brown, 603a14 brown, 611c17 red-brown, 612616 red-brown, 83623b light-brown, "
        "a78961 dark-blond, cab188 blond, bd1700 red, 91cb15 green, 009bbd blue",
    ),
    "beard": ("beard", "none none, variant beard"),
    "mouth": ("mouth", "happy happy, sad sad"),
    "skin": ("skinColor", "8d5524 1, a26d3d 2, b68655 3, cb9e6e 4, e0b687 5, eac393 6, f5cfa0 7, ffdbac 8"),
    "clothes": (
        "clothingColor",
        "00b159 green, 44c585 light-green, 88d8b0 mint, 03396c navy, 428bca blue, 5bc0de sky, ae0001 dark-red, d11141 red, "
        "ff6f69 coral, ffc425 amber, ffd969 yellow, ffeead cream",
    ),
    "background": ("primaryBackgroundColor", "b6e3f4 blue, c0aede violet, d1d4f9 lilac, ffd5dc pink, ffdfbf peach, ffffff white"),
}

# The i-th portrait depends on its seed alone, so any number of them can be drawn. One line of JSON each.
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


def run(name, *arguments, cwd):
    """Run a program in the folder cwd; return what it printed. If it is missing or fails, exit with a plain message."""
    program = shutil.which(name)
    if program is None:
        sys.exit(f"build.py: '{name}' was not found, and this set needs it: install it, then run this again")
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"build.py: '{name} {' '.join(arguments)}' failed and said:\n{done.stderr.strip()}")
    return done.stdout


def held_out(labels, n, seed=0):
    """Choose n of M images for the test, every class by its share. (M,) -> (M,) bool

    The images are shuffled, then sorted by class (a stable sort keeps the shuffle), and every (M/n)-th one is taken.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    test = np.zeros(len(labels), bool)
    test[order[np.arange(n) * len(labels) // n]] = True
    return test


def named(values, labels):
    """Lay out labels for a file: values {label: names of its values}, labels (M, number of labels) -> three arrays by name."""
    return dict(labels=labels, label_names=np.array(list(values)), label_values=np.array(["|".join(v) for v in values.values()]))


def portrait_labels(chosen):
    """Read PORTRAIT_LABELS off the attributes: chosen {attribute: M values} -> values {label: names}, labels (M, 9) uint8."""
    values, columns = {}, []
    for label, (attribute, table) in PORTRAIT_LABELS.items():
        pairs = [pair.split() for pair in table.split(", ")]  # how the value begins, its name
        names = list(dict.fromkeys(name for _, name in pairs))
        column = np.array([next(names.index(n) for start, n in pairs if v.lstrip("#").startswith(start)) for v in chosen[attribute]])
        if label == "hat":
            names, column = ["none", *names], np.where(np.array(chosen["hat"]) == "none", 0, column + 1)
        values[label] = names
        columns.append(column)
    return values, np.stack(columns, axis=1).astype(np.uint8)


def digits(work):
    """1,797 handwritten digits: the 17 grey levels 0..16 spread over 0..255. -> images (M, 8, 8, 1), labels (M, 1), ..."""
    run(*PIP, "download", "--no-deps", "--only-binary=:all:", f"scikit-learn=={SKLEARN}", cwd=work)
    with zipfile.ZipFile(next(work.glob(f"scikit_learn-{SKLEARN}-*.whl"))) as wheel:
        table = gzip.decompress(wheel.read("sklearn/datasets/data/digits.csv.gz")).decode()
    rows = np.loadtxt(io.StringIO(table), delimiter=",")  # (M, 65): 64 pixels, then the class
    images = np.round(rows[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = rows[:, 64].astype(np.uint8)
    return dict(images=images, **named({"digit": list("0123456789")}, labels[:, None]), test=held_out(labels, 297))


def fashion(work, M=12_000):
    """The first M training images of Fashion-MNIST: 28x28 -> 14x14 by 2x2 means, in a frame of one black pixel.

    -> images (M, 16, 16, 1), labels (M, 1), ...
    """
    run("apt-get", "download", "=".join(FASHION), cwd=work)
    run("dpkg-deb", "-x", next(work.glob(f"{FASHION[0]}_*.deb")).name, "fashion", cwd=work)
    folder = work / "fashion/usr/share/datasets/fashion-mnist"
    raw = [gzip.decompress((folder / f"train-{f}-ubyte.gz").read_bytes()) for f in ("images-idx3", "labels-idx1")]
    pixels = np.frombuffer(raw[0], np.uint8, offset=16).reshape(-1, 28, 28)[:M]  # 16 and 8: the length of the header
    labels = np.frombuffer(raw[1], np.uint8, offset=8)[:M]
    means = pixels.reshape(M, 14, 2, 14, 2).mean((2, 4))
    images = np.pad(np.round(means).astype(np.uint8), ((0, 0), (1, 1), (1, 1)))[..., None]
    return dict(images=images, **named({"kind": FASHION_LABELS}, labels[:, None]), test=held_out(labels, 2000))


def portraits(work, M=6_000):
    """M pixel-art portraits with 17 attributes each. -> images (M, 16, 16, 3), labels (M, 9), attributes (M, 17), ..."""
    (work / "package.json").write_text('{"private": true, "type": "module"}')
    (work / "portraits.mjs").write_text(PORTRAITS_JS)
    run(
        "npm",
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--save-exact",
        f"@dicebear/core@{DICEBEAR}",
        f"@dicebear/pixel-art@{DICEBEAR}",
        cwd=work,
    )
    lines = run("node", "portraits.mjs", str(M), cwd=work).splitlines()
    run(*PIP, "install", "--upgrade", "--target", "python", f"resvg_py=={RESVG}", f"Pillow=={PILLOW}", cwd=work)
    sys.path.insert(0, str(work / "python"))
    import resvg_py
    from PIL import Image

    def draw(svg):
        """One SVG picture -> (16, 16, 3). Its finest detail is one pixel wide, so nothing is blurred."""
        png = resvg_py.svg_to_bytes(svg_string=svg, width=16, height=16, skip_system_fonts=True)
        return np.array(Image.open(io.BytesIO(bytes(png))).convert("RGB"))

    pictures = [json.loads(line) for line in lines]
    images = np.stack([draw(p["svg"]) for p in pictures])
    chosen = [[p["extra"].get(name) or "none" for p in pictures] for name in ATTRIBUTES]
    values = [sorted(set(column), key=lambda v: (v != "none", v)) for column in chosen]  # "none" comes first
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


def save(path, arrays):
    """Write an .npz without time stamps: equal arrays, equal bytes. The old file stays until the new one is whole."""
    new = path.with_suffix(".npz.part")
    with zipfile.ZipFile(new, "w") as z:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # or the bytes would tell the operating system
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
            z.writestr(member, buffer.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    before = path.read_bytes() if path.exists() else None
    now = new.read_bytes()
    new.replace(path)
    news = "new" if before is None else "unchanged" if before == now else "CHANGED"
    M, test = len(arrays["test"]), arrays["test"].sum()
    print(f"{path.name}: {M - test} train + {test} test images, {len(now):,} bytes, {news}", flush=True)


def main():
    """Read the command line and build."""
    sets = {"digits": (digits, "digits8"), "fashion": (fashion, "fashion16"), "portraits": (portraits, "portraits16")}
    parser = argparse.ArgumentParser(description="Remake the image sets of this folder from their published packages.")
    parser.add_argument("which", choices=[*sets, "all"])
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep downloads here (default: a temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in sets if args.which == "all" else [args.which]:
            build, file = sets[name]
            work = (args.work or Path(temporary)).resolve() / name
            work.mkdir(parents=True, exist_ok=True)
            save(HERE / f"{file}.npz", build(work))


if __name__ == "__main__":
    main()
