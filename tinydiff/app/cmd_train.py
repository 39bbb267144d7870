"""The commands that train: `train`, `judge` (a classifier), `export`, and tinydiff's main job.

A training runs with a progress bar, is saved as it goes, and can be interrupted at any time.
"""

import os
import shlex
import signal
import sys
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import (
    augment,
    checkpoint,
    data,
    diffusion,
    fields,
    finetune,
    kernels,
    machines,
    plot,
    sample,
)
from ..collect.network import FINE, FINE_LORA, enough, network
from ..collect.source import number, some
from ..data import Styles
from ..design import paired
from ..design.pipeline import Pipeline, evaluations
from ..measure import classifier, pretext
from ..optim import warmup_cosine
from ..train import train
from . import ahead, interrupt, judges, own, room, together
from .cli import USUAL
from .progress import Bar
from .usage import (
    UsageError,
    dataset_named,
    like,
    memory,
    pictures_named,
    require_figures,
    require_memory,
    require_output,
    require_writable,
)

try:
    import fcntl
except ImportError:  # there is none on Windows
    fcntl = None

MODELS = {  # for two cores: arguments of UNet, images per step, highest learning rate, p_drop
    "digits": ({"width": 32, "multipliers": [1, 2], "depth": 1}, 64, 2e-3, 0.1),
    "fashion": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 64, 1e-3, 0.1),
    "portraits": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 64, 1e-3, 0.3),
    "patterns": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 64, 1e-3, 0.3),
    "patterns32": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 32, 1e-3, 0.3),
    "emoji": ({"width": 32, "multipliers": [1, 2, 2], "depth": 2}, 64, 1e-3, 0.1),
    "typefaces": ({"width": 32, "multipliers": [1, 2, 2], "depth": 1}, 64, 1e-3, 0.1),
}
STEPS, RATE = 1000, 8e-3  # of the main job, and its highest learning rate: a short training
DRAWN = ("dpmpp_2m", 15, "even")  # how it draws in the end: sampler, steps, times
LOOKS = (25, 50, 100, 200, 350, 500, 750)  # steps after which it shows what it draws by now
REST = 9  # after a sheet of samples there is none for so many times as long as it took to draw


def cmd_digits(args):
    """Do the main job: train on digits from scratch, draw them, judge them, in under a minute.

    args: main_out, main_seed, main_force -> None
    """
    out, seed = args.main_out or Path("out"), args.main_seed or 0
    path = out / "digits.npz"
    require_figures()
    require_writable(out)
    for name in ("samples.png", "chain.gif", "triptych.png", "loss.png"):
        require_output(out / name)
    dataset = data.load("digits")
    meta = describe(dataset, seed, lr=RATE) | {"job": "main"}
    run, s = checkpoint.build(meta, seed)
    with _alone(path):
        _require_free(path, args.main_force, job="main")
        print(f"{out / 'samples.png'}: what it draws by now, anew while it learns", flush=True)
        show = lambda run=run: look(run, s, meta, out)
        with interrupt.watching([out / "samples.png"]), ahead.compiling(meta, show):
            losses = learn(run, s, dataset, meta, path, steps=STEPS, seconds=75.0, look=show)
    with interrupt.keeping(lambda: f"the training is saved in {path}; {_try(path)}"):
        _show(Pipeline.of(checkpoint.averaged(run, meta), s, meta), dataset, losses, path, seed)


def look(run, s, meta, out):
    """Draw what a network of digits draws by now, eight of each, into samples.png.

    run: Training, which stays as it is; s: Schedule; meta: see describe; out: a folder's Path
    -> None
    """
    pipe, labels = Pipeline.of(checkpoint.averaged(run, meta), s, meta), np.repeat(np.arange(10), 8)
    *_, x = pipe.draw(labels[:, None], np.random.default_rng(0), "dpmpp_2m", 5, "even")
    title = f"after {run.step} of {STEPS} training steps"
    drawn = plot.labelled(x, 8, meta["labels"]["digit"], title, scale=6)
    plot.save_figure(drawn, out / "samples.png")


