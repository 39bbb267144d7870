"""The command line: `python -m tinydiff` trains on digits and draws; `train`, `sample` and `doctor` do one thing each."""

import argparse
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

MODELS = {  # what suits each data set on two cores: arguments of UNet, images a step, highest learning rate, share of labels not said
    "digits": ({"width": 32, "multipliers": [1, 2], "depth": 1}, 64, 2e-3, 0.1),
    "fashion": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 64, 1e-3, 0.1),
    "portraits": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 64, 1e-3, 0.3),
}


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
    train.add_argument("dataset", help="digits, fashion or portraits")
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
    sample.add_argument("checkpoint", type=Path, metavar="CKPT", help="a file that `train` wrote")
    sample.add_argument("--label", type=_at_least(0), help="draw only this class, 0 .. classes - 1 (default: all in turn)")
    sample.add_argument("--n", type=_at_least(1), default=64, help="number of images (default: 64)")
    way = "ddpm visits every step, ddim only --steps of them (default: ddim)"
    sample.add_argument("--sampler", choices=["ddpm", "ddim"], default="ddim", help=way)
    sample.add_argument("--steps", type=_at_least(1), help="network evaluations an image, ddim only (default: 50)")
    sample.add_argument("--out", type=Path, default=Path("out/sample.png"), help="picture to write (default: out/sample.png)")
    sample.add_argument("--gif", action="store_true", help="also write the whole chain, as .gif beside the picture")
    sample.add_argument("--seed", type=_at_least(0), default=0, help="seed of all random numbers (default: 0)")

    commands.add_parser("doctor", help="say what is installed, compile one kernel and time it")
    return main


def _at_least(least):
    def whole_number(text):
        if not text.lstrip("+-").isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"takes a whole number of at least {least}, got {text!r}")
        return int(text)

    return whole_number


def _positive(text):
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"takes a number above 0, got {text!r}")
    return number


def learn(run, s, dataset, about, path, steps=None, seconds=None, save_every=60.0, sheets=None):
    """Train with a progress bar until `steps` are done or `seconds` are over, whichever is first; save as it goes.

    run: Training; s: Schedule; dataset: data.Dataset; about: see checkpoint.build; path: the checkpoint; save_every: seconds;
    sheets: function called with run after each save but the last, or None -> losses, a list of floats, one a step (steps,)
    On Ctrl-C the last whole step is saved, the place is said, and KeyboardInterrupt goes on to the caller.
    Raises FloatingPointError when the loss is not finite; the last checkpoint stays as it is.
    """
    from tqdm import tqdm

    from . import checkpoint
    from .optim import warmup_cosine
    from .train import train

    began = time.perf_counter()
    saved = began

    def done():
        by_time = (time.perf_counter() - began) / seconds if seconds else 0.0
        return max(run.step / steps if steps else 0.0, by_time)

    settings, losses, first = about["train"], [], run.step
    history = about.setdefault("history", [])  # step, seconds of training so far, mean loss of the last hundred steps
    spent = history[-1][1] if history else 0.0
    bar = tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed}, {remaining} left{postfix}", desc=f"training on {dataset.name}")
    steps_of_training = train(
        run,
        s,
        dataset.train,
        dataset.train_labels,
        settings["predict"],
        settings["batch"],
        lambda step: settings["lr"] * warmup_cosine(done()),
        settings["forget"],
    )
    stop, signal_before = [], signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, lambda *_: stop.append(True))  # neither a step nor a save is cut in two: look at the flag between steps
    try:
        while done() < 1 and not stop:
            losses.append(next(steps_of_training).loss)
            now = time.perf_counter()
            bar.n = min(100.0, 100 * done())
            if run.step % 100 == 0:
                history.append([run.step, round(spent + now - began, 1), round(sum(losses[-100:]) / len(losses[-100:]), 5)])
            recent = losses[-50:]
            bar.set_postfix_str(f"loss {sum(recent) / len(recent):.4f}, {(run.step - first) / (now - began):.1f} steps/s, step {run.step}")
            if now - saved > save_every:
                checkpoint.save(path, run, about)
                saved = now
                if sheets:
                    sheets(run)
        checkpoint.save(path, run, about)
    except FloatingPointError as e:
        raise FloatingPointError(f"{e}; the last checkpoint stays in {path}" if path.exists() else str(e)) from None
    finally:
        signal.signal(signal.SIGINT, signal_before)
        bar.close()
    if stop:
        length = ["--steps", str(steps)] if steps else ["--minutes", f"{seconds / 60:g}"]
        go_on = shlex.join([dataset.name, *length, "--out", str(path.parent), "--resume", str(path)])
        print(f"stopped at step {run.step}; go on with: python -m tinydiff train {go_on}", file=sys.stderr)
        raise KeyboardInterrupt
    return losses


