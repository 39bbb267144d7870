"""The command line: which commands there are and what each takes; cmd_*.py do the work."""

import argparse
import errno
import os
import re
import reprlib
import sys
from importlib import import_module
from pathlib import Path

from .. import kernels
from . import interrupt, together
from .usage import UsageError, choose_kernels

SAMPLERS = ("ddpm", "ddim", "euler", "heun", "dpmpp_2m")  # these three as in design/pipeline.py,
TIMES = ("even", "quadratic", "snr", "karras")  # which would load too much for --help
WAYS = ("source", "inversion", "noise")
RESTORE = {  # of `edit --restore`: how noisy such a picture is taken to be
    "shrink2": 0.02,
    "shrink4": 0.02,
    "grey": 0.02,
    "blur": 0.05,
    "noise": 0.2,
}
USUAL = {  # sampler, steps and how they are spread, where nothing else is asked for: RESULTS.md
    "sample": ("dpmpp_2m", 12, "snr"),
    "sample --palette": ("dpmpp_2m", 15, "even"),  # and --main-colour
    "sample --tile": ("ddim", 16, "even"),
    "edit --mask": ("ddim", 50, "even"),  # and the rounds of --rounds
    "edit --restore": ("ddim", 15, "snr"),
    "edit --strength": ("ddim", 15, "snr"),
    "edit --change": ("ddim", 20, "even"),
    "between": ("ddim", 25, "even"),
    "restyle": ("dpmpp_2m", 15, "even"),
    "restyle --way": ("ddim", 15, "even"),  # inversion or noise
    "alphabet": ("dpmpp_2m", 15, "even"),
    "train": ("dpmpp_2m", 10, "even"),  # its sheets of samples
}
HOLE = "hole"  # of `edit --mask`: what is erased in the picture itself
STEPS = 50  # of a sampler that was asked for
RANGES = {  # of numbers: what kind, and from where (fractions: above what) to where
    "--n": (int, 1, 10_000),
    "--tries": (int, 1, 100),
    "--steps": (int, 1, 10_000_000),  # of a sampler: at most the model's own
    "--rounds": (int, 1, 1000),
    "--batch": (int, 1, 65_536),
    "--width": (int, 8, 1024),
    "--depth": (int, 1, 16),
    "--seed": (int, 0, 2**63 - 1),
    "picture": (int, 0, 10_000_000),  # of a seed
    "--size": (int, 1, 4096),  # each side
    "--guidance": (float, 0, 100),
    "--strength": (float, 0, 1),
    "--sigma": (float, 1e-4, 10),
    "--pull": (float, 0.01, 100),
    "--keep": (float, 0.01, 100),
    "--scale": (int, 1, 256),
    "--colours": (int, 1, 256),
    "--shares": (float, 0, 100),  # percent, each
    "--lr": (float, 1e-7, 10),
    "--minutes": (float, 0, 100_000),
    "--save-every": (float, 0, 1_000_000),
    "--shift": (int, 1, 16),
    "--lora": (int, 1, 64),
    "--seconds": (float, 0, 86_400),
    "--jobs": (int, 1, 256),
    "evaluate --n": (int, 64, 100_000),
    "train --size": (int, 8, 64),
    "--grid": (int, 4, 1024),  # each side
}
WRITTEN = {  # how they are written: int and float would also read "1_000" and " 5"
    int: re.compile("[+-]?[0-9]{1,30}"),
    float: re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,9})?", re.IGNORECASE),
}
AMOUNT = re.compile(r"([0-9.]+(?:e[0-9]{1,2})?) ?([kmgt]?)(i?)b?", re.IGNORECASE)  # 4GB, 2e9
UNWRITTEN = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG)
COMMANDS = {  # command -> the file that does it, loaded only then: --help answers at once
    **dict.fromkeys((None, "train", "judge", "export"), "cmd_train"),
    "look": "cmd_look",
    "sample": "cmd_sample",
    "edit": "cmd_edit",
    **dict.fromkeys(("restyle", "alphabet"), "cmd_restyle"),
    "between": "cmd_between",
    "labels": "cmd_labels",
    "again": "cmd_again",
    "gallery": "cmd_gallery",
    "evaluate": "cmd_evaluate",
    **dict.fromkeys(("handout", "grade"), "cmd_teach"),
    "site": "cmd_site",
    "doctor": "cmd_doctor",
}
SETS = "digits, fashion, portraits, patterns, patterns32, emoji or typefaces"
MODEL = f"{SETS}, which come with tinydiff, or a file that `train` wrote"
PICTURES = (
    "a folder of pictures, whose folders are labels, a sheet of sprites with --grid, an animation, "
    "or arrays: .npy, .npz, IDX, CIFAR's binary version"
)
WISH = "what to draw: 7, or hat=red glasses=none; a label that is not named is left to the model"
LESSONS = "numbers of lessons, as 1-5 or 1,3,7-9 (default: all)"


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message}; see `{self.prog} --help`")


