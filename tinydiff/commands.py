"""What the commands do that train, judge and look after models; those that draw are in studio.py, the command line itself in __main__.py.

Nothing heavy is imported before a command runs, so that --help and mistakes are answered at once.
"""

import os
import sys
import tempfile
import textwrap
import time


class Bad(Exception):
    """What the user gave cannot be used; the message is the one line that they see."""


def require_writable(folder):
    """Say before the work starts that a folder cannot take its results: makes it, and a file in it that vanishes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as e:
        raise Bad(f"--out {folder} cannot be written to ({e.strerror}): give a folder that can") from None


def require_file(path):
    """Say before the work starts that a picture cannot be written to where it is wanted."""
    if path.is_dir():
        raise Bad(f"--out {path} could not be written (Is a directory): give a file name")
    require_writable(path.parent)


def dataset_named(name, styles=False):
    """Load a data set by its name, with styles=True also one of subjects in styles: -> Dataset or Styles; another name is a Bad"""
    from . import data

    known = {**data.FILES, **data.STYLES} if styles else data.FILES
    if name not in known:
        raise Bad(f"no data set {name!r}; there are: {', '.join(known)}")
    return data.load_styles(name) if name in data.STYLES else data.load(name)


def pictures_named(name):
    """Load the pictures of a data set by its name, one by one where they come in styles: -> data.Dataset; another name is a Bad"""
    dataset = dataset_named(name, styles=True)
    return dataset.dataset() if hasattr(dataset, "styles") else dataset


def digits(out, seed):
    """Do the main job: train on digits from zero, draw them, judge them. out: folder; seed: int -> None; writes out/ in 2 minutes"""
    import numpy as np

    from . import checkpoint, classifier, data, plot
    from .draw import draw
    from .learn import describe, learn

    require_writable(out)
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


def cmd_train(args):
    """Run `train`: args from the parser -> None; writes DATASET.npz and sample sheets of 64 images into args.out"""
    import numpy as np

    from . import checkpoint, data, plot, style
    from .draw import draw
    from .learn import describe, learn

    dataset = dataset_named(args.dataset, styles=True)
    require_writable(args.out)
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


def cmd_evaluate(args):
    """Run `evaluate`: args from the parser -> None; prints a table, or JSON, and writes the picture of quality against cost"""
    import json

    import numpy as np
    from tqdm import tqdm

    from . import checkpoint, evaluate, plot
    from .draw import evaluations

    model, s, about = checkpoint.ready(args.model)
    if model.out < model.channels:
        raise Bad(f"{args.model} redraws or completes what it is shown: python tests/bench/styles.py measures that")
    try:
        ways = [evaluate.parse(spec, s) for spec in args.samplers or evaluate.SAMPLERS]
    except ValueError as e:
        raise Bad(str(e)) from None
    dataset, (judge, its) = dataset_named(about.get("dataset")), checkpoint.judge(about["dataset"])
    require_file(args.out)
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
    from . import checkpoint
    from .learn import learn_judge

    dataset = pictures_named(args.dataset)
    require_writable(args.out)
    weights, about = learn_judge(dataset, args.steps, args.seed)
    path, held_out = args.out / f"{dataset.name}_judge.npz", about["held_out"]
    checkpoint.export(path, weights, about)
    print(f"{path}: right on held-out images: {', '.join(f'{label} {share:.1%}' for label, share in held_out.items())}")


def cmd_export(args):
    """Run `export`: args from the parser -> None; writes the running average of a checkpoint's weights, as float16"""
    from . import checkpoint

    if args.file.is_dir():
        raise Bad(f"{args.file} could not be written (Is a directory): give a file name")
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
    print("cuda       " + "\n           ".join(_cuda()))
    rng, times = np.random.default_rng(0), []
    x, w = rng.standard_normal((64, 16, 16, 32), dtype=np.float32), rng.standard_normal((3, 3, 32, 32), dtype=np.float32)
    x, w = kernels.array(x), kernels.array(w)
    for _ in range(6):
        began = time.perf_counter()
        np.asarray(kernels.conv2d(x, w, "zeros"))  # of a graphics card: waits for it, and fetches the result
        times.append(time.perf_counter() - began)
    work = 2 * 64 * 16 * 16 * 9 * 32 * 32
    if kernels.active().__name__.endswith(".cpu"):
        print(f"threading  {numba.threading_layer()}")
    speed = f"{1000 * min(times):.2f} ms: {work / min(times) / 1e9:.0f} GF/s"
    print(f"conv2d     first call {times[0]:.2f} s (compiled, or read from the cache), then {speed}")
    print("all is well")


