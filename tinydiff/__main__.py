"""The command line: `python -m tinydiff` trains on digits and draws; each command does one thing."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

SAMPLERS = ("ddpm", "ddim", "euler", "heun", "dpmpp_2m")  # these three are those of draw.py, which loads too much for --help
TIMES = ("even", "quadratic", "snr", "karras")
WAYS = ("source", "inversion", "noise")
RESTORE = {"shrink2": 0.02, "shrink4": 0.02, "grey": 0.02, "blur": 0.05, "noise": 0.2}  # and how noisy such a picture is taken to be
_MODEL = "digits, fashion, portraits, patterns, emoji or typefaces, which come with tinydiff, or a file that `train` wrote"


class Bad(Exception):
    """What the user gave cannot be used; the message is the one line that they see."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Bad(f"{message}; see `{self.prog} --help`")


def parser():
    """Describe the command line: () -> argparse.ArgumentParser; a number of the wrong shape is a Bad, one line"""
    main = _Parser(prog="python -m tinydiff", description="Diffusion models from scratch. Without a command: train on digits, draw them.")
    main.add_argument("--out", type=Path, default=Path("out"), help="folder for pictures and checkpoint (default: out)")
    main.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)")
    commands = main.add_subparsers(dest="command", parser_class=_Parser)

    train = commands.add_parser("train", help="train a model on a data set")
    train.add_argument("dataset", help="digits, fashion, portraits or patterns; emoji, typefaces: a model that redraws, or completes")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=_positive, help="train this long, in minutes (default: 10, unless --steps is given)")
    stops = "train this many steps; stopping and resuming on the way changes nothing (default: as many as fit into --minutes)"
    length.add_argument("--steps", type=_at_least(1), help=stops)
    train.add_argument("--out", type=Path, default=Path("out"), help="folder for sample sheets and the checkpoint (default: out)")
    train.add_argument(
        "--resume", type=Path, metavar="CKPT", help="go on from this checkpoint; --minutes then counts anew, and the learning rate with it"
    )
    train.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)")
    train.add_argument("--width", type=_at_least(8), help="channels at full size, divisible by 8 (default: the data set's own)")
    train.add_argument("--depth", type=_at_least(1), help="blocks a level (default: the data set's own)")
    train.add_argument("--batch", type=_at_least(1), help="images a step (default: the data set's own)")
    train.add_argument("--lr", type=_positive, help="highest learning rate (default: the data set's own)")
    train.add_argument("--predict", choices=["eps", "v"], default="v", help="what the network is trained to say (default: v)")
    train.add_argument("--save-every", type=_positive, default=60.0, metavar="SECONDS", help="time between checkpoints (default: 60)")

    sample = commands.add_parser("sample", help="draw with a trained model")
    sample.add_argument("model", metavar="MODEL", help=_MODEL)
    wish = "what to draw: 7, or hat=red glasses=none; a label that is not named is left to the model"
    sample.add_argument("--label", nargs="+", metavar="WISH", help=f"{wish} (default: all classes in turn, or nothing said)")
    sample.add_argument("--avoid", nargs="+", metavar="WISH", help="what guidance leads away from (default: nothing said)")
    sample.add_argument(
        "--guidance",
        type=_positive,
        default=1.0,
        metavar="W",
        help="1 draws what is asked for, more exaggerates it, less follows it loosely (default: 1)",
    )
    sample.add_argument("--n", type=_at_least(1), default=64, help="number of images (default: 64)")
    sample.add_argument(
        "--sampler", choices=SAMPLERS, default="ddim", help="ddpm visits every step, the others --steps of them (default: ddim)"
    )
    sample.add_argument("--steps", type=_at_least(1), help="steps from noise to image, not for ddpm (default: 50)")
    sample.add_argument("--times", choices=TIMES, default="even", help="how the steps are spread over the noise levels (default: even)")
    sample.add_argument(
        "--tile", action="store_true", help="draw tiles that repeat without a seam, for a model of textures such as patterns"
    )
    sample.add_argument(
        "--size", type=_size, metavar="HxW", help="height and width, as 16x64: wider than the model's own (default: its own)"
    )
    colours = "draw with these colours only, about: '#1d2b53' '#ff77a8' '#fff1e8' (default: any)"
    sample.add_argument("--palette", nargs="+", metavar="COLOUR", help=colours)
    sample.add_argument("--main-colour", metavar="COLOUR", help="the mean colour to draw around, as '#3060c0' (default: any)")
    sample.add_argument("--pull", type=_positive, metavar="X", help="how closely colours are kept to (default: 1; 3 is close)")
    sample.add_argument("--out", type=Path, default=Path("out/sample.png"), help="picture to write (default: out/sample.png)")
    sample.add_argument("--gif", action="store_true", help="also write the whole chain, as .gif beside the picture")
    sample.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)")

    edit = commands.add_parser("edit", help="redraw a picture, or a part of it, or change one thing in it")
    edit.add_argument("model", metavar="MODEL", help=_MODEL)
    edit.add_argument("image", metavar="IMAGE", help="a picture, which is fitted to the model's size")
    how = edit.add_mutually_exclusive_group(required=True)
    how.add_argument("--mask", help="a picture: what is white in it is drawn anew, what is black stays as it is (default: none)")
    restored = "the picture is small, grey, blurred or noisy: draw what it may have been (default: none)"
    how.add_argument("--restore", choices=RESTORE, help=restored)
    how.add_argument("--strength", type=_positive, help="how much of the picture is drawn anew, above 0 up to 1 (default: none)")
    how.add_argument("--change", nargs="+", metavar="WISH", help="what should be different, as hat=red; the rest stays (default: none)")
    edit.add_argument("--rounds", type=_at_least(1), default=5, help="with --mask: rounds a step, so that the parts agree (default: 5)")
    sigma = "with --restore: standard deviation of the picture's noise, from black to white being 2 (default: 0.02; 0.05 blur, 0.2 noise)"
    edit.add_argument("--sigma", type=_positive, help=sigma)
    shows = f"{wish}; with --change what the picture shows, where it is read wrongly (default: nothing said)"
    edit.add_argument("--label", nargs="+", metavar="WISH", help=shows)
    edit.add_argument("--guidance", type=_positive, metavar="W", help="strength of guidance, 1 = none (default: 1, with --change 2)")
    edit.add_argument("--n", type=_at_least(1), help="number of results (default: 8, with --change 1)")
    edit.add_argument("--steps", type=_at_least(1), default=50, help="steps from noise to image (default: 50)")
    edit.add_argument("--out", type=Path, default=Path("out/edit.png"), help="picture to write (default: out/edit.png)")
    edit.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)")

    restyle = commands.add_parser("restyle", help="draw a picture once more in the style of an emoji set")
    restyle.add_argument(
        "image", metavar="IMAGE", help="a picture, which is fitted to the model's size; flat drawings on white suit it best"
    )
    restyle.add_argument("--to", required=True, metavar="STYLE", help="line, flat, shaded, noto or twemoji")
    restyle.add_argument("--from", dest="of", metavar="STYLE", help="style of the picture, for --way inversion (default: not said)")
    ways = "source: the model looks at the picture; inversion: find the picture's noise, draw from it; noise: add noise, draw"
    restyle.add_argument("--way", choices=WAYS, default="source", help=f"{ways} (default: source)")
    restyle.add_argument("--strength", type=_positive, help="of --way noise: how much is drawn anew, above 0 up to 1 (default: 0.6)")
    restyle.add_argument("--model", default="emoji", help="a file that `train emoji` wrote (default: the one that comes along)")
    restyle.add_argument("--guidance", type=_positive, default=1.0, metavar="W", help="strength of guidance, 1 = none (default: 1)")
    restyle.add_argument("--n", type=_at_least(1), default=8, help="number of results (default: 8)")
    restyle.add_argument("--steps", type=_at_least(1), default=50, help="steps from noise to image (default: 50)")
    restyle.add_argument("--out", type=Path, default=Path("out/restyle.png"), help="picture to write (default: out/restyle.png)")
    restyle.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)")

    alphabet = commands.add_parser("alphabet", help="complete an alphabet from a few of its letters")
    given = "A=a.png R=r.png ...: pictures of capitals, each fitted to the model's size; or one of the typefaces, such as lobster"
    alphabet.add_argument("known", nargs="+", metavar="LETTERS", help=given)
    alphabet.add_argument("--letters", help="of a typeface: the letters to show (default: those that the model was trained on)")
    alphabet.add_argument("--model", default="typefaces", help="a file that `train typefaces` wrote (default: the one that comes along)")
    alphabet.add_argument("--guidance", type=_positive, default=1.0, metavar="W", help="strength of guidance, 1 = none (default: 1)")
    alphabet.add_argument("--n", type=_at_least(1), default=4, help="number of alphabets (default: 4)")
    alphabet.add_argument("--steps", type=_at_least(1), default=50, help="steps from noise to image (default: 50)")
    alphabet.add_argument("--out", type=Path, default=Path("out/alphabet.png"), help="picture to write (default: out/alphabet.png)")
    alphabet.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)")

    evaluate = commands.add_parser("evaluate", help="judge a trained model: quality, diversity, stability, cost, in one table")
    evaluate.add_argument("model", metavar="MODEL", help=_MODEL)
    specs = "what to compare, as ddpm, ddim:50 or dpmpp_2m:10:karras (default: sixteen, from 5 evaluations to all)"
    evaluate.add_argument("--samplers", nargs="+", metavar="SAMPLER", help=specs)
    evaluate.add_argument("--n", type=_at_least(64), default=2048, help="images for each, at most half the training set (default: 2048)")
    evaluate.add_argument("--guidance", type=_positive, default=1.0, metavar="W", help="strength of guidance, 1 = none (default: 1)")
    evaluate.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of the table")
    evaluate.add_argument("--out", type=Path, default=Path("out/evaluate.png"), help="picture to write (default: out/evaluate.png)")

    judge = commands.add_parser("judge", help="train the classifier that judges a data set's images")
    judge.add_argument("dataset", help="digits, fashion, portraits, patterns, emoji or typefaces")
    judge.add_argument("--steps", type=_at_least(1), default=2500, help="training steps (default: 2500)")
    judge.add_argument(
        "--out", type=Path, default=Path("out"), help="folder for DATASET_judge.npz; `evaluate` uses that in data/models (default: out)"
    )
    judge.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)")

    export = commands.add_parser("export", help="make a checkpoint small: only what drawing needs, 16 bits a number")
    export.add_argument("checkpoint", type=Path, metavar="CKPT", help="a file that `train` wrote")
    export.add_argument("file", type=Path, metavar="FILE", help="file to write")

    commands.add_parser("doctor", help="say what is installed, compile one kernel and time it")
    return main