def parser():
    """Describe the command line: () -> argparse.ArgumentParser; what it refuses is a UsageError"""
    about = "Diffusion models from scratch. Without a command: train on digits, draw them."
    main = _Parser(prog="python -m tinydiff", description=about)
    out = "folder for pictures and checkpoint (default: out)"
    main.add_argument("--out", type=_path, dest="main_out", help=out)
    seed = "seed of all random numbers (default: 0)"
    main.add_argument("--seed", type=_in_range("--seed"), dest="main_seed", help=seed)
    force = "replace the training in out/digits.npz, also if it is another one"
    main.add_argument("--force", action="store_true", dest="main_force", help=force)
    who = "who computes: reference (NumPy), cpu (Numba), cuda (an NVIDIA GPU)"
    where = f"{who} (default: $TINYDIFF_KERNELS, or cpu)"
    main.add_argument("--kernels", choices=["reference", "cpu", "cuda"], help=where)
    add = main.add_subparsers(dest="command", parser_class=_Parser).add_parser
    _train(add("train", help="train a model on a data set, or on your own pictures"))
    _look(add("look", help="say what is in your own pictures, and draw what a network would see"))
    _sample(add("sample", help="draw with a trained model"))
    _edit(add("edit", help="redraw a picture, or a part of it, or change one thing in it"))
    _restyle(add("restyle", help="draw a picture once more in the style of an emoji set"))
    _alphabet(add("alphabet", help="complete an alphabet from a few of its letters"))
    _between(add("between", help="draw the way from one picture to another"))
    _labels(add("labels", help="say what may be asked of a model, and draw a picture of each"))
    _again(add("again", help="draw once more what a picture of tinydiff says of itself"))
    gallery = add("gallery", help="draw one page that shows all of this, in half a minute")
    _out_and_seed(gallery, "out/gallery.png")
    tells = "judge a trained model: quality, diversity, stability, cost, in one table"
    _evaluate(add("evaluate", help=tells))
    _judge(add("judge", help="train the classifier that judges a data set's images"))
    _export(add("export", help="make a checkpoint small: only what drawing needs, as float16"))
    writes = "for instructors: write what students get, without the answers"
    _handout(add("handout", help=writes))
    _grade(add("grade", help="for instructors: grade a class"))
    site = add("site", help="write the lessons as web pages, to read without Jupyter")
    site.add_argument("dir", type=_path, metavar="DIR", help="new folder, or an earlier site")
    add("doctor", help="say what is installed, whether it is whole, how fast it runs")
    return main


def _out_and_seed(command, path, what="picture to write"):
    kind = _file if Path(path).suffix else _path
    command.add_argument("--out", type=kind, default=Path(path), help=f"{what} (default: {path})")
    seed = "seed of all random numbers (default: 0)"
    command.add_argument("--seed", type=_in_range("--seed"), default=0, help=seed)


def _files(command, path, many_seeds=False):
    """Add the options of all commands that draw: where to, and as what."""
    command.set_defaults(only=None)
    where = (
        f"picture to write, or replace, x.png, or a folder for single pictures (default: {path})"
    )
    command.add_argument("--out", type=_path, default=Path(path), metavar="OUT", help=where)
    scale = "each pixel becomes K x K, without blur (default: 1 in a folder and with --sheet, else "
    scale += "for looking at)"
    command.add_argument("--scale", type=_in_range("--scale"), metavar="K", help=scale)
    sheet = "write all as one sheet without gaps, and a .json of where each is, as Aseprite does"
    command.add_argument("--sheet", action="store_true", help=sheet)
    frames = "also write how it was drawn, step by step (between: the way there and back), as "
    frames += "animations of these kinds: gif (256 colours), apng, webp (default: none)"
    kinds = ("gif", "apng", "webp")
    command.add_argument("--frames", nargs="+", choices=kinds, metavar="KIND", help=frames)
    force = "replace pictures that are in the folder already"
    command.add_argument("--force", action="store_true", help=force)
    seed = "seed of all random numbers (default: 0)"
    if many_seeds:
        each = (
            "; of several seeds, and of SEED:NUMBER, one picture each: 7:3 is what --seed 7 calls 3"
        )
        kind = {"type": _seed, "nargs": "+", "action": _Seeds, "metavar": "SEED"}
        command.add_argument("--seed", **kind, default=0, help=seed + each)
        return
    command.add_argument("--seed", type=_in_range("--seed"), default=0, help=seed)