def _show(pipe, dataset, losses, path, seed):
    """Draw digits with the network just trained, judge them, and print what was written where."""
    out, rng = path.parent, np.random.default_rng(seed + 1)
    labels = np.repeat(np.arange(10), 64)[:, None]
    sampler, steps, times = DRAWN
    work = evaluations(pipe.s, sampler, steps) * len(labels)
    with Bar(work, "drawing digits") as bar:
        chain = replace(pipe, tick=bar.tick).draw(labels, rng, sampler, steps, times)
    rows = np.concatenate([np.arange(8) + 64 * k for k in range(10)])  # the first 8 of each class
    samples = plot.labelled(chain[-1][rows], 8, dataset.labels["digit"], scale=6)
    animation = plot.frames([x[rows] for x in chain], 8)
    recovered = triptych(pipe, dataset, rng)
    print(plot.save_figure(samples, out / "samples.png"), "10 classes, 8 samples each", sep=": ")
    moving = plot.save_gif(animation, out / "chain.gif", seconds=0.15)
    print(moving, "noise becoming digits", sep=": ")
    what = "held-out digits, noised and recovered"
    print(plot.save_figure(recovered, out / "triptych.png"), what, sep=": ")
    curve = plot.save_figure(plot.losses(losses), out / "loss.png")
    print(curve, f"{len(losses)} training steps", sep=": ")
    print(path, f"the checkpoint; {_try(path)}", sep=": ")

    judge, its = classifier.load("digits")
    (agree,) = classifier.accuracy(judge, chain[-1], labels)
    asked = f"{len(labels)} generated digits are read as the label asked for"
    own = f"classifier: {its['held_out']['digit']:.1%} right on held-out digits"
    print(f"quality: {agree:.1%} of {asked} ({own})")


def _try(path):
    return f"try: python -m tinydiff sample {shlex.quote(str(path))}"


def triptych(pipe, dataset, rng):
    """Draw original, noised and recovered images at three noise levels -> matplotlib Figure

    Recovered: DDIM (eta = 0) from x_t down to x_0, given the right label, over every tenth time;
    one held-out image per class. pipe: a Pipeline; dataset.test: (N, H, W, C)
    """
    first = [np.flatnonzero(dataset.test_labels[:, 0] == k)[0] for k in range(dataset.classes[0])]
    x0, s = dataset.test[first], pipe.s
    eps_model = pipe.eps_model(dataset.test_labels[first])
    rows, names = [], []
    for share in (0.3, 0.5, 0.7):
        t = round(share * s.T)
        x_t = diffusion.q_sample(s, x0, t, rng.standard_normal(x0.shape, dtype=np.float32))
        times = [t, *(u for u in range(s.T - s.T % 10, -1, -10) if u < t)]
        *_, back = sample.ddim(eps_model, s, x0.shape, rng, times, x_T=x_t, clip=1.0)
        rows += [x0, x_t, back]
        names += ["original", f"noised to t = {t} of {s.T}", "recovered"]
    return plot.labelled(np.concatenate(rows), len(first), names, scale=6)


def cmd_train(args):
    """Run `train`: args from the parser -> None; writes DATASET.npz and sheets of samples"""
    if args.dataset not in {**data.FILES, **data.STYLES}:
        own.require_apart(args.dataset, args.out)
    require_writable(args.out)

    def free(name):
        path = args.out / f"{name}.npz"
        goes_on = args.resume and path.exists() and path.samefile(args.resume)
        _require_free(path, args.force or goes_on)

    dataset, pictures = _dataset(args, free)
    path, team = args.out / f"{dataset.name}.npz", together.team()
    require_output(path, [args.dataset])
    with _alone(path) if team.rank == 0 else nullcontext():
        _train_alone(args, dataset, path, team, pictures)


def _dataset(args, check):
    """Load a data set by its name, or a user's pictures -> Dataset or Styles, own pictures or None

    check: called with the name of a user's set, before its pictures are read. The second is what a
    checkpoint says of them, see own.pictures.
    """
    name = args.dataset
    if name in {**data.FILES, **data.STYLES}:
        _no_pictures(args)
        if os.path.exists(name):
            own_one = f"./{name} means the {'folder' if os.path.isdir(name) else 'file'}"
            print(f"{name} is the set that comes with tinydiff; {own_one}", file=sys.stderr)
        return dataset_named(name, styles=True), None
    if not os.path.exists(name):
        if args.resume and not (args.size or args.grid):
            return own.kept(args.resume, Path(name))
        raise _no_such_set(name)
    if args.resume and not (args.size or args.grid):
        return own.as_before(Path(name), args.resume, not args.no_cache, check)
    return own.pictures(Path(name), args.size, args.grid, not args.no_cache, check)