def _at_least(least):
    def whole_number(text):
        if not text.removeprefix("-").removeprefix("+").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"takes a whole number of at least {least}, got {text!r}")
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


def _require_writable(folder):
    """Say before the work starts that a folder cannot take its results: makes it, and a file in it that vanishes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as e:
        raise Bad(f"--out {folder} cannot be written to ({e.strerror}): give a folder that can") from None


def digits(out, seed):
    """Do the main job: train on digits from zero, draw them, judge them. out: folder; seed: int -> None; writes out/ in 2 minutes"""
    import numpy as np

    from . import checkpoint, classifier, data, plot
    from .draw import draw
    from .learn import describe, learn

    _require_writable(out)
    dataset = data.load("digits")
    about = describe(dataset, seed)
    run, s = checkpoint.build(about, seed)
    path = out / "digits.npz"
    losses = learn(run, s, dataset, about, path, steps=1200, seconds=75.0)
    model, rng = checkpoint.averaged(run), np.random.default_rng(seed + 1)

    labels = np.repeat(np.arange(10), 64)[:, None]
    chain = draw(model, s, about, labels, rng)
    rows = np.concatenate([np.arange(8) + 64 * k for k in range(10)])  # the first eight of each class
    names = dataset.labels["digit"]
    print(plot.save_figure(plot.labelled(chain[-1][rows], 8, names, scale=6), out / "samples.png"), "10 classes, 8 samples each", sep=": ")
    print(plot.save_gif(plot.frames([x[rows] for x in chain], 8), out / "chain.gif"), "noise becoming digits", sep=": ")
    print(
        plot.save_figure(triptych(model, s, about, dataset, rng), out / "triptych.png"), "held-out digits, noised and recovered", sep=": "
    )
    print(plot.save_figure(plot.losses(losses), out / "loss.png"), f"{len(losses)} training steps", sep=": ")
    print(path, "the checkpoint; try: python -m tinydiff sample " + str(path), sep=": ")

    judge, its = checkpoint.judge("digits")
    (agree,) = classifier.accuracy(judge, chain[-1], labels)
    print(f"quality: {agree:.1%} of {len(labels)} generated digits are read as the label asked for", end=" ")
    print(f"(classifier: {its['held_out']['digit']:.1%} right on held-out digits)")


def triptych(model, s, about, dataset, rng):
    """Draw original, noised and recovered images at three noise levels, one held-out image a class -> matplotlib Figure

    Recovered: DDIM (eta = 0) from x_t down to x_0, told the right label. dataset.test: (N, H, W, C)
    """
    import numpy as np

    from . import diffusion, plot, sample
    from .train import denoiser

    first = [int(np.flatnonzero(dataset.test_labels[:, 0] == k)[0]) for k in range(dataset.classes[0])]
    x0, labels = dataset.test[first], dataset.test_labels[first]
    eps_model = denoiser(model, s, labels, about["train"]["predict"])
    rows, names = [], []
    for share in (0.3, 0.5, 0.7):
        t = round(share * s.T)
        x_t = diffusion.q_sample(s, x0, t, rng.standard_normal(x0.shape, dtype=np.float32))
        *_, back = sample.ddim(eps_model, s, x0.shape, rng, times=list(range(t, -1, -1)), x_T=x_t, clip=1.0)
        rows += [x0, x_t, back]
        names += ["original", f"noised to t = {t} of {s.T}", "recovered"]
    return plot.labelled(np.concatenate(rows), len(first), names, scale=6)


def _require_file(path):
    """Say before the work starts that a picture cannot be written to where it is wanted."""
    if path.is_dir():
        raise Bad(f"--out {path} could not be written (Is a directory): give a file name")
    _require_writable(path.parent)


def _dataset(name, styles=False):
    from . import data

    known = {**data.FILES, **data.STYLES} if styles else data.FILES
    if name not in known:
        raise Bad(f"no data set {name!r}; there are: {', '.join(known)}")
    return data.load_styles(name) if name in data.STYLES else data.load(name)


def cmd_train(args):
    """Run `train`: args from the parser -> None; writes DATASET.npz and sample sheets of 64 images into args.out"""
    import numpy as np

    from . import checkpoint, data, plot, style
    from .draw import draw
    from .learn import describe, learn

    dataset = _dataset(args.dataset, styles=True)
    _require_writable(args.out)
    if args.resume:
        settled = [f"--{name}" for name in ("width", "depth", "batch", "lr") if getattr(args, name)]
        if settled:
            raise Bad(f"{', '.join(settled)} cannot change on the way: --resume takes them from the checkpoint")
        run, s, about = checkpoint.load(args.resume)
        if about.get("dataset") != dataset.name:
            raise Bad(f"{args.resume} was trained on {about.get('dataset')}, not on {dataset.name}: name the same data set")
    else:
        about = describe(dataset, args.seed, args.width, args.depth, args.batch, args.lr, args.predict)
        try:
            run, s = checkpoint.build(about, args.seed)
        except ValueError as e:
            raise Bad(str(e)) from None
    path = args.out / f"{dataset.name}.npz"
    if dataset.name in data.STYLES:
        source, _, labels = (x[:: len(x) // 64][:64] for x in style.examples(dataset))
    else:
        source, in_turn = None, np.arange(64)[:, None] * dataset.classes[0] // 64
        labels = in_turn if len(dataset.classes) == 1 else dataset.test_labels[:64]

    def sheets(run):
        kept = run.theta.copy()
        chain = draw(checkpoint.averaged(run), s, about, labels, np.random.default_rng(0), steps=25, source=source)
        run.theta[:] = kept
        plot.save_png(plot.sheet(chain[-1], 16, scale=4), args.out / f"{dataset.name}_{run.step:06d}.png")

    minutes = args.minutes or (None if args.steps else 10.0)
    losses = learn(run, s, dataset, about, path, args.steps, minutes and 60 * minutes, args.save_every, sheets)
    if not losses:
        print(f"nothing to do: {args.resume} is at step {run.step} already", file=sys.stderr)
    sheets(run)
    print(f"{path}: the checkpoint, {run.step} steps; samples in {args.out}/{dataset.name}_{run.step:06d}.png")


def _steps_and_size(args, model, s, about):
    """Say what of `sample`'s arguments doesn't go together, or with the model: -> steps, (H, W)"""
    if args.steps and args.sampler == "ddpm":
        raise Bad("--steps is for the other samplers; ddpm visits every step")
    steps = args.steps or min(50, s.T)
    if steps > s.T:
        raise Bad(f"--steps takes at most {s.T}, the steps that this model was trained with; got {steps}")
    if args.avoid and args.guidance <= 1:
        raise Bad("--avoid needs --guidance above 1: without it nothing leads away from anything")
    if args.sampler == "ddpm" and args.times != "even":
        raise Bad("--times is for the other samplers; ddpm visits every step")
    if args.tile and args.sampler != "ddim":
        raise Bad(f"--tile draws with ddim, not with {args.sampler}: leave out --sampler")
    size, unit = args.size or (model.size, model.size), 2 ** (len(about["model"]["multipliers"]) - 1)
    if min(size) < model.size or any(side % unit for side in size):
        raise Bad(
            f"--size takes sides of at least {model.size}, as the model was trained with, divisible by {unit}; got {size[0]}x{size[1]}"
        )
    if args.gif and args.out.suffix == ".gif":
        raise Bad(f"--gif writes the chain beside the picture: give --out {args.out.with_suffix('.png')}")
    return steps, size


def cmd_sample(args):
    """Run `sample`: args from the parser -> None; writes a picture of args.n images, and a GIF of how they came about"""
    import numpy as np

    from . import checkpoint, plot
    from .draw import draw, tiles, wishes

    model, s, about = checkpoint.ready(args.model)
    steps, size = _steps_and_size(args, model, s, about)
    try:
        labels, avoid = (np.tile(wishes(about["labels"], words or []), (args.n, 1)) for words in (args.label, args.avoid))
    except ValueError as e:
        raise Bad(str(e)) from None
    colours = _colours(args, model, s, about)
    _require_file(args.out)
    if not args.label and len(model.classes) == 1:
        labels = np.arange(args.n)[:, None] * model.classes[0] // args.n
    rng = np.random.default_rng(args.seed)
    if args.tile:
        chain = tiles(model, s, about, labels, rng, steps, args.times, args.guidance, avoid, size=size)
    else:
        chain = draw(model, s, about, labels, rng, args.sampler, steps, args.times, args.guidance, avoid, size=size, **colours)
    columns = min(args.n, max(1, 16 * model.size // size[1]))
    print(plot.save_png(plot.sheet(chain[-1], columns, scale=4), args.out), f"{args.n} images", sep=": ")
    if args.tile:
        again = np.tile(chain[-1][:4], (1, 3, 3, 1))
        repeated = plot.save_png(plot.sheet(again, len(again), gap=4, scale=4), args.out.with_stem(f"{args.out.stem}_3x3"))
        print(repeated, f"the first {len(again)}, each repeated 3 x 3", sep=": ")
    if args.gif:
        print(plot.save_gif(plot.frames(chain, columns), args.out.with_suffix(".gif")), f"the chain, {len(chain) - 1} steps", sep=": ")


def _colours(args, model, s, about):
    """Read --palette, --main-colour and --pull: what `draw` is to be told on top, nothing where no colour is asked for -> dict"""
    from . import colour, restore

    if not (args.palette or args.main_colour):
        if args.pull:
            raise Bad("--pull is for --palette or --main-colour: name a colour")
        return {}
    try:
        palette = [colour.parse(text) for text in args.palette or []] or None
        main = colour.parse(args.main_colour) if args.main_colour else None
    except ValueError as e:
        raise Bad(str(e)) from None
    if args.tile or args.size:
        raise Bad("--palette and --main-colour draw single pictures of the model's own size: leave out --tile and --size")
    if model.out != 3:
        raise Bad(f"{args.model} draws in grey: --palette and --main-colour are for models of colour pictures")
    cov = restore.covariance(_dataset(about.get("dataset")).train)
    return {"also": lambda eps_model: colour.coloured(eps_model, s, cov, model.size, palette, main, args.pull or 1.0)}


def cmd_edit(args):
    """Run `edit`: args from the parser -> None; writes the picture as the model sees it, and args.n times drawn anew, side by side"""
    import numpy as np
    from PIL import Image

    from . import checkpoint, data, edit, plot, sample
    from .draw import change, guided, wishes

    model, s, about = checkpoint.ready(args.model)
    if args.steps > s.T:
        raise Bad(f"--steps takes at most {s.T}, the steps that this model was trained with; got {args.steps}")
    if args.strength and args.strength > 1:
        raise Bad(f"--strength takes at most 1, which draws all anew; got {args.strength:g}")
    if args.sigma and not args.restore:
        raise Bad("--sigma is for --restore: it says how noisy the picture is")
    A, cov = _degradation(args, model, about) if args.restore else (None, None)
    x, said = data.open_image(args.image, *((len(A[0]), len(A[2])) if A else (model.size, model.out)))
    if args.mask:
        mask, _ = data.open_image(args.mask, model.size, 1)
        sizes = ["{} x {}".format(*Image.open(path).size) for path in (args.image, args.mask)]
        if sizes[0] != sizes[1]:
            raise Bad(f"--mask is {sizes[1]}, the picture {sizes[0]}: give a mask of the picture's size")
    n, w = args.n or (1 if args.change else 8), args.guidance or (2.0 if args.change else 1.0)
    try:
        labels, wanted = (wishes(about["labels"], words or []) for words in (args.label, args.change))
    except ValueError as e:
        raise Bad(str(e)) from None
    if args.change:
        labels, wanted, shows = _before_after(about, x, labels, wanted)
        said += f"\n{shows}"
    _require_file(args.out)
    print(said)
    if args.restore:
        return _restored(args, model, s, about, np.tile(labels, (n, 1)), w, A, cov, x)
    x0, rng, times = np.repeat(x, n, axis=0), np.random.default_rng(args.seed), sample.even_times(s, args.steps)
    eps_model = guided(model, s, about, np.tile(labels, (n, 1)), w)
    if args.change:
        drawn = change(model, s, about, x0, np.tile(labels, (n, 1)), np.tile(wanted, (n, 1)), rng, w, args.steps)
    elif args.mask:
        keep = np.repeat(mask < 0, n, axis=0)
        *_, drawn = edit.inpaint(eps_model, s, x0, keep, rng, times, args.rounds, wide=True, clip=1.0)
    else:
        *_, drawn = edit.image_to_image(eps_model, s, x0, args.strength, rng, times, clip=1.0)
    picture = plot.save_png(plot.sheet(np.concatenate([x, drawn]), min(n + 1, 9), scale=6), args.out)
    print(f"{picture}: the picture, then {n} times {'changed' if args.change else 'drawn anew'}")


def _before_after(about, x, labels, wanted):
    """Tell what a picture x (1, H, W, C) shows, read by the judge where labels don't say it, and what it should -> two rows, a text."""
    import numpy as np

    from . import checkpoint

    values, note = list(about["labels"].values()), ""
    unsaid = np.array([len(v) for v in values])
    try:
        judge, _ = checkpoint.judge(about["dataset"])
        labels = np.where(labels == unsaid, [scores[0].argmax() for scores in judge(x)], labels)
    except checkpoint.CheckpointError:
        note = "no judge comes along for these pictures: what --label does not say of this one is left open\n"
    after = np.where(wanted == unsaid, labels, wanted)
    show = lambda row: " ".join(f"{k}={[*v, '?'][i]}" for k, v, i in zip(about["labels"], values, row, strict=True))
    if np.array_equal(after, labels):
        raise Bad(f"--change asks for nothing new: the picture shows {show(labels)}")
    return labels, after, f"{note}before: {show(labels)}\nafter:  {show(after)}"


