"""The command line: which commands there are and what each takes; cmd_*.py do the work."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from .. import kernels
from .usage import UsageError, choose_kernels

SAMPLERS = (
    "ddpm",
    "ddim",
    "euler",
    "heun",
    "dpmpp_2m",
)  # these three are those of design/pipeline.py, which loads too much for --help
TIMES = ("even", "quadratic", "snr", "karras")
WAYS = ("source", "inversion", "noise")
RESTORE = {
    "shrink2": 0.02,
    "shrink4": 0.02,
    "grey": 0.02,
    "blur": 0.05,
    "noise": 0.2,
}  # and how noisy such a picture is taken to be
COMMANDS = {  # command -> the file that does it, loaded only then: --help and mistakes are answered at once
    **dict.fromkeys((None, "train", "judge", "export"), "cmd_train"),
    **dict.fromkeys(("sample", "edit", "restyle", "alphabet", "gallery"), "cmd_draw"),
    "evaluate": "cmd_evaluate",
    **dict.fromkeys(("handout", "grade"), "cmd_teach"),
    "doctor": "cmd_doctor",
}
_MODEL = "digits, fashion, portraits, patterns, emoji or typefaces, which come with tinydiff, or a file that `train` wrote"


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message}; see `{self.prog} --help`")


def parser():
    """Describe the command line: () -> argparse.ArgumentParser; a number of the wrong shape is a UsageError, one line"""
    main = _Parser(
        prog="python -m tinydiff",
        description="Diffusion models from scratch. Without a command: train on digits, draw them.",
    )
    main.add_argument(
        "--out",
        type=Path,
        dest="main_out",
        help="folder for pictures and checkpoint (default: out)",
    )
    main.add_argument(
        "--seed",
        type=_at_least(0),
        dest="main_seed",
        help="seed of all random numbers (default: 0)",
    )
    sets = "who computes: reference (NumPy), cpu (Numba), cuda (an NVIDIA GPU) (default: $TINYDIFF_KERNELS, or cpu)"
    main.add_argument("--kernels", choices=["reference", "cpu", "cuda"], help=sets)
    add = main.add_subparsers(dest="command", parser_class=_Parser).add_parser

    train = add("train", help="train a model on a data set")
    train.add_argument(
        "dataset",
        help="digits, fashion, portraits or patterns; emoji, typefaces: a model that redraws, or completes",
    )
    length = train.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=_positive,
        help="train this long, in minutes (default: 10, unless --steps is given)",
    )
    stops = "train this many steps; stopping and resuming on the way changes nothing (default: as many as fit into --minutes)"
    length.add_argument("--steps", type=_at_least(1), help=stops)
    train.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        help="folder for sample sheets and the checkpoint (default: out)",
    )
    train.add_argument(
        "--resume",
        type=Path,
        metavar="CKPT",
        help="go on from this checkpoint; --minutes then counts anew, and the learning rate with it",
    )
    train.add_argument(
        "--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)"
    )
    train.add_argument(
        "--width",
        type=_at_least(8),
        help="channels at full size, divisible by 8 (default: the data set's own)",
    )
    train.add_argument(
        "--depth", type=_at_least(1), help="blocks a level (default: the data set's own)"
    )
    train.add_argument(
        "--batch", type=_at_least(1), help="images a step (default: the data set's own)"
    )
    train.add_argument(
        "--lr", type=_positive, help="highest learning rate (default: the data set's own)"
    )
    train.add_argument(
        "--predict",
        choices=["eps", "v"],
        default="v",
        help="what the network is trained to say (default: v)",
    )
    train.add_argument(
        "--save-every",
        type=_positive,
        default=60.0,
        metavar="SECONDS",
        help="time between checkpoints (default: 60)",
    )

    sample = add("sample", help="draw with a trained model")
    sample.add_argument("model", metavar="MODEL", help=_MODEL)
    wish = (
        "what to draw: 7, or hat=red glasses=none; a label that is not named is left to the model"
    )
    sample.add_argument(
        "--label",
        nargs="+",
        metavar="WISH",
        help=f"{wish} (default: all classes in turn, or nothing said)",
    )
    sample.add_argument(
        "--avoid",
        nargs="+",
        metavar="WISH",
        help="what guidance leads away from (default: nothing said)",
    )
    sample.add_argument(
        "--guidance",
        type=_positive,
        default=1.0,
        metavar="W",
        help="1 draws what is asked for, more exaggerates it, less follows it loosely (default: 1)",
    )
    sample.add_argument("--n", type=_at_least(1), default=64, help="number of images (default: 64)")
    sample.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="ddim",
        help="ddpm visits every step, the others --steps of them (default: ddim)",
    )
    sample.add_argument(
        "--steps", type=_at_least(1), help="steps from noise to image, not for ddpm (default: 50)"
    )
    sample.add_argument(
        "--times",
        choices=TIMES,
        default="even",
        help="how the steps are spread over the noise levels (default: even)",
    )
    sample.add_argument(
        "--tile",
        action="store_true",
        help="draw tiles that repeat without a seam, for a model of textures such as patterns",
    )
    sample.add_argument(
        "--size",
        type=_size,
        metavar="HxW",
        help="height and width, as 16x64: wider than the model's own (default: its own)",
    )
    colours = "draw with these colours only, about: '#1d2b53' '#ff77a8' '#fff1e8' (default: any)"
    sample.add_argument("--palette", nargs="+", metavar="COLOUR", help=colours)
    sample.add_argument(
        "--main-colour",
        metavar="COLOUR",
        help="the mean colour to draw around, as '#3060c0' (default: any)",
    )
    sample.add_argument(
        "--pull",
        type=_positive,
        metavar="X",
        help="how closely colours are kept to (default: 1; 3 is close)",
    )
    sample.add_argument(
        "--out",
        type=Path,
        default=Path("out/sample.png"),
        help="picture to write (default: out/sample.png)",
    )
    sample.add_argument(
        "--gif", action="store_true", help="also write the whole chain, as .gif beside the picture"
    )
    sample.add_argument(
        "--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)"
    )

    edit = add("edit", help="redraw a picture, or a part of it, or change one thing in it")
    edit.add_argument("model", metavar="MODEL", help=_MODEL)
    edit.add_argument(
        "image", metavar="IMAGE", help="a picture, which is fitted to the model's size"
    )
    how = edit.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--mask",
        help="a picture: what is white in it is drawn anew, what is black stays as it is (default: none)",
    )
    restored = (
        "the picture is small, grey, blurred or noisy: draw what it may have been (default: none)"
    )
    how.add_argument("--restore", choices=RESTORE, help=restored)
    how.add_argument(
        "--strength",
        type=_positive,
        help="how much of the picture is drawn anew, above 0 up to 1 (default: none)",
    )
    how.add_argument(
        "--change",
        nargs="+",
        metavar="WISH",
        help="what should be different, as hat=red; the rest stays (default: none)",
    )
    edit.add_argument(
        "--rounds",
        type=_at_least(1),
        help="with --mask: rounds a step, so that the parts agree (default: 5)",
    )
    sigma = "with --restore: standard deviation of the picture's noise, from black to white being 2 (default: 0.02; 0.05 blur, 0.2 noise)"
    edit.add_argument("--sigma", type=_positive, help=sigma)
    shows = f"{wish}; with --change what the picture shows, where it is read wrongly (default: nothing said)"
    edit.add_argument("--label", nargs="+", metavar="WISH", help=shows)
    edit.add_argument(
        "--guidance",
        type=_positive,
        metavar="W",
        help="strength of guidance, 1 = none (default: 1, with --change 2)",
    )
    edit.add_argument(
        "--n", type=_at_least(1), help="number of results (default: 8, with --change 1)"
    )
    edit.add_argument(
        "--steps",
        type=_at_least(1),
        help="steps from noise to image (default: 50, with --change 20)",
    )
    edit.add_argument(
        "--out",
        type=Path,
        default=Path("out/edit.png"),
        help="picture to write (default: out/edit.png)",
    )
    edit.add_argument(
        "--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)"
    )

    restyle = add("restyle", help="draw a picture once more in the style of an emoji set")
    restyle.add_argument(
        "image",
        metavar="IMAGE",
        help="a picture, which is fitted to the model's size; flat drawings on white suit it best",
    )
    restyle.add_argument(
        "--to", required=True, metavar="STYLE", help="line, flat, shaded, noto or twemoji"
    )
    restyle.add_argument(
        "--from",
        dest="of",
        metavar="STYLE",
        help="style of the picture, for --way inversion (default: not said)",
    )
    ways = "source: the model looks at the picture; inversion: find the picture's noise, draw from it; noise: add noise, draw"
    restyle.add_argument("--way", choices=WAYS, default="source", help=f"{ways} (default: source)")
    strong = "of --way inversion or noise: how much is drawn anew, above 0 up to 1 (default: 0.7)"
    restyle.add_argument("--strength", type=_positive, help=strong)
    restyle.add_argument(
        "--model",
        default="emoji",
        help="a file that `train emoji` wrote (default: the one that comes along)",
    )
    guidance = "strength of guidance, 1 = none (default: 1.5; 2 for --way inversion or noise)"
    restyle.add_argument("--guidance", type=_positive, metavar="W", help=guidance)
    restyle.add_argument("--n", type=_at_least(1), default=8, help="number of results (default: 8)")
    restyle.add_argument(
        "--steps", type=_at_least(1), default=50, help="steps from noise to image (default: 50)"
    )
    restyle.add_argument(
        "--out",
        type=Path,
        default=Path("out/restyle.png"),
        help="picture to write (default: out/restyle.png)",
    )
    restyle.add_argument(
        "--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)"
    )

    alphabet = add("alphabet", help="complete an alphabet from a few of its letters")
    given = "A=a.png R=r.png ...: pictures of capitals, each fitted to the model's size; or one of the typefaces, such as lobster"
    alphabet.add_argument("known", nargs="+", metavar="LETTERS", help=given)
    alphabet.add_argument(
        "--letters",
        help="of a typeface: the letters to show (default: those that the model was trained on)",
    )
    alphabet.add_argument(
        "--model",
        default="typefaces",
        help="a file that `train typefaces` wrote (default: the one that comes along)",
    )
    alphabet.add_argument(
        "--guidance",
        type=_positive,
        default=1.0,
        metavar="W",
        help="strength of guidance, 1 = none (default: 1)",
    )
    alphabet.add_argument(
        "--n", type=_at_least(1), default=4, help="number of alphabets (default: 4)"
    )
    alphabet.add_argument(
        "--steps", type=_at_least(1), default=50, help="steps from noise to image (default: 50)"
    )
    alphabet.add_argument(
        "--out",
        type=Path,
        default=Path("out/alphabet.png"),
        help="picture to write (default: out/alphabet.png)",
    )
    alphabet.add_argument(
        "--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)"
    )

    gallery = add("gallery", help="draw one page that shows all of this, in one to two minutes")
    gallery.add_argument(
        "--out",
        type=Path,
        default=Path("out/gallery.png"),
        help="picture to write (default: out/gallery.png)",
    )
    gallery.add_argument(
        "--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)"
    )

    evaluate = add(
        "evaluate", help="judge a trained model: quality, diversity, stability, cost, in one table"
    )
    evaluate.add_argument("model", metavar="MODEL", help=_MODEL)
    specs = "what to compare, as ddpm, ddim:50 or dpmpp_2m:10:karras (default: sixteen, from 5 evaluations to all)"
    evaluate.add_argument("--samplers", nargs="+", metavar="SAMPLER", help=specs)
    evaluate.add_argument(
        "--n",
        type=_at_least(64),
        default=2048,
        help="images for each, at most half the training set (default: 2048)",
    )
    evaluate.add_argument(
        "--guidance",
        type=_positive,
        default=1.0,
        metavar="W",
        help="strength of guidance, 1 = none (default: 1)",
    )
    evaluate.add_argument(
        "--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of the table")
    evaluate.add_argument(
        "--out",
        type=Path,
        default=Path("out/evaluate.png"),
        help="picture to write (default: out/evaluate.png)",
    )

    judge = add("judge", help="train the classifier that judges a data set's images")
    judge.add_argument("dataset", help="digits, fashion, portraits, patterns, emoji or typefaces")
    judge.add_argument(
        "--steps", type=_at_least(1), default=2500, help="training steps (default: 2500)"
    )
    judge.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        help="folder for DATASET_judge.npz; `evaluate` uses that in data/models (default: out)",
    )
    judge.add_argument(
        "--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)"
    )

    export = add(
        "export", help="make a checkpoint small: only what drawing needs, 16 bits a number"
    )
    export.add_argument("checkpoint", type=Path, metavar="CKPT", help="a file that `train` wrote")
    export.add_argument("file", type=Path, metavar="FILE", help="file to write")

    handout = add("handout", help="for instructors: write what students get, without the answers")
    handout.add_argument("dir", type=Path, metavar="DIR", help="new folder to write")
    which = "numbers of lessons, as 1-5 or 1,3,7-9 (default: all)"
    handout.add_argument("--lessons", metavar="N", help=which)
    handout.add_argument(
        "--nbgrader",
        action="store_true",
        help="write the source/ of an nbgrader course instead, with the answers",
    )

    grade = add("grade", help="for instructors: grade a class")
    grade.add_argument(
        "submissions",
        type=Path,
        metavar="SUBMISSIONS",
        help="folder with a notebook, or a folder of them, for each student",
    )
    table = (
        "table to write; what to tell each student goes to a folder beside it (default: grades.csv)"
    )
    grade.add_argument("--out", type=Path, default=Path("grades.csv"), help=table)
    grade.add_argument("--lessons", metavar="N", help=which)
    grade.add_argument(
        "--seconds", type=_positive, default=60.0, help="limit for one exercise (default: 60)"
    )

    add("doctor", help="say what is installed, compile one kernel and time it")
    return main


def _at_least(least):
    def whole_number(text):
        if not text.removeprefix("-").removeprefix("+").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"takes a whole number of at least {least}, got {text!r}"
            )
        return int(text)

    return whole_number


def _size(text):
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"takes height x width in pixels, as 16x64, got {text!r}")
    return int(sides[0]), int(sides[1])


def _positive(text):
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"takes a number above 0, got {text!r}")
    return number


def main(argv=None):
    """Run the command line. argv: list of strings, None = sys.argv[1:] -> exit status 0; 2 after one line on bad input; 130 on Ctrl-C"""
    try:
        args = parser().parse_args(argv)
        if args.command and not (args.main_out is None and args.main_seed is None):
            raise UsageError(
                f"--out and --seed go behind the command: python -m tinydiff {args.command} ... --out ... --seed ..."
            )
        choose_kernels(args.kernels)
        getattr(
            import_module(f".{COMMANDS[args.command]}", __package__),
            f"cmd_{args.command or 'digits'}",
        )(args)
    except KeyboardInterrupt:
        return 130
    except MemoryError as e:
        print(
            f"tinydiff: not enough memory ({e}): take a smaller --width, --batch or --n",
            file=sys.stderr,
        )
        return 2
    except kernels.HostOnly as e:
        print(
            f"tinydiff: this does not run on a graphics card, leave out --kernels cuda ({e})",
            file=sys.stderr,
        )
        return 2
    except (UsageError, OSError, FloatingPointError) as e:
        print(f"tinydiff: {e}", file=sys.stderr)
        return 2
    return 0