def _cuda():
    """Say what the graphics card's kernels would run on, what is missing of it, and run one kernel: () -> yields lines"""
    from .kernels import device

    target, parts = _cuda_target(device), "pip install 'tinydiff[cuda12]', or cuda13, whichever the driver is for"
    yield target
    capability = (8, 0)
    if device.SIMULATED:
        yield "simulator  instead of a card, since NUMBA_ENABLE_CUDASIM is set"
    else:
        driver, problem = _tried(lambda: device.cuda.cudadrv.driver.driver.get_version())
        yield (
            f"driver     for CUDA {driver[0]}.{driver[1]}"
            if driver
            else f"driver     none ({problem}): install NVIDIA's, if there is a card"
        )
        card, problem = _tried(device.cuda.get_current_device) if driver else (None, "no driver")
        if card:
            capability, name = card.compute_capability, card.name
            name = name.decode() if isinstance(name, bytes) else name
            yield f"card       {name}, compute capability {capability[0]}.{capability[1]}"
        else:
            yield f"card       none ({problem}): set NUMBA_ENABLE_CUDASIM=1 to run the kernels without one, very slowly"
        code, problem = _tried(lambda: _ptx(device, tuple(capability)))
        home = f"CUDA_HOME={os.environ['CUDA_HOME']}" if "CUDA_HOME" in os.environ else "CUDA_HOME not set"
        yield f"compiler   works ({home})" if code else f"compiler   not found or not usable ({problem}; {home}): {parts}"
        if not (card and code):
            yield "kernel     none was run"
            return
    yield _cuda_kernel(device)


def _cuda_target(device):
    """Name the package that numba.cuda comes from, and its version."""
    from importlib.metadata import PackageNotFoundError, version

    import numba

    try:
        return f"numba-cuda {version('numba-cuda')}, with numba {numba.__version__}"
    except PackageNotFoundError:
        own = f"numba {numba.__version__}'s own CUDA target, no longer maintained"
        return f"{own}: pip install 'tinydiff[cuda12]', or cuda13, brings numba-cuda"


def _tried(f):
    """Call what may fail in many ways, as drivers and compilers do: -> its result or None, its complaint in a line"""
    try:
        return f(), ""
    except Exception as e:
        return None, textwrap.shorten(str(e) or type(e).__name__, 120, placeholder=" ...")


def _ptx(device, capability):
    """Compile a kernel, which takes no card: -> PTX"""
    from numba import float32, void

    return device.cuda.compile_ptx(device._fill.py_func, void(float32[::1], float32), cc=capability)[0]


def _cuda_kernel(device):
    import numpy as np

    began = time.perf_counter()
    _, problem = _tried(device.require)
    if not problem:
        total, problem = _tried(lambda: float((device.array(np.ones(1000, np.float32)) + 1).sum()))
    if problem:
        return f"kernel     none was run: {problem}"
    said = "compiled and run" if total == 2000 else f"WRONG: it gave {total} instead of 2000"
    return f"kernel     {said} in {time.perf_counter() - began:.2f} s"


def choose_kernels(name):
    """Say at the door, not in the middle of the work, that --kernels, or else $TINYDIFF_KERNELS, is none that runs here."""
    from . import kernels

    asked, name = "--kernels" if name else "$TINYDIFF_KERNELS", name or os.environ.get("TINYDIFF_KERNELS", "cpu")
    if name not in kernels.SETS:
        raise Bad(f"{asked} is {name!r}; it can be: {', '.join(kernels.SETS)}")
    if asked == "--kernels" or name == "cuda":
        try:
            kernels.use(name)
        except RuntimeError as e:
            raise Bad(f"{asked} {name}: {e}") from None