def _model_with(path, label, steps):
    """Load the model of `restyle` or `alphabet`, and refuse one that was trained for something else."""
    from . import checkpoint

    model, s, about = checkpoint.ready(path)
    if model.out == model.channels or list(about["labels"]) != [label]:
        raise Bad(f"--model {path} was trained on {about['dataset']}: give one of `train {'emoji' if label == 'style' else 'typefaces'}`")
    if steps > s.T:
        raise Bad(f"--steps takes at most {s.T}, the steps that this model was trained with; got {steps}")
    return model, s, about


def cmd_restyle(args):
    """Run `restyle`: args from the parser -> None; writes the picture as the model sees it, and args.n times in the other style"""
    import numpy as np

    from . import data, plot
    from .draw import restyle

    model, s, about = _model_with(args.model, "style", args.steps)
    styles = about["labels"]["style"]
    for option, name in (("--to", args.to), ("--from", args.of)):
        if name and name not in styles:
            raise Bad(f"{option}: no style {name!r}; there are: {', '.join(styles)}")
    if args.way == "inversion" and not args.of:
        raise Bad(f"--way inversion needs --from, the style of the picture: {', '.join(styles)}")
    if args.strength and (args.way != "noise" or args.strength > 1):
        raise Bad("--strength is for --way noise, above 0 up to 1")
    x, said = data.open_image(args.image, model.size, model.out)
    _require_file(args.out)
    print(said)
    images, rng = np.repeat(x, args.n, axis=0), np.random.default_rng(args.seed)
    drawn = restyle(model, s, about, images, args.to, rng, args.way, args.of, args.steps, args.guidance, args.strength or 0.6)
    picture = plot.save_png(plot.sheet(np.concatenate([x, drawn]), min(args.n + 1, 9), scale=6), args.out)
    print(f"{picture}: the picture, then {args.n} times in the style {args.to}")


