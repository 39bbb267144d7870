"""The command `edit`: redraw a picture, or a part of it, or change one thing in it."""

from pathlib import Path

import numpy as np

from .. import checkpoint
from ..design import edit, restore
from ..design.picture import open_image, open_mask, seen
from ..design.pipeline import Pipeline
from ..measure import classifier
from . import colours, drawing, judges, own, results
from .cli import RESTORE, USUAL
from .usage import UsageError


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_edit(args):
    """Run `edit`: args from the parser -> None; writes the picture and args.n edits of it"""
    pipe = Pipeline.load(args.model)
    _require_one_edit(args)
    colours.require_fitting(args)
    palette = colours.given(args, pipe.model.out)
    usual, how = (1, 2.0) if args.change else (8, 1.0), _usual_of_edit(args)
    n, w = args.n or usual[0], args.guidance or usual[1]
    steps, names = drawing.steps_of(args, pipe, how[1]), drawing.names_of(args, n)
    results.require(args, names, args.image, args.mask)
    drawing.require_room(pipe, n)
    A, cov = _degradation(args, pipe) if args.restore else (None, None)
    shape = (len(A[0]), len(A[2])) if A else (pipe.model.size, pipe.model.out)
    x, said, fitted = _opened(args.image, pipe, *shape)
    lines, keep = [said], None
    if args.mask:
        keep, how = _mask(args, pipe, fitted)
        lines.append(how)
    labels, wanted = drawing.labels_of(pipe, args.label), drawing.labels_of(pipe, args.change)
    if args.change:
        labels, wanted, shows = _before_after(args.model, pipe, x, labels, wanted)
        lines.append(shows)
    print("\n".join(lines))
    labels, work = np.tile(labels, (n, 1)), n * _evaluations_of_edit(args, pipe, steps, w)
    bar, pipe = drawing.with_bar(pipe, work * colours.passes(args))

    def draw(also):
        rng = np.random.default_rng(args.seed)
        return _edited(args, pipe, x, labels, rng, steps, w, A, cov, keep, wanted, also)

    with bar:
        chain, palette, _ = colours.draw(args, pipe, palette, draw)
    drawn, after, columns = chain[-1], None, min(n + 1, 9)
    words = f"the picture, then {n} times {'changed' if args.change else 'drawn anew'}"
    if args.restore:
        x = restore.enlarge(x, pipe.model.size, pipe.model.out)
        after, columns = drawn.mean(0, keepdims=True), min(n + 2, 10)
        words = f"the picture, {n} times what it may have been, and their mean, which has the "
        words += "least error"
    drawing.require_finite(args.model, *chain[-1:])
    labels = drawing.said(pipe, wanted if args.change else labels[0])
    says = [{"seed": f"{args.seed}", "source": Path(args.image).name, "labels": labels}] * n
    before = {Path(args.image).stem: x[0]}
    drawn = drawn, names, says, words, columns, 6
    results.write(
        args, results.Result(*drawn, before=before, after=after, chain=chain, palette=palette)
    )


def _edited(args, pipe, x, labels, rng, steps, w, A, cov, keep, wanted, also=None):
    """Edit a picture x (1, h, w, c), once for each row of labels, as `edit` was asked to

    also: further guidance, see Pipeline.draw -> list of (N, H, W, C), x_T .. x_0
    """
    if args.restore:
        sigma_y = args.sigma or RESTORE[args.restore]
        times = _usual_of_edit(args)[2]
        return pipe.restore(labels, x, A, sigma_y, cov, rng, steps, w, times, True, also)
    n, s = len(labels), pipe.s
    x0, times = np.repeat(x, n, axis=0), pipe.grid(steps, _usual_of_edit(args)[2])
    if args.change:
        return pipe.change(x0, labels, np.tile(wanted, (n, 1)), rng, w, steps, True, also)
    eps_model = pipe.eps_model(labels, w)
    eps_model = also(eps_model) if also else eps_model
    if args.mask:
        options, keep = {"rounds": args.rounds or 5, "wide": True}, np.repeat(keep, n, axis=0)
        chain = edit.inpaint(eps_model, s, x0, keep, rng, times, clip=1.0, **options)
    else:
        chain = edit.image_to_image(eps_model, s, x0, args.strength, rng, times, clip=1.0)
    return [np.asarray(step) for step in chain]


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
    return A, drawing.covariance(args, pipe)