def _no_pictures(args):
    """Refuse what is for a user's own pictures only -> None"""
    if args.size or args.grid:
        raise UsageError("--size and --grid are for your own pictures: leave them out")


def _no_such_set(name):
    sets = [*data.FILES, *data.STYLES]
    why = f"there are: {', '.join(sets)}; and no file or folder of this name"
    return UsageError(f"no data set {name!r}{like(name, sets)}; {why}")


def _train_alone(args, dataset, path, team, pictures=None):
    """Train as `train` was asked to, into a file that nobody else writes; one of a team does."""
    run, s, meta = _resumed(args, dataset) if args.resume else _begun(args, dataset)
    run.team = team
    batch = meta["train"]["batch"]
    _require_one_training(run, batch, team)
    share, limit = -(-batch // team.size), meta["train"].get("memory")
    run.most = room.at_once(limit, meta["model"], run.theta.size, share, dataset)
    goes_on = args.resume and path.exists() and path.samefile(args.resume)
    _require_free(path, args.force or goes_on)
    if pictures and team.rank == 0:
        began = meta.get("pictures", {}).get("key")
        if args.resume and began != pictures["key"]:
            print(f"other pictures than {args.resume} began with: it goes on with these")
        own.show(dataset, args.out / f"{dataset.name}_look.png")
    meta |= {"pictures": pictures} if pictures else {}
    labels, source = _to_draw(dataset, pictures)

    def sheets(run, tick=None):
        pipe = Pipeline.of(checkpoint.averaged(run, meta), s, meta, tick)
        x = _drawn(pipe, labels, source, run.most)
        file = args.out / f"{dataset.name}_{run.step:06d}.png"
        return plot.save_png(plot.sheet(x, 16, scale=4), file), x

    steps, minutes = args.steps, args.minutes or (None if args.steps else 10.0)
    seconds = minutes and 60 * minutes
    if pictures and not (args.steps or args.minutes or args.resume):
        steps = enough(dataset, batch)
    with nullcontext() if team.rank or limit else ahead.compiling(meta, whole=bool(pictures)):
        if pictures and team.rank == 0:
            own.say_plan(meta, dataset, run.most, hint=not args.resume)
            own.say_end(steps if steps != args.steps else None)
        limits = steps, seconds, args.save_every
        losses = learn(run, s, dataset, meta, path, *limits, sheets, name=args.dataset)
    if not losses:
        print(f"nothing to do: {args.resume} is at step {run.step} already", file=sys.stderr)
    if team.rank:
        return
    with interrupt.keeping(lambda: f"the training is saved in {path}; {_try(path)}"):
        work = evaluations(s, *USUAL["train"][:2]) * len(labels)
        with Bar(work, "drawing samples") as bar:
            drawn, x = sheets(run, bar.tick)
        print(f"{path}: the checkpoint, {number(run.step, 'step')}; samples in {drawn}")
        if pictures:
            own.say_copies(x, dataset, meta["train"])


def _to_draw(dataset, pictures):
    """Choose what the sheets of samples show -> labels (64, number of them), sources or None"""
    if dataset.name in data.STYLES:
        source, _, labels = (x[:: len(x) // 64][:64] for x in paired.examples(dataset))
        return labels, source
    if pictures:
        return own.to_draw(dataset), None
    in_turn = np.arange(64)[:, None] * dataset.classes[0] // 64
    return in_turn if len(dataset.classes) == 1 else dataset.test_labels[:64], None


def _drawn(pipe, labels, source, most):
    """Draw an image for each row of labels, and of sources (N, H, W, S), if any -> (N, H, W, C)"""

    def draw(rows, rng):
        given = None if source is None else source[rows]
        return pipe.draw(labels[rows], rng, *USUAL["train"], source=given)[-1:]

    (x,) = pipe.in_pieces(draw, range(len(labels)), 0, most=most)
    return x


def _require_one_training(run, batch, team):
    """Refuse to share a training among processes that begin otherwise, or get no image."""
    if batch < team.size:
        less = f"{team.size} processes cannot share a batch of {batch}"
        raise UsageError(f"{less}: start fewer, or give a larger --batch")
    adam, drawn = run.adam, str(run.rng.bit_generator.state)
    if not team.alike(run.theta, run.ema, adam.m, adam.v, adam.k, run.step, drawn):
        give = "give all the same version, the same --seed and the same --resume"
        raise UsageError(f"the processes begin with different trainings: {give}")


def _require_memory(meta, weights=0):
    """Refuse a training that does not fit into the memory, by what others were seen to take."""
    at_once, less = meta["train"]["batch"], "--width, --depth or --batch, or give --memory"
    if "memory" in meta["train"]:
        at_once, less = 1, "--width or --depth"
    require_memory(room.of_steps(meta["model"], weights, at_once), less)


def _begun(args, dataset):
    """Start a training as `train` was asked to -> Training, Schedule, description"""
    sizes = (args.width, args.depth, args.batch, args.lr)
    seed = 0 if args.seed is None else args.seed
    meta = describe(dataset, seed, *sizes, args.predict or "v")
    meta["train"] |= {"memory": args.memory} if args.memory else {}
    if isinstance(dataset, Styles) and (args.flip or args.shift or args.start):
        why = "--flip, --shift and --from are for single pictures"
        raise UsageError(f"{why}, not for {dataset.name}")
    _augment(args, dataset, meta)
    prepare = _start(args, meta)
    _require_memory(meta)
    most = int(min(memory() / room.PER_WEIGHT, 2**40))
    blank = checkpoint.Blank("what fits into the memory", most)
    try:
        checkpoint.build_model(meta, blank)
    except ValueError as e:
        raise UsageError(f"{'--from' if prepare else '--width, --depth'}: {e}") from None
    _require_memory(meta, blank.most - blank.left)
    return *checkpoint.build(meta, seed, prepare), meta


def _augment(args, dataset, meta):
    """Add to a description what --flip and --shift ask for, see augment.py -> None"""
    flip, shift = args.flip, args.shift or 0
    if not (flip or shift):
        return
    if shift > (most := dataset.train.shape[1] // 4):
        side = dataset.train.shape[1]
        raise UsageError(f"--shift takes at most {most}, a quarter of {side} pixels; got {shift}")
    meta["train"] |= {"flip": True} if flip else {}
    meta["train"] |= {"shift": shift} if shift else {}
    meta["model"]["told"] = augment.told(flip, shift)


def _start(args, meta):
    """Add to a description what --from and --lora ask for -> `prepare` of checkpoint.build"""
    if not args.start:
        if args.lora:
            raise UsageError("--lora changes a trained model: name one with --from")
        return None
    if given := [f"--{name}" for name in ("width", "depth", "predict") if getattr(args, name)]:
        raise UsageError(f"{', '.join(given)}: with --from the model that it starts from says that")
    source, _, its = checkpoint.ready(args.start)
    if source.out != source.channels:
        why = "redraws or completes what it is shown: start from a model that draws, as portraits"
        raise UsageError(f"--from {args.start}: it {why}")
    usual = {"width": 32, "multipliers": [1, 2, 2], "depth": 2, "padding": "zeros"}  # UNet's own
    meta["model"] |= {key: its["model"].get(key, value) for key, value in usual.items()}
    meta["schedule"] = its["schedule"]
    predict = its.get("train", {}).get("predict", "v")
    named = own.place(args.start) if os.path.isfile(args.start) else args.start
    meta["train"] |= {"predict": predict, "start": named}
    meta["train"] |= {"lora": args.lora} if args.lora else {}
    meta["train"]["lr"] = args.lr or (FINE_LORA if args.lora else FINE)
    labels, known = meta["labels"], its.get("labels", {})
    return lambda model: finetune.start_from(model, source, labels, known)


def _resumed(args, dataset):
    """Load the training that --resume names -> Training, Schedule, description"""
    fixed = ("width", "depth", "batch", "lr", "predict", "seed", "shift", "lora")
    given = [f"--{name}" for name in fixed if getattr(args, name) is not None]
    given += ["--flip"] * args.flip + ["--from"] * bool(args.start)
    if given:
        why = "cannot change on the way: a resumed training keeps what its checkpoint says"
        raise UsageError(f"{', '.join(given)} {why}")
    run, s, meta = checkpoint.load(args.resume)
    if meta.get("dataset") != dataset.name:
        was = f"{args.resume} was trained on {meta.get('dataset')}, not on {dataset.name}"
        raise UsageError(f"{was}: name the same data set")
    fresh, fixed = describe(dataset, 0), ("size", "channels", "out", "classes")
    _require_labels(args.resume, meta.get("labels", fresh["labels"]), dataset.name, fresh["labels"])
    if any(meta["model"].get(key) != fresh["model"].get(key) for key in fixed):
        raise UsageError(f"{args.resume} was trained on other images than {dataset.name} has")
    if missing := [name for name in fresh["train"] if name not in meta.get("train", {})]:
        unsaid = f"{args.resume} does not say its train.{missing[0]}"
        raise UsageError(f"{unsaid}: give a file that `train` wrote")
    meta["train"] |= {"memory": args.memory} if args.memory else {}
    _require_memory(meta, run.theta.size)
    meta.pop("job", None)  # no longer what the main job may replace
    return run, s, meta


def _require_labels(path, were, name, are):
    """Refuse to go on with other labels, or in another order: what was learned is their numbers."""
    flat = lambda labels: [f"{label}={v}" for label, values in labels.items() for v in values]
    were, are = flat(were), flat(are)
    if were != are:
        gone, new = ([x for x in one if x not in two] for one, two in ((were, are), (are, were)))
        what = " and ".join(
            [f"has no {some(gone)}"] * bool(gone) + [f"has {some(new)}"] * bool(new)
        )
        why = f"was trained on other labels: {name} {what or 'has them in another order'}"
        raise UsageError(f"{path} {why}; name them as they were, or begin a new training")


def _require_free(path, force, job=None, exported=False):
    """Refuse to replace a training, which may be hours of work, unless --force says so.

    job: what the training there may be the result of, as meta["job"] says, None = nothing is
    replaced; exported: whether exported weights may be replaced
    """
    require_output(path)
    if force or not path.exists():
        return
    try:
        header, _ = checkpoint.read(path)
        fields.require(fields.TRAINING, header)
        fields.require(fields.MODEL, header.get("about"))
        if job and header["about"].get("job") == job:
            return
        holds = f"holds a training of {number(header['step'], 'step')}"
        go_on = f"go on with {shlex.join(['--resume', str(path)])}, "
    except checkpoint.Drawable:
        if exported:
            return
        holds, go_on = "holds exported weights", ""
    except (checkpoint.CheckpointError, ValueError):
        holds, go_on = "exists, and is no checkpoint that can be read", ""
    go_on = "" if job or exported else go_on
    raise UsageError(f"{path} {holds}: {go_on}write elsewhere, or give --force to replace it")


@contextmanager
def _alone(path):
    """Refuse to train into a file while another process does: the later save would win.

    Nothing is left behind, not even an empty folder.
    """
    there = path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with open(lock, "wb") as f:
        try:
            fcntl and fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (lock.exists() and os.path.samestat(os.fstat(f.fileno()), lock.stat())):
                raise BlockingIOError  # it was another's, who has just removed it
        except BlockingIOError:
            why = "another training writes into it now"
            raise UsageError(f"{path}: {why}: give another --out") from None
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            with suppress(OSError):  # on Windows a file that is open stays
                lock.unlink()
            with suppress(OSError):
                there or path.parent.rmdir()


def describe(dataset, seed, width=None, depth=None, batch=None, lr=None, predict="v"):
    """Describe model and training for a data set, as a checkpoint keeps it; None takes the usual.

    -> dict with "dataset" (its name), "labels" ({name: values}), "model" (arguments of UNet),
    "schedule" ({"kind", "T"}) and "train" ({"predict", "batch", "lr", "forget": p_drop, "seed"}),
    to which `learn` adds "history" and "recent"
    """
    usual = MODELS.get(dataset.name) or network(dataset.train.shape[1], len(dataset.labels))
    model, usual_batch, usual_lr, p_drop = usual
    if isinstance(dataset, Styles):
        labels, S, _ = paired.task(dataset)
        *_, H, _, C = dataset.images.shape
        model = model | {"channels": C + S, "out": C}
    else:
        labels, (_, H, _, C) = dataset.labels, dataset.train.shape
        model = model | {"channels": C}
    model |= {"size": H, "classes": [len(values) for values in labels.values()]}
    if width:
        model["width"] = width
    if depth:
        model["depth"] = depth
    settings = {"batch": batch or usual_batch, "lr": lr or usual_lr, "forget": p_drop, "seed": seed}
    return {
        "dataset": dataset.name,
        "labels": labels,
        "model": model,
        "schedule": {"kind": "cosine", "T": 250},
        "train": {"predict": predict, **settings},
    }


def learn(
    run,
    s,
    dataset,
    meta,
    path,
    steps=None,
    seconds=None,
    save_every=60.0,
    sheets=None,
    look=None,
    name=None,
):
    """Train with a progress bar until `steps` are done or `seconds` are over; save as it goes.

    The first step, in which kernels may be compiled, does not count towards `seconds`.
    run: Training; s: Schedule; dataset: Dataset or Styles; meta: see describe; path: the
    checkpoint; save_every: seconds; sheets: called with run after each save but the last, or None;
    look: called with run after each of the steps LOOKS, or None; name: by which the data set was
    asked for, None = its own
    -> losses, a list of floats, one per step (steps,)
    meta["history"] grows by [step, seconds of training so far, mean loss of the last hundred steps]
    every hundred steps; the losses since then wait in meta["recent"], so that a training that was
    stopped and resumed has the same history.
    On Ctrl-C, SIGTERM and SIGHUP the last whole step is saved and Interrupted raised, which says
    how to go on; not in the first step, which compiles: there nothing is saved.
    Raises FloatingPointError when the loss is not finite; the last checkpoint stays as it is.
    """
    clock, team = _Clock(run, meta, steps, seconds), run.team
    losses, earlier = [], len(run.losses)
    recent = meta.setdefault("recent", [])
    steps_of_training = loop(run, s, dataset, meta["train"], clock.done)
    how = _go_on(name or dataset.name, steps, seconds, save_every, path)

    def listen():  # losses come one by one, or, from a GPU, several at a time
        new = run.losses[earlier + len(losses) :]
        losses.extend(new)
        recent.extend(new)

    def save():
        run.fetch_losses()
        listen()
        if team.rank == 0:
            checkpoint.save(path, run, meta)

    saved, rested, stop = time.perf_counter(), 0.0, []
    team.told = stop
    try:
        title = f"training on {dataset.name}"
        with Bar(1.0, title, None, delay=0.0, leave=True) as bar, interrupt.noted(stop):
            while clock.done() < 1 and not team.asked(stop):
                team.note[:] = clock.elapsed(), bool(stop)
                if run.step == clock.first:
                    bar.note = "compiling, where that is needed"
                    with interrupt.heard():
                        next(steps_of_training)
                    clock.began = time.perf_counter()  # the time to compile is not training
                else:
                    next(steps_of_training)
                listen()
                if run.step % 100 == 0:
                    meta["history"].append(clock.entry(sum(recent) / len(recent)))
                    recent.clear()
                bar.done, bar.note = clock.shown(losses)
                if look and run.step in LOOKS and not stop:
                    _draw_unless_stopped(look, run, stop)
                if time.perf_counter() - saved > save_every:
                    save()
                    saved = time.perf_counter()
                    if sheets and not stop and team.rank == 0 and saved > rested:
                        _draw_unless_stopped(sheets, run, stop)
                        rested = time.perf_counter() + REST * (time.perf_counter() - saved)
            save()
    except FloatingPointError as e:
        stays = f"; the last checkpoint stays in {path}" if path.exists() else ""
        raise FloatingPointError(f"{e}{stays}") from None
    except machines.Lost as e:
        stays = f"; the last checkpoint is good: {how}" if path.exists() else ""
        raise UsageError(f"{e}{stays}") from None
    if team.asked(stop):
        said = f"stopped at step {run.step}; go on with: {how}"
        raise interrupt.Interrupted(stop[0] if stop else signal.SIGTERM, said)
    return losses


def _draw_unless_stopped(sheets, run, stop):
    """Call sheets(run), which changes no training; a signal ends it at once, and is noted."""
    try:
        with interrupt.heard():
            sheets(run)
    except interrupt.Interrupted as e:
        stop.append(e.number)


def _go_on(name, steps, seconds, save_every, path):
    """Write the command that resumes a training: arguments as of `learn` -> str"""
    used, usual = kernels.active().__name__.split(".")[-1], os.environ.get("TINYDIFF_KERNELS")
    with_kernels = [] if used == (usual or "cpu") else ["--kernels", used]
    length = ["--steps", str(steps)] if steps else ["--minutes", f"{seconds / 60:g}"]
    saves = [] if save_every == 60 else ["--save-every", f"{save_every:g}"]
    files = ["--out", str(path.parent), "--resume", str(path)]
    words = [*with_kernels, "train", name, *length, *files, *saves]
    return f"{together.launcher()}python -m tinydiff {shlex.join(words)}"


class _Clock:
    """How far a training is, by steps or by time, and what the progress bar says of it."""

    def __init__(self, run, meta, steps, seconds):
        self.run, self.steps, self.seconds = run, steps, seconds
        self.began, self.first = time.perf_counter(), run.step
        history = meta.setdefault("history", [])
        self.before = history[-1][1] if history else 0.0  # seconds of training before this one

    def elapsed(self):
        """Tell how long this training takes so far: () -> float, in seconds"""
        return time.perf_counter() - self.began

    def done(self):
        """Tell the share of the training that is over, by whichever limit comes first: -> float"""
        by_time = self.run.team.agreed(self.elapsed()) / self.seconds if self.seconds else 0.0
        return max(self.run.step / self.steps if self.steps else 0.0, by_time)

    def entry(self, loss):
        """Write a line of the history: mean loss -> [step, seconds of training so far, loss]"""
        seconds = self.before + time.perf_counter() - self.began
        return [self.run.step, round(seconds, 1), round(loss, 5)]

    def shown(self, losses):
        """Say how far the training is: losses so far -> share done, up to 1, and a few words"""
        last = losses[-50:] or [float("nan")]
        timed = self.run.step - self.first - 1  # all but the first, which may compile
        speed = f" {timed / (time.perf_counter() - self.began):.1f} steps/s," if timed else ""
        words = f"loss {sum(last) / len(last):.4f},{speed} step {self.run.step}"
        return min(1.0, self.done()), words


def loop(run, s, dataset, settings, done=lambda: 0.0):
    """Start the loop that suits a data set: makes a training step for each `next` -> generator

    run: Training; s: Schedule; dataset: Dataset or Styles; settings: meta["train"], see describe;
    done: () -> share of the training that is over, which the learning rate follows
    """
    predict, batch, p_drop = settings["predict"], settings["batch"], settings["forget"]
    lr = lambda step: settings["lr"] * warmup_cosine(done())
    if isinstance(dataset, Styles):
        batch_of = paired.task(dataset)[2]
        return paired.train(run, s, lambda rng: batch_of(rng, batch), predict, lr, p_drop)
    return train(run, s, *augment.training(dataset, settings), predict, batch, lr, p_drop)


def cmd_judge(args):
    """Run `judge`: args from the parser -> None; writes DATASET_judge.npz into args.out"""
    if args.dataset in {**data.FILES, **data.STYLES}:
        _no_pictures(args)
        dataset, pictures = pictures_named(args.dataset), None
    elif os.path.exists(args.dataset):
        own.require_apart(args.dataset, args.out)
        dataset, pictures = own.pictures(
            Path(args.dataset), args.size, args.grid, not args.no_cache
        )
    else:
        raise _no_such_set(args.dataset)
    path = args.out / f"{dataset.name}_judge.npz"
    _require_free(path, args.force, exported=True)
    if pictures:
        weights, meta = judges.train(dataset, pictures, args.steps or pretext.STEPS, args.seed)
    else:
        steps = args.steps or 2500
        with Bar(steps, f"training the judge of {dataset.name}", "steps") as bar:
            weights, meta = classifier.learn(dataset, steps, args.seed, bar.tick)
    checkpoint.export(path, weights, meta)
    right = ", ".join(f"{label} {share:.1%}" for label, share in meta["held_out"].items())
    print(f"{path}: {f'right on held-out images: {right}' if right else 'the judge'}")


def cmd_export(args):
    """Run `export`: args from the parser -> None; writes the averaged weights, as float16"""
    require_output(args.file, [args.checkpoint], "")
    _require_free(args.file, args.force, exported=True)
    run, _, meta = checkpoint.load(args.checkpoint)
    weights = checkpoint.averaged(run, meta).flatten()
    checkpoint.export(args.file, weights, meta | {"steps": run.step})
    print(f"{args.file}: {args.file.stat().st_size / 1e6:.1f} MB, {number(run.step, 'step')}")