def _colours(command):
    """Add the options of the commands that draw in exactly given colours."""
    palette = (
        "draw in exactly these colours, as '#1d2b53' '#ff77a8', or those of files: .gpl, .hex, "
    )
    palette += ".ase, .aseprite, a picture of at most 256 (default: any)"
    command.add_argument("--palette", nargs="+", metavar="COLOUR", help=palette)
    found = "draw in exactly K colours, found in what is drawn freely (default: any number)"
    command.add_argument("--colours", type=_in_range("--colours"), metavar="K", help=found)
    dither = "with --palette or --colours: draw freely, and mix the colours pixel by pixel"
    command.add_argument("--dither", action="store_true", help=dither)


def _shares(command):
    share = "with --palette or --colours: percent of the pixels for each colour, as 60 30 10 "
    kind = _in_range("--shares")
    usual = "(default: as it comes)"
    command.add_argument("--shares", nargs="+", type=kind, metavar="PERCENT", help=share + usual)


def _transparent(command):
    clear = "make a plain background transparent, in the files of a folder and in sheets, or, with "
    clear += "a COLOUR, as '#ff00ff', exactly of that one colour (default: as it is drawn)"
    kind = {"nargs": "?", "const": True, "default": None, "metavar": "COLOUR"}
    command.add_argument("--transparent", **kind, help=clear)


def _guidance(command, default=1.0, says="(default: 1)"):
    strength, kind = f"strength of guidance, 1 = none {says}", _in_range("--guidance")
    command.add_argument("--guidance", type=kind, default=default, metavar="W", help=strength)


def _tries(command):
    best = (
        "draw each N times, and keep the one that the judge of the model's pictures most believes "
    )
    best += "to show what is asked for, by --label, --avoid or --change (default: 1)"
    command.add_argument("--tries", type=_in_range("--tries"), default=1, metavar="N", help=best)


def _n_and_steps(command, n, drawn, says):
    command.add_argument("--n", type=_in_range("--n"), default=n, help=drawn)
    spread = f"steps from noise to image (default: {says})"
    command.add_argument("--steps", type=_in_range("--steps"), help=spread)


def _train(train):
    paired = "emoji, typefaces: a model that redraws, or completes"
    sets = f"digits, fashion, portraits, patterns or patterns32; {paired}"
    train.add_argument("dataset", help=f"{sets}; or your own pictures: {PICTURES}")
    _own_pictures(train)
    length = train.add_mutually_exclusive_group()
    minutes = "train this long, in minutes (default: 10, unless --steps is given; with fewer than "
    minutes += "200 pictures of your own: at most until each was seen 1,000 times)"
    length.add_argument("--minutes", type=_in_range("--minutes"), help=minutes)
    steps = "train this many steps; stopping and resuming on the way changes nothing "
    fits = "(default: as many as fit into --minutes)"
    length.add_argument("--steps", type=_in_range("--steps"), help=steps + fits)
    _small_sets(train)
    out = "folder for sample sheets and the checkpoint (default: out)"
    train.add_argument("--out", type=_path, default=Path("out"), help=out)
    resume = (
        "go on from this checkpoint; --minutes then counts again, and the learning rate with it"
    )
    train.add_argument("--resume", type=_file, metavar="CKPT", help=resume)
    seed = "seed of all random numbers, not with --resume (default: 0)"
    train.add_argument("--seed", type=_in_range("--seed"), help=seed)
    own = "(default: the data set's own)"
    width = f"channels at full size, divisible by 8 {own}"
    train.add_argument("--width", type=_in_range("--width"), help=width)
    train.add_argument("--depth", type=_in_range("--depth"), help=f"blocks per level {own}")
    train.add_argument("--batch", type=_in_range("--batch"), help=f"images per step {own}")
    train.add_argument("--lr", type=_in_range("--lr"), help=f"highest learning rate {own}")
    stay = "compute a batch in pieces, so that the process stays within so much memory, as 4GB or "
    before = "500MB; with --resume as before (default: all at once)"
    train.add_argument("--memory", type=_memory, metavar="SIZE", help=stay + before)
    predict = "what the network is trained to predict (default: v)"
    train.add_argument("--predict", choices=["eps", "v"], help=predict)
    save = {"default": 60.0, "metavar": "SECONDS", "help": "time between checkpoints (default: 60)"}
    train.add_argument("--save-every", type=_in_range("--save-every"), **save)
    force = "replace another training that --out holds"
    train.add_argument("--force", action="store_true", help=force)