def _require_writable(folder):
    """Say before the work starts that a folder cannot take its results: makes it, and a file in it that vanishes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as e:
        raise Bad(f"--out {folder} cannot be written to ({e.strerror}): give a folder that can") from None


def describe(dataset, seed, width=None, depth=None, batch=None, lr=None, predict="v"):
    """Describe the model and training for a data set, as a checkpoint keeps it; None takes the usual -> dict, see checkpoint.build"""
    model, usual_batch, usual_lr, forget = MODELS[dataset.name]
    _, H, _, C = dataset.train.shape
    model = model | {"size": H, "channels": C, "classes": list(dataset.classes)}
    if width:
        model["width"] = width
    if depth:
        model["depth"] = depth
    return {
        "dataset": dataset.name,
        "labels": dataset.labels,
        "model": model,
        "schedule": {"kind": "cosine", "T": 250},
        "train": {"predict": predict, "batch": batch or usual_batch, "lr": lr or usual_lr, "forget": forget, "seed": seed},
    }


def draw(model, s, about, labels, rng, steps=50, sampler="ddim"):
    """Sample images for labels: (N, 1) ints -> list of (N, H, W, C), x_T .. x_0; steps: network evaluations (ddim)"""
    from . import sample
    from .train import denoiser

    eps_model = denoiser(model, s, labels, about["train"]["predict"])
    shape = (len(labels), model.size, model.size, model.channels)
    if sampler == "ddpm":
        return list(sample.ddpm(eps_model, s, shape, rng, clip=1.0))
    return list(sample.ddim(eps_model, s, shape, rng, times=sample.even_times(s, steps), eta=1.0, clip=1.0))


def digits(out, seed):
    """Do the main job: train on digits from zero, draw them, judge them. out: folder; seed: int -> None; writes out/ in 2 minutes"""
    import numpy as np

    from . import checkpoint, classifier, data, plot

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

    judge = classifier.fit(dataset.train, dataset.train_labels[:, 0], 10, np.random.default_rng(seed + 2), steps=150)
    agree = classifier.accuracy(judge, chain[-1], labels[:, 0])
    held_out = classifier.accuracy(judge, dataset.test, dataset.test_labels[:, 0])
    print(f"quality: {agree:.1%} of {len(labels)} generated digits are read as the label asked for", end=" ")
    print(f"(classifier: {held_out:.1%} right on held-out digits)")


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


def cmd_train(args):
    """Run `train`: args from the parser -> None; writes DATASET.npz and sample sheets of 64 images into args.out"""
    import numpy as np

    from . import checkpoint, data, plot

    if args.dataset not in data.FILES:
        raise Bad(f"no data set {args.dataset!r}; there are: {', '.join(data.FILES)}")
    dataset = data.load(args.dataset)
    _require_writable(args.out)
    if args.resume:
        settled = [f"--{name}" for name in ("width", "depth", "batch", "lr") if getattr(args, name)]
        if settled:
            raise Bad(f"{', '.join(settled)} cannot change on the way: --resume takes them from the checkpoint")
        run, s, about = checkpoint.load(args.resume)
        if about["dataset"] != dataset.name:
            raise Bad(f"{args.resume} was trained on {about['dataset']}, not on {dataset.name}: name the same data set")
    else:
        about = describe(dataset, args.seed, args.width, args.depth, args.batch, args.lr, args.predict)
        try:
            run, s = checkpoint.build(about, args.seed)
        except ValueError as e:
            raise Bad(str(e)) from None
    path, shown = args.out / f"{dataset.name}.npz", dataset.test_labels[:64]

    def sheets(run):
        kept = run.theta.copy()
        chain = draw(checkpoint.averaged(run), s, about, shown, np.random.default_rng(0), steps=25)
        run.theta[:] = kept
        plot.save_png(plot.sheet(chain[-1], 16, scale=4), args.out / f"{dataset.name}_{run.step:06d}.png")

    minutes = args.minutes or (None if args.steps else 10.0)
    losses = learn(run, s, dataset, about, path, args.steps, minutes and 60 * minutes, args.save_every, sheets)
    if not losses:
        print(f"nothing to do: {args.resume} is at step {run.step} already", file=sys.stderr)
    sheets(run)
    print(f"{path}: the checkpoint, {run.step} steps; samples in {args.out}/{dataset.name}_{run.step:06d}.png")


def cmd_sample(args):
    """Run `sample`: args from the parser -> None; writes a picture of args.n images, and a GIF of how they came about"""
    import numpy as np

    from . import checkpoint, plot

    run, s, about = checkpoint.load(args.checkpoint)
    if args.steps and args.sampler == "ddpm":
        raise Bad("--steps is for --sampler ddim; ddpm visits every step")
    steps = args.steps or min(50, s.T)
    if steps > s.T:
        raise Bad(f"--steps takes at most {s.T}, the steps that this model was trained with; got {steps}")
    classes = about["model"]["classes"][0]
    if args.label is not None and args.label >= classes:
        raise Bad(f"--label takes 0 .. {classes - 1} ({', '.join(about['names'])}); got {args.label}")
    labels = np.arange(args.n)[:, None] * classes // args.n if args.label is None else np.full((args.n, 1), args.label)
    chain = draw(checkpoint.averaged(run), s, about, labels, np.random.default_rng(args.seed), steps, args.sampler)
    columns = min(args.n, 16)
    print(plot.save_png(plot.sheet(chain[-1], columns, scale=4), args.out), f"{args.n} images", sep=": ")
    if args.gif:
        print(plot.save_gif(plot.frames(chain, columns), args.out.with_suffix(".gif")), f"the chain, {len(chain) - 1} steps", sep=": ")


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
        {None: lambda a: digits(a.out, a.seed), "train": cmd_train, "sample": cmd_sample, "doctor": lambda a: doctor()}[args.command](args)
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
