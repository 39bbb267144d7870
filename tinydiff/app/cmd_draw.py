"""The commands that draw: `sample`, `edit`, `restyle`, `alphabet`, `gallery`."""

import sys
from dataclasses import replace

import numpy as np

from .. import checkpoint, data, plot
from ..collect.source import number
from ..design import colour, edit, restore
from ..design.picture import open_image, open_letter, open_mask, seen
from ..design.pipeline import PER_PIXEL, Pipeline, evaluations, parse_labels
from ..measure import classifier
from . import gallery, judges, own, together
from .cli import RESTORE, STEPS, USUAL
from .progress import Bar
from .usage import (
    UsageError,
    pictures_named,
    require_figures,
    require_like,
    require_memory,
    require_output,
    require_picture,
)

LARGEST = 320 * 320  # pixels: more take seconds per step, which nothing can interrupt
MOST_VALUES = 1024  # of pictures whose covariance is measured whole; of larger ones its main part
NOT_TEXTURES = ("digits", "fashion", "portraits")  # what they show has its place in the picture


def _steps(args, pipe, usual):
    """Check --steps -> int; without it the usual number, or all that the model has"""
    T = pipe.s.T
    if args.steps and args.steps > T:
        why = f"the steps that this model was trained with; got {args.steps}"
        raise UsageError(f"--steps takes at most {T}, {why}")
    return args.steps or min(usual, T)


def _labels(pipe, words):
    """Read the words behind --label and its kin -> a row of labels, ints"""
    if len(pipe.labels) != len(pipe.model.classes):
        raise UsageError("the model's file does not name its labels: draw with it from Python")
    try:
        return parse_labels(pipe.labels, words or [])
    except ValueError as e:
        raise UsageError(str(e)) from None


def _require_memory(pipe, n, steps=0, size=None, animated=True):
    """Refuse to draw n images if they, and the steps on the way, need too much memory.

    Of those that are drawn at once all steps are kept, of the others if they are animated.
    """
    H, W = size or (pipe.model.size, pipe.model.size)
    inside, image = PER_PIXEL * pipe.model.width, 4 * pipe.model.out
    at_once = len(pipe.pieces(range(n), size)[0]) if steps else n
    kept = (n if animated else at_once) * steps + 2 * n
    less = "--n or --size" if size else "--n"
    require_memory(H * W * (at_once * inside + kept * image), less)


def _require_finite(name, *drawn):
    """Refuse to save what is no picture, as the weights of a file may be finite but absurd."""
    if not all(np.isfinite(x).all() for x in drawn):
        raise UsageError(f"what {name} draws is not finite: its weights are no trained model's")


def _drawing(pipe, work):
    """Show a bar while a Pipeline draws. work: network evaluations, of one image each -> Bar, pipe

    Use: bar, pipe = _drawing(pipe, work), then draw within `with bar:`.
    """
    bar = Bar(work, "drawing")
    return bar, replace(pipe, tick=bar.tick)