def _small_sets(train):
    flip = "learn from mirrored pictures too, and draw none: the network is told which are mirrored"
    train.add_argument("--flip", action="store_true", help=flip)
    shift = "learn from pictures moved by up to N pixels too, and draw none (default: 0)"
    train.add_argument("--shift", type=_in_range("--shift"), metavar="N", help=shift)
    start = "begin with the weights of this model, for few pictures: portraits, patterns, fashion, "
    says = "digits, or a file that `train` or `export` wrote (default: random weights)"
    train.add_argument("--from", dest="start", metavar="MODEL", help=start + says)
    lora = "with --from: learn only changes of rank R, as 8, of its weights (default: all of them)"
    train.add_argument("--lora", type=_in_range("--lora"), metavar="R", help=lora)


def _own_pictures(command):
    side = "of your own pictures: pixels per side to train at, one number, a multiple of 4 "
    usual = "(default: the smallest of 8, 16, 32, 64 that keeps what is there)"
    kind = _in_range("train --size")
    command.add_argument("--size", type=kind, metavar="N", help=side + usual)
    cell = "of a sheet of sprites: width and height of one, in this order, as 16x24; what is "
    cell += "transparent around each is left out (default: none)"
    command.add_argument("--grid", type=_grid, metavar="WxH", help=cell)
    anew = "read all pictures anew, and do not keep them in the cache folder"
    command.add_argument("--no-cache", action="store_true", help=anew)


def _look(look):
    look.add_argument("path", type=_path, metavar="PATH", help=PICTURES)
    _own_pictures(look)
    out = "picture to write (default: out/look.png)"
    look.add_argument("--out", type=_file, default=Path("out/look.png"), help=out)


def _sample(sample):
    sample.add_argument("model", metavar="MODEL", help=MODEL)
    label = f"{WISH} (default: all classes in turn, or no labels)"
    sample.add_argument("--label", nargs="+", metavar="WISH", help=label)
    source = "of emoji: a picture of the subject to draw; without one there are styles alone "
    source += "(default: none)"
    sample.add_argument("--source", metavar="PICTURE", help=source)
    avoid = "what guidance leads away from (default: no labels)"
    sample.add_argument("--avoid", nargs="+", metavar="WISH", help=avoid)
    strength = (
        "1 draws what is asked for, more exaggerates it, less follows it loosely (default: 1)"
    )
    kind = _in_range("--guidance")
    sample.add_argument("--guidance", type=kind, default=1.0, metavar="W", help=strength)
    drawn = "number of images (default: 64; 8 with --like, 1 with --size above 64x64)"
    sample.add_argument("--n", type=_in_range("--n"), help=drawn)
    which = "ddpm visits every step, others --steps of them (default: dpmpp_2m, ddim for tiles)"
    sample.add_argument("--sampler", choices=SAMPLERS, help=which)
    few = [USUAL[f"sample{how}"][1] for how in ("", " --palette", " --tile")]
    others = f"{few[1]} in given colours, {few[2]} for tiles, {STEPS} with --sampler"
    steps = f"steps from noise to image, not for ddpm (default: {few[0]}; {others})"
    sample.add_argument("--steps", type=_in_range("--steps"), help=steps)
    spread = "how the steps are spread over the noise levels "
    times = f"{spread}(default: snr; even in given colours, for tiles, with --sampler)"
    sample.add_argument("--times", choices=TIMES, help=times)
    tile = "draw tiles that repeat without a seam, for a model of textures such as patterns"
    sample.add_argument("--tile", action="store_true", help=tile)
    size = "height and width, in this order, as 16x64, for a model of textures: motifs stay as "
    size += "large as they are, there are more of them; for print see --scale (default: its own)"
    sample.add_argument("--size", type=_size, metavar="HxW", help=size)
    _colours(sample)
    _shares(sample)
    about = "keep to --palette only about, as --pull says: mixtures of its colours, too"
    sample.add_argument("--about", action="store_true", help=about)
    main = "the mean colour to draw around, as '#3060c0' (default: any)"
    sample.add_argument("--main-colour", metavar="COLOUR", help=main)
    pull = "how closely to keep to --main-colour, or to --palette, which then is no longer exact "
    pull += "(default: 1; 3 is close)"
    sample.add_argument("--pull", type=_in_range("--pull"), metavar="X", help=pull)
    for kind in ("gif", "apng"):
        sample.add_argument(f"--{kind}", action="store_true", help=f"the same as --frames {kind}")
    _transparent(sample)
    like = "draw more like this one: a picture, or one of a sheet, as heroes.png#3, counted from 0"
    sample.add_argument("--like", metavar="PICTURE", help=f"{like} (default: none)")
    strength = "with --like: how much of it is drawn anew, above 0 up to 1 (default: 0.4)"
    sample.add_argument("--strength", type=_in_range("--strength"), help=strength)
    sample.set_defaults(picks=None)
    _tries(sample)
    _files(sample, "out/sample.png", many_seeds=True)