def cmd_alphabet(args):
    """Run `alphabet`: args from the parser -> None; writes the known letters, and args.n whole alphabets, a row each"""
    import numpy as np

    from . import plot
    from .draw import alphabet

    model, s, about = _model_with(args.model, "letter", args.steps)
    known = _known_letters(args, about["labels"]["letter"], model.size)
    _require_file(args.out)
    given = np.zeros((len(about["labels"]["letter"]), model.size, model.size, 1), np.float32)
    for i, letter in enumerate(about["labels"]["letter"]):
        given[i] = known.get(letter, 0)
    rng = np.random.default_rng(args.seed)
    rows = [given, *(alphabet(model, s, about, known, rng, args.steps, args.guidance) for _ in range(args.n))]
    picture = plot.save_png(plot.sheet(np.concatenate(rows), len(given), scale=3), args.out)
    print(f"{picture}: what was given ({''.join(sorted(known))}), then {args.n} alphabets, in which these letters stay as they are")


def _known_letters(args, letters, size):
    """Read the letters to start from: pictures, as A=a.png, or those of a typeface -> {letter: (H, W, 1)}, white on black."""
    from . import data

    if args.letters and (wrong := [c for c in args.letters if c not in letters]):
        raise Bad(f"--letters takes capitals from {letters[0]} to {letters[-1]}; got {wrong[0]!r}")
    if len(args.known) == 1 and "=" not in args.known[0]:
        faces = data.load_styles("typefaces")
        if args.known[0] not in faces.styles:
            raise Bad(f"no typeface {args.known[0]!r}; give pictures, as A=a.png, or one of: {', '.join(faces.styles)}")
        f = faces.styles.index(args.known[0])
        shown = args.letters or [c for c, hidden in zip(letters, faces.test[:, f], strict=True) if not hidden]
        return {c: faces.images[letters.index(c), f] for c in shown}
    if args.letters:
        raise Bad("--letters chooses among the letters of a typeface; pictures are named one by one, as A=a.png")
    known = {}
    for word in args.known:
        letter, _, path = word.partition("=")
        if letter not in letters or not path:
            raise Bad(f"{word!r} is not LETTER=PICTURE with a capital from {letters[0]} to {letters[-1]}, as A=a.png")
        if letter in known:
            raise Bad(f"{letter} is given twice: one picture a letter")
        x, said = data.open_image(path, size, 1)
        dark_on_light = x.mean() > 0
        print(said + (", dark on light turned to light on dark" if dark_on_light else ""))
        known[letter] = -x[0] if dark_on_light else x[0]
    return known