# --- sample ---


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_sample(args):
    """Run `sample`: args from the parser -> None; writes a picture of args.n images"""
    pipe = Pipeline.load(args.model)
    _require_fitting(args)
    (sampler, steps, times), size = _sampler(args, pipe), _size(args, pipe)
    rows = (_labels(pipe, words) for words in (args.label, args.avoid))
    labels, avoid = (np.tile(row, (args.n, 1)) for row in rows)
    also = _colours(args, pipe)
    require_picture(args.out)
    beside = args.out.with_stem(f"{args.out.stem}_3x3") if args.tile else None
    for path in filter(None, (beside, *_animations(args))):
        require_output(path)
    _require_memory(pipe, args.n, pipe.s.T if sampler == "ddpm" else steps, size, _animations(args))
    if args.tile and pipe.dataset in NOT_TEXTURES:
        why = "what has its place in a picture fades in a tile"
        print(f"tiles suit textures such as patterns: of {pipe.dataset}, {why}", file=sys.stderr)
    if not args.label and len(pipe.labels) == 1:
        labels = np.arange(args.n)[:, None] * pipe.model.classes[0] // args.n
    team = together.team()
    together.require_enough(args.n, "--n")
    mine = range(args.n)[team.part(args.n)]
    bar, pipe = _drawing(pipe, len(mine) * evaluations(pipe.s, sampler, steps, args.guidance))
    with bar:
        how = (sampler, steps, times), size, also
        chain = [team.gather(x) for x in _in_pieces(args, pipe, mine, labels, avoid, *how)]
    if team.rank:
        return
    _require_finite(args.model, chain[-1])
    columns = min(args.n, max(1, 16 * pipe.model.size // size[1]))
    picture = plot.save_png(plot.sheet(chain[-1], columns, scale=4), args.out)
    print(f"{picture}: {number(args.n, 'image')}")
    if args.tile:
        again = np.tile(chain[-1][:4], (1, 3, 3, 1))
        wall = plot.sheet(again, len(again), gap=4, scale=4)
        repeated = plot.save_png(wall, beside)
        print(f"{repeated}: the first {len(again)}, each repeated 3 x 3")
    for path in _animations(args):
        frames, less = plot.frames(chain, columns), ""
        if path.suffix == ".gif":
            with Bar(len(frames), "writing the animation", "pictures") as bar:
                plot.save_gif(frames, path, tick=bar.tick)
            less = "" if plot.fits_gif(frames) else " in 256 colours each; --apng keeps them all"
        else:
            plot.save_apng(frames, path)
        print(f"{path}: the chain, {number(len(chain) - 1, 'step')}{less}")


def _in_pieces(args, pipe, pictures, labels, avoid, way, size, also):
    """Draw pictures, some at a time.

    pictures: which of the rows of labels and avoid; way: sampler, steps, times
    -> list of (N, H, W, C), x_T .. x_0 where an animation is asked for, else x_0 alone
    """

    def draw(rows, rng):
        wished, without, w = labels[rows], avoid[rows], args.guidance
        if args.tile:
            chain = pipe.tile(wished, rng, *way[1:], w, without, size)
        else:
            chain = pipe.draw(wished, rng, *way, w, without, size=size, also=also)
        return chain if _animations(args) else chain[-1:]

    return pipe.in_pieces(draw, pictures, args.seed, size)


def _sampler(args, pipe):
    """Choose sampler, steps and times: what is asked for, else what is usual; steps 1 .. T"""
    kind = " --tile" if args.tile else " --palette" if args.palette or args.main_colour else ""
    usual = (args.sampler, STEPS, "even") if args.sampler else USUAL[f"sample{kind}"]
    return usual[0], _steps(args, pipe, usual[1]), args.times or usual[2]


def _animations(args):
    """Name the files of the whole chain that `sample` was asked for, beside the picture -> Paths"""
    wanted = {".gif": args.gif, ".apng": args.apng}
    return [args.out.with_suffix(suffix) for suffix, asked in wanted.items() if asked]


def _require_fitting(args):
    """Refuse options of `sample` that do not go together."""
    if args.steps and args.sampler == "ddpm":
        raise UsageError("--steps is for the other samplers; ddpm visits every step")
    if args.avoid and args.guidance <= 1:
        why = "without it nothing leads away from anything"
        raise UsageError(f"--avoid needs --guidance above 1: {why}")
    if args.sampler == "ddpm" and args.times:
        raise UsageError("--times is for the other samplers; ddpm visits every step")
    if args.tile and args.sampler not in (None, "ddim"):
        raise UsageError(f"--tile draws with ddim, not with {args.sampler}: leave out --sampler")
    if (args.gif or args.apng) and args.out.suffix in (".gif", ".apng"):
        give = f"give --out {args.out.with_suffix('.png')}"
        raise UsageError(f"--gif and --apng write the chain beside the picture: {give}")
    if args.pull and not (args.palette or args.main_colour):
        raise UsageError("--pull is for --palette or --main-colour: name a colour")


def _size(args, pipe):
    """Check --size -> (H, W), the model's own without it"""
    own, unit = pipe.model.size, pipe.model.divisor
    size = args.size or (own, own)
    if min(size) < own or any(side % unit for side in size):
        takes = f"sides of at least {own}, as the model was trained with, divisible by {unit}"
        raise UsageError(f"--size takes {takes}; got {size[0]}x{size[1]}")
    if size[0] * size[1] > LARGEST:
        takes = f"at most {LARGEST} pixels: attention looks at all pairs of places"
        raise UsageError(f"--size takes {takes}; got {size[0]}x{size[1]}")
    return size


def _colours(args, pipe):
    """Read --palette, --main-colour and --pull -> further guidance for Pipeline.draw, or None"""
    if not (args.palette or args.main_colour):
        return None
    try:
        palette = [colour.parse(text) for text in args.palette or []] or None
        main = colour.parse(args.main_colour) if args.main_colour else None
    except ValueError as e:
        raise UsageError(str(e)) from None
    own = "--palette and --main-colour draw single pictures of the model's own size"
    if args.tile or args.size:
        raise UsageError(f"{own}: leave out --tile and --size")
    if pipe.model.out != 3:
        suited = "--palette and --main-colour are for models of colour pictures"
        raise UsageError(f"{args.model} draws in grey: {suited}")
    cov = _covariance(args, pipe) if args.main_colour else _variance(args, pipe)
    wanted = pipe.s, cov, pipe.model.size, palette, main, args.pull or 1.0
    return lambda eps_model: colour.coloured(eps_model, *wanted)


# --- edit ---


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_edit(args):
    """Run `edit`: args from the parser -> None; writes the picture and args.n edits of it"""
    pipe = Pipeline.load(args.model)
    _require_one_edit(args)
    require_picture(args.out, args.image, args.mask)
    usual, how = (1, 2.0) if args.change else (8, 1.0), _usual_of_edit(args)
    n, w, steps = args.n or usual[0], args.guidance or usual[1], _steps(args, pipe, how[1])
    _require_memory(pipe, n)
    A, cov = _degradation(args, pipe) if args.restore else (None, None)
    shape = (len(A[0]), len(A[2])) if A else (pipe.model.size, pipe.model.out)
    x, said, fitted = _opened(args.image, pipe, *shape)
    lines, keep = [said], None
    if args.mask:
        keep, how = _mask(args, pipe, fitted)
        lines.append(how)
    labels, wanted = _labels(pipe, args.label), _labels(pipe, args.change)
    if args.change:
        labels, wanted, shows = _before_after(args.model, pipe, x, labels, wanted)
        lines.append(shows)
    print("\n".join(lines))
    rng, labels = np.random.default_rng(args.seed), np.tile(labels, (n, 1))
    bar, pipe = _drawing(pipe, n * _evaluations_of_edit(args, pipe, steps, w))
    with bar:
        drawn = _edited(args, pipe, x, labels, rng, steps, w, A, cov, keep, wanted)
    if args.restore:
        x = restore.enlarge(x, pipe.model.size, pipe.model.out)
        shown, columns = [x, drawn, drawn.mean(0, keepdims=True)], min(n + 2, 10)
        what = f"{n} times what it may have been, and their mean, which has the least error"
    else:
        shown, columns = [x, np.asarray(drawn)], min(n + 1, 9)
        what = f"then {n} times {'changed' if args.change else 'drawn anew'}"
    _require_finite(args.model, *shown)
    sheet = plot.sheet(np.concatenate(shown), columns, scale=6)
    print(f"{plot.save_png(sheet, args.out)}: the picture, {what}")


def _edited(args, pipe, x, labels, rng, steps, w, A, cov, keep, wanted):
    """Edit a picture x (1, h, w, c), once for each row of labels, as `edit` was asked to

    -> (N, H, W, C)
    """
    if args.restore:
        sigma_y = args.sigma or RESTORE[args.restore]
        return pipe.restore(labels, x, A, sigma_y, cov, rng, steps, w, _usual_of_edit(args)[2])
    n, s = len(labels), pipe.s
    x0, times = np.repeat(x, n, axis=0), pipe.grid(steps, _usual_of_edit(args)[2])
    if args.change:
        return pipe.change(x0, labels, np.tile(wanted, (n, 1)), rng, w, steps)
    eps_model = pipe.eps_model(labels, w)
    if args.mask:
        options, keep = {"rounds": args.rounds or 5, "wide": True}, np.repeat(keep, n, axis=0)
        *_, drawn = edit.inpaint(eps_model, s, x0, keep, rng, times, clip=1.0, **options)
    else:
        *_, drawn = edit.image_to_image(eps_model, s, x0, args.strength, rng, times, clip=1.0)
    return np.asarray(drawn)


def _usual_of_edit(args):
    """Look up sampler, steps and times of what `edit` was asked to do"""
    asked = {"--mask": args.mask, "--restore": args.restore, "--change": args.change}
    return USUAL["edit " + next((name for name in asked if asked[name]), "--strength")]


def _evaluations_of_edit(args, pipe, steps, w):
    """Count how often one result of `edit` evaluates the network -> int"""
    each = 1 if w == 1 else 2
    if args.restore:
        return steps * each
    if args.change:
        below = pipe.steps_below(0.8, steps)
        return 2 * 5 + below + below * each  # what to keep, then to the noise and back
    if args.mask:
        return ((steps - 1) * (args.rounds or 5) + 1) * each
    return pipe.steps_below(args.strength, steps, _usual_of_edit(args)[2]) * each


def _require_one_edit(args):
    """Refuse options of `edit` that do not go together."""
    if args.rounds and not args.mask:
        raise UsageError("--rounds is for --mask: how often the parts are brought to agree")
    if args.sigma and not args.restore:
        raise UsageError("--sigma is for --restore: it says how noisy the picture is")


def _opened(path, pipe, side, channels):
    """Read a picture to be edited as a model takes it, of a user's pictures as it was trained

    -> x (1, side, side, channels), what was done to it, what fits a mask to it, see open_mask
    """
    if "plan" in (pipe.pictures or {}):
        return own.as_trained(path, pipe.pictures, pipe.model.size, side, channels)
    return *open_image(path, side, channels), None


def _mask(args, pipe, fitted):
    """Read --mask -> what to keep (1, H, W, 1) bool, and what was done to the mask"""
    (its_size, turned), (size, _) = seen(args.image), seen(args.mask)
    if size != its_size:
        sizes = ["{} x {}".format(*each) for each in (size, its_size)]
        give = "give a mask of the picture's size"
        if turned and size == its_size[::-1]:
            give = "the picture is turned as it was taken: turn the mask, too"
        raise UsageError(f"--mask is {sizes[0]}, the picture {sizes[1]}: {give}")
    try:
        anew, how = open_mask(args.mask, pipe.model.size, fitted)
    except ValueError as e:
        raise UsageError(f"--mask {e}") from None
    return ~anew, how + "; the mask is of the picture as turned" * turned


def _before_after(model, pipe, x, labels, wanted):
    """Tell what a picture x (1, H, W, C) shows, and what it should: -> two rows of labels, a text

    What labels leave open a classifier reads, if there is one for the model's pictures.
    """
    values, note = list(pipe.labels.values()), ""
    dropped = np.array([len(v) for v in values])
    try:
        own = pipe.pictures
        judge, its = judges.kept(model, pipe) if own else classifier.load(pipe.dataset)
        alike = (its["size"], its["channels"]) == (pipe.model.size, pipe.model.out)
        why = f"the classifier of {pipe.dataset} reads other pictures"
        fits = alike and all(its["labels"].get(name) == v for name, v in pipe.labels.items())
    except checkpoint.CheckpointError as e:
        fits, why = False, e
    if fits:
        read = dict(zip(its["labels"], judge(x), strict=False))
        shown = [np.asarray(read[name])[0].argmax() for name in pipe.labels]
        labels = np.where(labels == dropped, shown, labels)
    else:
        note = f"{why}: what --label does not say of this one is left open\n"
    after = np.where(wanted == dropped, labels, wanted)

    def show(row):
        named = zip(pipe.labels, values, row, strict=True)
        return " ".join(f"{name}={[*v, '?'][i]}" for name, v, i in named)

    if np.array_equal(after, labels):
        raise UsageError(f"--change asks for nothing new: the picture shows {show(labels)}")
    return labels, after, f"{note}before: {show(labels)}\nafter:  {show(after)}"


def _degradation(args, pipe):
    """Find what --restore names, see restore.degrade, and the covariance of the data

    -> rows (h, H), columns (w, W), channels (c, C); see guide.principal
    """
    size, channels = pipe.model.size, pipe.model.out
    k = {"shrink2": 2, "shrink4": 4}.get(args.restore, 1)
    if args.restore == "grey" and channels == 1:
        suited = "--restore grey is for models of colour pictures"
        raise UsageError(f"{args.model} draws in grey: {suited}")
    if size % k:
        what = f"which --restore {args.restore} cannot divide by {k}"
        raise UsageError(f"{args.model} draws {size} pixels per side, {what}")
    luma = (0.299, 0.587, 0.114)  # as Pillow, and most programs, make a picture grey
    if args.restore == "grey":
        A = restore.grey(size, channels, luma)
    elif args.restore == "blur":
        A = restore.blur(size, channels, 1.0)
    else:
        A = restore.shrink(size, channels, k)
    return A, _covariance(args, pipe)


def _covariance(args, pipe):
    """Measure the covariance of the images that a model has learned -> see guide.principal"""
    if pipe.model.size**2 * pipe.model.out <= MOST_VALUES:
        return restore.covariance(_learned(args, pipe, 20_000))
    return restore.principal(_learned(args, pipe, 2_000))


def _variance(args, pipe):
    """Measure how a value of the images that a model has learned varies, on average -> float"""
    return float(_learned(args, pipe, 2_000).var(0, ddof=1).mean())


def _learned(args, pipe, most):
    """Load at most so many of the images that a model has learned -> (M, H, W, C)"""
    if pipe.pictures:
        back = "put them back, or start this in the folder where they lie"
        dataset, _ = own.of_model(args.model, pipe, how=back)
    else:
        dataset = pictures_named(pipe.dataset)
    require_like(args.model, pipe, dataset)
    x = dataset.train
    return np.asarray(x[:: -(-len(x) // most)])


# --- restyle, alphabet ---


def _pipeline_for(args, label, command):
    """Load the model of `restyle` or `alphabet`; refuse one that was trained for something else."""
    pipe = Pipeline.load(args.model)
    if not pipe.paired or list(pipe.labels) != [label]:
        was = f"--model {args.model} was trained on {pipe.dataset}"
        raise UsageError(f"{was}: give one of `train {command}`")
    return pipe


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_restyle(args):
    """Run `restyle`: args from the parser -> None; writes the picture and args.n restyled"""
    pipe = _pipeline_for(args, "style", "emoji")
    sampler, usual, _ = USUAL["restyle" if args.way == "source" else "restyle --way"]
    steps, styles = _steps(args, pipe, usual), pipe.labels["style"]
    for option, name in (("--to", args.to), ("--from", args.of)):
        if name is not None and name not in styles:
            raise UsageError(f"{option}: no style {name!r}; there are: {', '.join(styles)}")
    if args.of and args.way != "inversion":
        why = "the other ways don't ask what style a picture has"
        raise UsageError(f"--from is for --way inversion; {why}")
    if args.way == "inversion" and not args.of:
        which = f"the style of the picture: {', '.join(styles)}"
        raise UsageError(f"--way inversion needs --from, {which}")
    if args.strength and args.way == "source":
        raise UsageError("--strength is for --way inversion or noise")
    _require_memory(pipe, args.n)
    x, said = open_image(args.image, pipe.model.size, pipe.model.out)
    require_picture(args.out, args.image)
    print(said)
    images, rng = np.repeat(x, args.n, axis=0), np.random.default_rng(args.seed)
    w = args.guidance or (1.5 if args.way == "source" else 2.0)
    strength, each = args.strength or 0.7, 1 if w == 1 else 2
    work = steps * each
    if args.way != "source":
        work = pipe.steps_below(strength, steps) * (each + 2 * (args.way == "inversion"))
    bar, pipe = _drawing(pipe, args.n * work)
    with bar:
        how = args.way, args.of, steps, w, strength, sampler
        drawn = pipe.restyle(images, args.to, rng, *how)
    _require_finite(args.model, drawn)
    sheet = plot.sheet(np.concatenate([x, drawn]), min(args.n + 1, 9), scale=6)
    picture = plot.save_png(sheet, args.out)
    print(f"{picture}: the picture, then {args.n} times in the style {args.to}")


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_alphabet(args):
    """Run `alphabet`: args from the parser -> None; writes args.n whole alphabets"""
    pipe = _pipeline_for(args, "letter", "typefaces")
    sampler, usual, _ = USUAL["alphabet"]
    steps, letters, size = _steps(args, pipe, usual), pipe.labels["letter"], pipe.model.size
    require_picture(args.out, *(word.partition("=")[2] for word in args.known))
    known = _known_letters(args, letters, size)
    given = np.zeros((len(letters), size, size, 1), np.float32)
    for i, letter in enumerate(letters):
        given[i] = known.get(letter, 0)
    rng = np.random.default_rng(args.seed)
    w, work = args.guidance, args.n * len(letters)
    bar, pipe = _drawing(pipe, work * evaluations(pipe.s, sampler, steps, w))
    with bar:
        drawn = [pipe.alphabet(known, rng, steps, w, sampler) for _ in range(args.n)]
    _require_finite(args.model, *drawn)
    sheet = plot.sheet(np.concatenate([given, *drawn]), len(given), scale=3)
    picture, names = plot.save_png(sheet, args.out), "".join(sorted(known))
    stay = "in which these letters stay as they are"
    print(f"{picture}: what was given ({names}), then {args.n} alphabets, {stay}")


def _known_letters(args, letters, size):
    """Read the letters to start from: pictures, as A=a.png, or those of a typeface

    -> {letter: (H, W, 1)}, white on black
    """
    capitals = f"from {letters[0]} to {letters[-1]}"
    if args.letters and (wrong := [c for c in args.letters if c not in letters]):
        raise UsageError(f"--letters takes capitals {capitals}; got {wrong[0]!r}")
    if len(args.known) == 1 and "=" not in args.known[0]:
        return _letters_of_face(args, letters)
    if args.letters:
        instead = "pictures are named one by one, as A=a.png"
        raise UsageError(f"--letters chooses among the letters of a typeface; {instead}")
    known = {}
    for word in args.known:
        letter, _, path = word.partition("=")
        if letter not in letters or not path:
            wanted = f"LETTER=PICTURE with a capital {capitals}, as A=a.png"
            raise UsageError(f"{word!r} is not {wanted}")
        if letter in known:
            raise UsageError(f"{letter} is given twice: one picture per letter")
        try:
            (known[letter],), said = open_letter(path, size)
        except ValueError as e:
            raise UsageError(str(e)) from None
        print(said)
    return known


def _letters_of_face(args, letters):
    """Take known letters from a typeface -> {letter: (H, W, 1)}"""
    (name,), faces = args.known, data.load_styles("typefaces")
    if name not in faces.styles:
        instead = f"give pictures, as A=a.png, or one of: {', '.join(faces.styles)}"
        raise UsageError(f"no typeface {name!r}; {instead}")
    f = faces.styles.index(name)
    seen = [c for c, hidden in zip(letters, faces.test[:, f], strict=True) if not hidden]
    return {c: faces.images[letters.index(c), f] for c in args.letters or seen}


# --- gallery ---


def cmd_gallery(args):
    """Run `gallery`: args from the parser -> None; writes one page with a row for each use"""
    require_picture(args.out)
    require_figures()
    with Bar(gallery.EVALUATIONS, "drawing the gallery") as bar:
        rows = list(gallery.rows(args.seed, bar.tick))
    picture = plot.save_figure(gallery.page(rows), args.out)
    print(f"{picture}: {len(rows)} rows, all drawn just now")