def _edit(edit):
    edit.add_argument("model", metavar="MODEL", help=MODEL)
    fitted = "pictures, or folders of them, each cropped and scaled to the model's size, or, for a "
    fitted += "model of your own pictures, fitted as these were; what is transparent stays so"
    edit.add_argument("images", nargs="+", type=_path, metavar="IMAGE", help=fitted)
    how = edit.add_mutually_exclusive_group(required=True)
    mask = "a picture, as large or a multiple: what is white in it is drawn anew, what is black "
    mask += "stays; of a transparent layer what is painted, in any colour; without a name: what is "
    mask += "erased in the picture itself (default: none)"
    how.add_argument("--mask", nargs="?", const=HOLE, metavar="MASK", help=mask)
    restore = (
        "the picture is small, grey, blurred or noisy: draw what it may have been (default: none)"
    )
    how.add_argument("--restore", choices=RESTORE, help=restore)
    strength = "how much of the picture is drawn anew, above 0 up to 1 (default: none)"
    how.add_argument("--strength", type=_in_range("--strength"), help=strength)
    change = "what should be different, as hat=red; the rest stays (default: none)"
    how.add_argument("--change", nargs="+", metavar="WISH", help=change)
    rounds = "with --mask: rounds per step, so that the parts agree (default: 5)"
    edit.add_argument("--rounds", type=_in_range("--rounds"), help=rounds)
    sigma = (
        "with --restore: standard deviation of the picture's noise, from black to white being 2 "
    )
    usual = "(default: 0.02; 0.05 blur, 0.2 noise)"
    edit.add_argument("--sigma", type=_in_range("--sigma"), help=sigma + usual)
    shows = "with --change what the picture shows, where it is read wrongly (default: no labels)"
    edit.add_argument("--label", nargs="+", metavar="WISH", help=f"{WISH}; {shows}")
    _guidance(edit, None, "(default: 1, with --change 2)")
    drawn = "number of results (default: 8, with --change 1)"
    says = [f"{USUAL[f'edit {how}'][1]} with {how}" for how in ("--mask", "--change")]
    _n_and_steps(edit, None, drawn, f"{USUAL['edit --restore'][1]}, {', '.join(says)}")
    _colours(edit)
    back = (
        "put what is drawn back into each picture at its own size, as blocks; the rest of it stays"
    )
    edit.add_argument("--paste", action="store_true", help=back)
    _transparent(edit)
    _tries(edit)
    _files(edit, "out/edit.png")