def _degradation(args, model, about):
    """Find what --restore names -> rows (h, H), columns (w, W), channels (c, C), see restore.degrade; the data's covariance (D, D)"""
    from . import restore

    shape, k = (model.size, model.out), {"shrink2": 2, "shrink4": 4}.get(args.restore, 1)
    if args.restore == "grey" and model.out == 1:
        raise Bad(f"{args.model} draws in grey: --restore grey is for models of colour pictures")
    if model.size % k:
        raise Bad(f"{args.model} draws {model.size} pixels a side, which --restore {args.restore} cannot divide by {k}")
    A = {"grey": restore.grey(*shape), "blur": restore.blur(*shape, 1.0)}.get(args.restore) or restore.shrink(*shape, k)
    return A, restore.covariance(_dataset(about.get("dataset")).train)


def _restored(args, model, s, about, labels, w, A, cov, y):
    """Run `edit --restore`: y (1, h, w, c) is the degraded picture -> None; writes it, args.n restorations and their mean"""
    import numpy as np

    from . import guide, plot, restore, sample
    from .draw import guided

    sigma_y = args.sigma or RESTORE[args.restore]
    believed = guide.assume_gaussian(guided(model, s, about, labels, w), s, cov)
    eps_model = guide.by_x0_hat(believed, s, restore.log_p_gradient(s, y, A, sigma_y, cov))
    shape, times = (len(labels), model.size, model.size, model.out), sample.even_times(s, args.steps)
    *_, drawn = sample.ddim(eps_model, s, shape, np.random.default_rng(args.seed), times, eta=1.0, clip=1.0)
    wide = y.repeat(model.size // y.shape[1], 1).repeat(model.size // y.shape[2], 2).repeat(model.out // y.shape[3], 3)
    picture = np.concatenate([wide, drawn, drawn.mean(0, keepdims=True)])
    saved = plot.save_png(plot.sheet(picture, min(len(picture), 10), scale=6), args.out)
    print(f"{saved}: the picture, {len(drawn)} times what it may have been, and their mean, which has the least error")


def cmd_evaluate(args):
    """Run `evaluate`: args from the parser -> None; prints a table, or JSON, and writes the picture of quality against cost"""
    import json

    import numpy as np
    from tqdm import tqdm

    from . import checkpoint, evaluate, plot
    from .draw import evaluations

    model, s, about = checkpoint.ready(args.model)
    try:
        ways = [evaluate.parse(spec, s) for spec in args.samplers or evaluate.SAMPLERS]
    except ValueError as e:
        raise Bad(str(e)) from None
    dataset, (judge, its) = _dataset(about.get("dataset")), checkpoint.judge(about["dataset"])
    _require_file(args.out)
    n = min(args.n, len(dataset.train) // 2)
    yardstick = evaluate.Yardstick(judge, dataset, n, np.random.default_rng(args.seed))
    main = next((way for way in ways if way[:2] == ("ddim", 50)), ways[-1])
    seeds = [args.seed + i for i in (1, 2, 3)]
    work = n * sum(evaluations(s, *way[:2], args.guidance) for way in ways)
    work += min(n, evaluate.STABLE) * len(seeds) * evaluations(s, *main[:2], args.guidance)
    with tqdm(total=work, unit="evaluations", unit_scale=True, desc=f"evaluating on {dataset.name}") as bar:
        rows = list(evaluate.rows(model, s, about, yardstick, ways, args.guidance, args.seed, bar.update))
        stable = evaluate.stability(model, s, about, yardstick, main, args.guidance, seeds, bar.update)
    cost = {"multiply_adds": evaluate.multiply_adds(model, yardstick.labels[:1]), "peak_memory": evaluate.peak_memory()}
    found = {"model": args.model, "n": n, "guidance": args.guidance, "seed": args.seed, "judge": its["held_out"]}
    found |= {"real": yardstick.floor, "samplers": rows, "cost": cost}
    found |= {"stability": dict(zip(("sampler", "steps", "times"), main, strict=True)) | stable}
    print(json.dumps(found, indent=2) if args.json else evaluate.report(found))
    picture = plot.save_figure(plot.quality(rows, yardstick.floor["frechet"]), args.out)
    print(f"{picture}: quality against network evaluations", file=sys.stderr if args.json else sys.stdout)


def cmd_judge(args):
    """Run `judge`: args from the parser -> None; writes DATASET_judge.npz into args.out and says how often it is right"""
    from . import checkpoint, data
    from .learn import learn_judge

    dataset = _dataset(args.dataset, styles=True)
    if dataset.name in data.STYLES:
        dataset = dataset.dataset()
    _require_writable(args.out)
    weights, about = learn_judge(dataset, args.steps, args.seed)
    path, held_out = args.out / f"{dataset.name}_judge.npz", about["held_out"]
    checkpoint.export(path, weights, about)
    print(f"{path}: right on held-out images: {', '.join(f'{label} {share:.1%}' for label, share in held_out.items())}")


def cmd_export(args):
    """Run `export`: args from the parser -> None; writes the running average of a checkpoint's weights, as float16"""
    from . import checkpoint

    run, _, about = checkpoint.load(args.checkpoint)
    checkpoint.export(args.file, run.ema, about | {"steps": run.step})
    print(f"{args.file}: {args.file.stat().st_size / 1e6:.1f} MB, {run.step} steps")


def doctor():
    """Say what is installed and what runs: () -> None; prints versions, threads, BLAS, CUDA, and times a convolution"""
    import platform

    import numba
    import numpy as np

    from . import __version__, kernels

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    print(f"tinydiff   {__version__}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    print(f"numpy      {np.__version__}, BLAS {blas['name']} {blas['version']}")
    print(f"numba      {numba.__version__}, {numba.config.NUMBA_NUM_THREADS} threads (set NUMBA_NUM_THREADS to change)")
    print(f"cuda       {_cuda()}")
    rng, times = np.random.default_rng(0), []
    x, w = rng.standard_normal((64, 16, 16, 32), dtype=np.float32), rng.standard_normal((3, 3, 32, 32), dtype=np.float32)
    for _ in range(6):
        began = time.perf_counter()
        kernels.conv2d(x, w, "zeros")
        times.append(time.perf_counter() - began)
    work = 2 * 64 * 16 * 16 * 9 * 32 * 32
    print(f"threading  {numba.threading_layer()}")
    speed = f"{1000 * min(times):.2f} ms: {work / min(times) / 1e9:.0f} GF/s"
    print(f"conv2d     first call {times[0]:.2f} s (compiled, or read from the cache), then {speed}")
    print("all is well")


def _cuda():
    import ctypes.util

    found = ctypes.util.find_library("nvcuda" if sys.platform == "win32" else "cuda")
    return f"{'an' if found else 'no'} NVIDIA driver found; this version of tinydiff runs on the CPU only, nothing to install"


def _require_kernels():
    """Say at the door, not in the middle of the work, that $TINYDIFF_KERNELS names no kernel set."""
    from . import kernels

    if os.environ.get("TINYDIFF_KERNELS", "cpu") not in kernels.SETS:
        raise Bad(f"$TINYDIFF_KERNELS is {os.environ['TINYDIFF_KERNELS']!r}; it can be: {', '.join(kernels.SETS)}")


def main(argv=None):
    """Run the command line. argv: list of strings, None = sys.argv[1:] -> exit status 0; 2 after one line on bad input; 130 on Ctrl-C"""
    try:
        args = parser().parse_args(argv)
        _require_kernels()
        run = {"train": cmd_train, "sample": cmd_sample, "evaluate": cmd_evaluate, "judge": cmd_judge, "export": cmd_export}
        run |= {
            "edit": cmd_edit,
            "restyle": cmd_restyle,
            "alphabet": cmd_alphabet,
            None: lambda a: digits(a.out, a.seed),
            "doctor": lambda a: doctor(),
        }
        run[args.command](args)
    except KeyboardInterrupt:
        return 130
    except MemoryError as e:
        print(f"tinydiff: not enough memory ({e}): take a smaller --width, --batch or --n", file=sys.stderr)
        return 2
    except (Bad, OSError, FloatingPointError) as e:
        print(f"tinydiff: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