def _restyle(restyle):
    fitted = "pictures, or folders of them, each cropped and scaled to the model's size"
    suited = f"{fitted}; flat drawings on white, or on nothing, suit it best"
    restyle.add_argument("images", nargs="+", type=_path, metavar="IMAGE", help=suited)
    styles = "line, flat, shaded, noto or twemoji"
    restyle.add_argument("--to", required=True, metavar="STYLE", help=styles)
    of = "style of the picture, for --way inversion (default: none)"
    restyle.add_argument("--from", dest="of", metavar="STYLE", help=of)
    ways = "source: the model looks at the picture; inversion: find the picture's noise, draw from "
    noise = "it; noise: add noise, draw (default: source)"
    restyle.add_argument("--way", choices=WAYS, default="source", help=ways + noise)
    strength = "of --way inversion or noise: how much is drawn anew, above 0 up to 1 (default: 0.7)"
    restyle.add_argument("--strength", type=_in_range("--strength"), help=strength)
    keep = "how closely the picture's colours and outline are held: 1 loosely, 10 as they are; the "
    keep += "closer, the less of the style (default: not at all)"
    restyle.add_argument("--keep", type=_in_range("--keep"), metavar="X", help=keep)
    fill = (
        "the colour of what a sketch's lines enclose, as '#d03030' (default: none, the network's)"
    )
    restyle.add_argument("--fill", metavar="COLOUR", help=fill)
    model = "a file that `train emoji` wrote (default: the one that comes with tinydiff)"
    restyle.add_argument("--model", default="emoji", help=model)
    _guidance(restyle, None, "(default: 1.5; 2 for --way inversion or noise)")
    _n_and_steps(restyle, 8, "number of results (default: 8)", USUAL["restyle"][1])
    _colours(restyle)
    _shares(restyle)
    _transparent(restyle)
    _files(restyle, "out/restyle.png")


def _alphabet(alphabet):
    given = (
        "A=a.png R=r.png ...: pictures of capitals, each cropped and scaled to the model's size; "
    )
    face = "or one of the typefaces, such as lobster"
    alphabet.add_argument("known", nargs="+", metavar="LETTERS", help=given + face)
    letters = "of a typeface: the letters to show (default: those that the model was trained on)"
    alphabet.add_argument("--letters", help=letters)
    model = "a file that `train typefaces` wrote (default: the one that comes with tinydiff)"
    alphabet.add_argument("--model", default="typefaces", help=model)
    _guidance(alphabet)
    drawn = "number of alphabets (default: 4; 1 with --font)"
    _n_and_steps(alphabet, None, drawn, USUAL["alphabet"][1])
    font = "also write a font into the folder --out: ttf, outlines around the pixels; fnt, a strip "
    font += "of pictures and BMFont's table (default: none)"
    alphabet.add_argument("--font", nargs="+", choices=("ttf", "fnt"), metavar="KIND", help=font)
    sharp = "letters of black and white alone, without greys, in files and in the strip"
    alphabet.add_argument("--one-bit", action="store_true", help=sharp)
    _files(alphabet, "out/alphabet.png")


def _between(between):
    between.add_argument("model", metavar="MODEL", help=MODEL)
    for name in ("first", "second"):
        end = f"the {name} picture, cropped and scaled to the model's size"
        between.add_argument(name, type=_file, metavar=name.upper(), help=end)
    drawn = "pictures from one to the other, of which the ends are as the model draws the two"
    _n_and_steps(between, 7, f"{drawn} (default: 7)", USUAL["between"][1])
    _files(between, "out/between.png")


def _labels(labels):
    labels.add_argument("model", metavar="MODEL", help=MODEL)
    sheet = "draw a picture of each value, into out/labels.png, or where --out says"
    labels.add_argument("--sheet", action="store_true", help=sheet)
    out = "picture to write (default: none, the names alone are printed)"
    labels.add_argument("--out", type=_file, metavar="PICTURE", help=out)
    seed = "seed of all random numbers (default: 0)"
    labels.add_argument("--seed", type=_in_range("--seed"), default=0, help=seed)


def _again(again):
    drawn = "a PNG that a command wrote into a folder, with --sheet, or alone with --scale"
    again.add_argument("file", type=_file, metavar="FILE", help=drawn)
    out = "picture to write (default: out/again.png)"
    again.add_argument("--out", type=_file, default=Path("out/again.png"), help=out)


def _evaluate(evaluate):
    evaluate.add_argument("model", metavar="MODEL", help=MODEL)
    specs = "what to compare, as ddpm, ddim:50 or dpmpp_2m:10:karras "
    usual = "(default: sixteen, from 5 evaluations to all; three for your own pictures)"
    evaluate.add_argument("--samplers", nargs="+", metavar="SAMPLER", help=specs + usual)
    n = "images for each, at most half the training set (default: 2048; 512 for your own pictures)"
    evaluate.add_argument("--n", type=_in_range("evaluate --n"), help=n)
    _guidance(evaluate)
    given = "of a model of your own pictures: where they are (default: where they were)"
    evaluate.add_argument("--pictures", type=_path, metavar="PATH", help=given)
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of the table")
    _out_and_seed(evaluate, "out/evaluate.png")


def _judge(judge):
    judge.add_argument("dataset", help=f"{SETS}; or your own pictures: {PICTURES}")
    _own_pictures(judge)
    steps = "training steps (default: 2500; 1500 for your own pictures)"
    judge.add_argument("--steps", type=_in_range("--steps"), help=steps)
    where = "`evaluate` looks in data/models, and for your own pictures beside the model"
    _out_and_seed(judge, "out", f"folder for DATASET_judge.npz; {where}")
    force = "replace what is no judge"
    judge.add_argument("--force", action="store_true", help=force)


def _export(export):
    export.add_argument("checkpoint", type=_file, metavar="CKPT", help="a file that `train` wrote")
    export.add_argument("file", type=_file, metavar="FILE", help="file to write")
    force = "replace FILE also where it holds a training"
    export.add_argument("--force", action="store_true", help=force)


def _handout(handout):
    new = "new folder to write; with --gradescope a .zip"
    handout.add_argument("dir", type=_path, metavar="DIR", help=new)
    handout.add_argument("--lessons", metavar="N", help=LESSONS)
    kind = handout.add_mutually_exclusive_group()
    nbgrader = "write the source/ of an nbgrader course instead, with the answers"
    kind.add_argument("--nbgrader", action="store_true", help=nbgrader)
    gradescope = "write the zip with which Gradescope grades instead, with the answers"
    kind.add_argument("--gradescope", action="store_true", help=gradescope)
    github = "add the workflow by which GitHub Classroom grades at each push"
    kind.add_argument("--github", action="store_true", help=github)


def _grade(grade):
    folder = "folder with a notebook, or a folder of them, for each student; see --format"
    grade.add_argument("submissions", type=_path, metavar="SUBMISSIONS", help=folder)
    table = "table to write; what to tell each student goes to a folder beside it "
    usual = "(default: grades.csv)"
    grade.add_argument("--out", type=_file, help=table + usual)
    also = "csv: the table; moodle: a grading worksheet for Moodle beside it; gradescope, github: "
    one = "what these read of one student's work, SUBMISSIONS, in results.json (default: csv)"
    formats = ("csv", "moodle", "gradescope", "github")
    grade.add_argument("--format", choices=formats, default="csv", help=also + one)
    jobs = "students at a time (default: as many as there are processor cores)"
    grade.add_argument("--jobs", type=_in_range("--jobs"), help=jobs)
    resume = "go on after an interruption: who is graded, and has handed in nothing new, stays so"
    grade.add_argument("--resume", action="store_true", help=resume)
    grade.add_argument("--lessons", metavar="N", help=LESSONS)
    seconds = "limit for one exercise (default: 60)"
    grade.add_argument("--seconds", type=_in_range("--seconds"), default=60.0, help=seconds)


def _in_range(option):
    """Make the type of a number's option, for argparse: its name in RANGES -> function of a text"""
    kind, least, most = RANGES[option]
    span = {int: f"a whole number from {least} to", float: f"a number above {least:g} up to"}

    def number(text):
        found = kind(text) if WRITTEN[kind].fullmatch(text) else least - 1
        if not least <= found <= most or (kind is float and found == least):
            takes = f"takes {span[kind]} {most}"
            raise argparse.ArgumentTypeError(f"{takes}, got {reprlib.repr(text)}")
        return found

    return number


class _Seeds(argparse.Action):
    def __call__(self, parser, args, found, option_string=None):
        args.seed = found[0][0]
        alone = len(found) == 1 and found[0][1] is None
        args.picks = None if alone else [(seed, number or 0) for seed, number in found]
        if args.picks and len(set(args.picks)) < len(found):
            raise argparse.ArgumentError(self, "names one picture twice")


def _seed(text):
    seed, _, number = text.partition(":")
    return _in_range("--seed")(seed), _in_range("picture")(number) if ":" in text else None


def _memory(text):
    found = AMOUNT.fullmatch(text)
    number = found[1] if found and WRITTEN[float].fullmatch(found[1]) else "0"
    unit = 1024 if found and found[3] else 1000
    amount = float(number) * unit ** " kmgt".index(found[2].lower() or " ") if found else 0
    if not 1e8 <= amount <= 1e15:
        takes = "takes an amount of memory from 100MB up, as 4GB, 500MB or 2e9"
        raise argparse.ArgumentTypeError(f"{takes}; got {reprlib.repr(text)}")
    return int(amount)


def _path(text):
    if not text or "://" in text or "\0" in text:
        raise argparse.ArgumentTypeError(f"takes the name of a file or folder, got {text!r}")
    return Path(text)


def _file(text):
    if text.endswith(("/", os.sep)):
        raise argparse.ArgumentTypeError(f"takes the name of a file, got the folder {text!r}")
    return _path(text)


def _size(text):
    return _sides(text, "--size", "height x width in pixels, as 16x64")


def _grid(text):
    return _sides(text, "--grid", "width x height of a cell in pixels, as 16x16")


def _sides(text, option, what):
    sides = text.split("x")
    if len(sides) != 2 or not all(WRITTEN[int].fullmatch(side) for side in sides):
        raise argparse.ArgumentTypeError(f"takes {what}, got {reprlib.repr(text)}")
    return tuple(map(_in_range(option), sides))


def main(argv=None):
    """Run the command line. argv: list of strings, None = sys.argv[1:]

    -> exit status: 0, what the command gives; 2 after one line on bad input; 128 + the signal after
    Ctrl-C, SIGTERM, SIGHUP
    """
    interrupt.open_streams()
    together.begin()
    try:
        with interrupt.heard():
            status = _run(argv)
    except KeyboardInterrupt as e:
        status = interrupt.told(e)
    except BrokenPipeError:
        status = interrupt.PIPE_CLOSED
    except Exception as e:
        status = _refused(e)
    return together.end(status or 0)


def _run(argv):
    args, unknown = parser().parse_known_args(argv)
    args.typed = sys.argv[1:] if argv is None else [str(word) for word in argv]
    if unknown:
        door = " ".join(filter(None, ("python -m tinydiff", args.command)))
        what = f"unrecognized arguments: {' '.join(unknown)}"
        raise UsageError(f"{what}; see `{door} --help`")
    together.require_shared(args.command)
    if args.command and (args.main_out, args.main_seed, args.main_force) != (None, None, False):
        how = f"python -m tinydiff {args.command} ... --out ... --seed ..."
        raise UsageError(f"--out, --seed and --force go behind the command: {how}")
    if empty := [name for name, given in vars(args).items() if given == ""]:
        name = {"of": "from"}.get(empty[0], empty[0]).replace("_", "-")
        raise UsageError(f"the text given for {name} is empty; see `--help`")
    paths = [getattr(args, name, None) for name in ("main_out", "out", "file", "dir")]
    with interrupt.watching([path for path in paths if path]):
        choose_kernels(args.kernels)
        module = import_module(f".{COMMANDS[args.command]}", __package__)
        return getattr(module, f"cmd_{args.command or 'digits'}")(args)


def _refused(e):
    """Say in one line what is wrong -> exit status; a defect of our own is raised again."""
    if isinstance(e, ModuleNotFoundError) and e.name and not e.name.startswith("tinydiff"):
        how = "pip install -r requirements.txt"
        package = e.name.split(".")[0]
        e = f"{package} is not installed for this Python, {sys.executable}: {how}"
    elif isinstance(e, MemoryError):
        what = f"not enough memory ({e})" if str(e) else "not enough memory"
        e = f"{what}: take a smaller model, batch or number of images"
    elif isinstance(e, kernels.HostOnly):
        e = f"this does not run on a GPU, leave out --kernels cuda ({e})"
    elif isinstance(e, OSError) and e.errno in UNWRITTEN and e.filename is None:
        e = f"the output could not be written ({e.strerror})"  # of `print`: files have their names
    elif isinstance(e, FileNotFoundError) and not _here():
        e = "the folder in which this runs is gone: change to one that exists"
    elif isinstance(e, OSError) and e.strerror and e.filename:
        e = f"{e.filename} cannot be read or written ({e.strerror})"
    elif isinstance(e, NotImplementedError) and "is an exercise of lesson" in str(e):
        pass  # in a handout
    elif not isinstance(e, UsageError | OSError | FloatingPointError):
        raise e
    together.refuse(e)
    return 2


def _here():
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""
