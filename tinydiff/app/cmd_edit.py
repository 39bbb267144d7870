"""The command `edit`: redraw pictures, or a part of them, or change one thing in them."""

from dataclasses import dataclass, field, replace

import numpy as np

from .. import checkpoint
from ..data import to_float, to_uint8
from ..design import edit, masks, restore
from ..design.picture import Given, open_whole, paste
from ..design.pipeline import Pipeline
from ..design.upright import seen
from . import batch, clear, colours, drawing, judges, known, reached, results
from .cli import HOLE, RESTORE, USUAL
from .usage import UsageError, require_memory


@dataclass
class _Edit:
    """What is to be done to a picture: labels before and after, what is drawn anew, None = all."""

    source: batch.Source
    given: Given
    x: np.ndarray  # (1, H, W, C), as large as its edits
    labels: np.ndarray
    wanted: np.ndarray
    anew: np.ndarray | None = None  # (1, H, W, 1) bool
    kind: str = ""  # of the mask, see masks.py
    opaque: np.ndarray | None = None  # alpha of the picture, its hole filled: (H, W) uint8
    said: list = field(default_factory=list)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_edit(args):
    """Run `edit`: args from the parser -> None; writes args.n edits of each picture"""
    pipe = Pipeline.load(args.model)
    _require_one_edit(args)
    colours.require_fitting(args)
    palette = colours.given(args, pipe.model.out)
    n, key = _n(args), clear.require(args, pipe)
    given = batch.sources(args.images)
    sources = batch.chosen(args, given, n)
    steps = drawing.steps_of(args, pipe, _usual_of_edit(args)[1])
    w = args.guidance or (2.0 if args.change else 1.0)
    names = [name for one in sources for name in drawing.names_of(one.name, args.seed, n)]
    batch.require(args, sources, names, args.mask, *colours.files(args))
    drawing.require_room(pipe, n * args.tries)
    asked = reached.wished(pipe, drawing.labels_of(pipe, args.change or args.label))
    read = reached.reader(args, pipe, asked)
    A, cov = _degradation(args, pipe) if args.restore else (None, None)
    edits, left_out = batch.read(sources, _reading(args, pipe, A, len(sources) == 1))
    _require_pasting(args, edits, n)
    lines = dict.fromkeys(line for one in edits for line in one.said)  # each once
    print(*lines, sep="\n", end="\n" * bool(lines))
    _warn(args, pipe, edits)
    draws, each = n * args.tries, _evaluations_of_edit(args, pipe, steps, w)
    bar, pipe = drawing.with_bar(pipe, len(edits) * draws * each * colours.passes(args))

    def draw(also):
        drawn = _drawing(args, pipe, draws, steps, w, A, cov, also)
        chain = batch.in_pieces(args, pipe, edits, draws, drawn)
        for k, one in enumerate(edits):
            if args.change and np.array_equal(one.labels, one.wanted):
                chain[-1][k * draws : (k + 1) * draws] = one.x
        return chain

    with bar:
        papers = colours.papers([one.given for one in edits])
        chain, palette, _ = colours.draw(args, pipe, palette, draw, papers=papers)
    drawing.require_finite(args.model, chain[-1])
    names = [name for one in edits for name in drawing.names_of(one.source.name, args.seed, n)]
    best, told = reached.kept(args, read, asked, chain[-1], names, _advice(args))
    result = _result(args, pipe, given, edits, n, [x[best] for x in chain], told)
    result = replace(result, palette=palette)
    papers = [(one.x, one.opaque, one.given.paper) for one in edits]
    result = clear.cleared(args, pipe, result, key, papers)
    results.write(args, _pasted(result, edits, n) if args.paste else result)
    batch.finish(sources, left_out)


def _warn(args, pipe, edits):
    """Say which pictures the model cannot know; those to be restored are not yet what they were."""
    if args.restore:
        return
    x, paths = np.concatenate([one.x for one in edits]), [one.source.path for one in edits]
    stays = np.concatenate([~one.anew[..., 0] for one in edits]) if args.mask else None
    known.warn(args.model, pipe, x, paths, stays)


def _advice(args):
    """List what may help where an edit does not show what is asked for -> list of str"""
    if args.mask:
        return ["a larger --mask"]
    return ["--mask with --label"] if args.change else ["more --strength"] * bool(args.strength)


def _n(args):
    return args.n or (1 if args.change else 8)


def _reading(args, pipe, A, alone):
    """Make the function that reads a picture and what is to be done to it: batch.Source -> _Edit

    A: how the picture is degraded, see `_degradation`, or None; alone: whether there is only one
    """
    size = pipe.model.size
    shape = (len(A[0]), len(A[2])) if A else (size, pipe.model.out)
    labels, wanted = drawing.labels_of(pipe, args.label), drawing.labels_of(pipe, args.change)
    judge, note = _judge_of(args.model, pipe) if args.change else (None, [])

    def read(source):
        given = drawing.opened(source.path, pipe, *shape)
        x = restore.enlarge(given.x, size, pipe.model.out) if args.restore else given.x
        one = _Edit(source, given, x, labels, wanted)
        if alone or given.box != (0, 0, size, size):
            one.said.append(given.said)
        one.opaque = None if given.alpha is None else _enlarged(given.alpha, size)
        if args.mask:
            _add_mask(one, args.mask)
        if args.change:
            one.labels, one.wanted = _before_after(pipe, judge, given.x, labels, wanted)
            one.said += [*note, *_shown(pipe, one, alone)]
        return one

    return read


def _enlarged(opaque, size):
    """Bring the alpha of a picture to be restored to its size to come -> (size, size) uint8"""
    k = size // len(opaque)
    return opaque.repeat(k, 0).repeat(k, 1)


def _require_pasting(args, edits, n):
    """Refuse --paste where edits cannot go back into their pictures, or not side by side."""
    if not args.paste:
        return
    if any(one.given.box is None for one in edits):
        raise UsageError("--paste is for the models that come with tinydiff, which see a square")
    together = args.sheet or not results.into_folder(args)
    if together and len({one.given.size for one in edits}) > 1:
        give = "give a folder as --out, without --sheet"
        raise UsageError(f"--paste makes these pictures as large as each was: {give}")
    pixels = sum(width * height for width, height in (one.given.size for one in edits))
    require_memory(80 * n * pixels, "picture, or --n")


def _add_mask(one, name):
    """Read the mask of an _Edit: a file, or HOLE, what is erased in the picture itself."""
    path, given = one.source.path, one.given
    try:
        if name == HOLE:
            one.anew, one.kind, how = masks.open_hole(path, given)
        else:
            one.anew, one.kind, how = masks.open_mask(name, path, given)
    except ValueError as e:
        raise UsageError(f"--mask {e}") from None
    if one.kind == masks.ERASED and one.opaque is not None:
        one.opaque = np.where(one.anew[0, ..., 0], np.uint8(255), one.opaque)
    one.said.append(how + "; the mask is of the picture as turned" * seen(path)[1])


def _judge_of(model, pipe):
    """Find who reads a model's pictures -> see judges.reader, and []; or None, and why as a line"""
    try:
        return judges.reader(model, pipe), []
    except checkpoint.CheckpointError as e:
        return None, [f"{e}: what --label does not say of this one is left open"]


def _before_after(pipe, judge, x, labels, wanted):
    """Tell what a picture x (1, H, W, C) shows, and what it should -> two rows of labels

    What labels leave open a classifier reads, if there is one: see `_judge_of`.
    """
    dropped = np.array([len(values) for values in pipe.labels.values()])
    if judge:
        shown = [log_p[0].argmax() for log_p in judge(x)]
        labels = np.where(labels == dropped, shown, labels)
    return labels, np.where(wanted == dropped, labels, wanted)


def _shown(pipe, one, alone):
    """Say what labels an _Edit has before and after; in a line, of many, only what changes."""

    def show(row, which):
        named = zip(pipe.labels.items(), row, which, strict=True)
        return " ".join(f"{name}={[*v, '?'][i]}" for (name, v), i, asked in named if asked)

    differs, all_ = one.wanted != one.labels, np.ones(len(one.labels), bool)
    if not alone:
        before, after = (show(row, differs) for row in (one.labels, one.wanted))
        changes = f"{before}, to be {after}" if differs.any() else "shows this already: it stays"
        return [f"{one.source.path}: {changes}"]
    if not differs.any():
        shows = show(one.labels, all_)
        raise UsageError(f"--change asks for nothing new: the picture shows {shows}")
    return [f"before: {show(one.labels, all_)}", f"wanted: {show(one.wanted, all_)}"]


# --- drawing ---


def _drawing(args, pipe, n, steps, w, A, cov, also):
    """Make the function that edits some pictures n times each: list of _Edit, rng -> see _edited"""

    def draw(part, rng):
        each = lambda rows: np.repeat(np.concatenate(list(rows)), n, axis=0)
        x, labels = each(one.given.x for one in part), each([one.labels] for one in part)
        wanted = each([one.wanted] for one in part)
        keep = each(~one.anew for one in part) if args.mask else None
        return _edited(args, pipe, x, labels, rng, steps, w, A, cov, keep, wanted, also)

    return draw


def _edited(args, pipe, x, labels, rng, steps, w, A, cov, keep, wanted, also):
    """Edit pictures x (N, h, w, c), each with a row of labels, as `edit` was asked to

    -> list of (N, H, W, C), x_T .. x_0
    """
    how = _usual_of_edit(args)[2]
    if args.restore:
        sigma_y = args.sigma or RESTORE[args.restore]
        return pipe.restore(labels, x, A, sigma_y, cov, rng, steps, w, how, True, also)
    if args.change:
        return pipe.change(x, labels, wanted, rng, w, steps, True, also)
    eps_model, times, s = pipe.eps_model(labels, w), pipe.grid(steps, how), pipe.s
    eps_model = also(eps_model) if also else eps_model
    if args.mask:
        options = {"rounds": args.rounds or 5, "wide": True}
        chain = edit.inpaint(eps_model, s, x, keep, rng, times, clip=1.0, **options)
    else:
        chain = edit.image_to_image(eps_model, s, x, args.strength, rng, times, clip=1.0)
    return [np.asarray(step) for step in chain]


def _result(args, pipe, given, edits, n, chain, told):
    """Put together what was drawn, n edits of each picture, and what each is read as -> Result"""
    drawn, count, done = chain[-1], f"{n} times", "changed" if args.change else "drawn anew"
    before, after, says, names = {}, None, [], []
    with_holes = args.mask and (args.sheet or any(one.kind != masks.WHITE for one in edits))
    for one in edits:
        before[f"given {one.source.name}"] = one.x[0]
        if with_holes:
            before[f"hole of {one.source.name}"] = masks.shown(one.x, one.anew)[0]
        labels = drawing.said(pipe, one.wanted if args.change else one.labels)
        about = {"seed": f"{args.seed}", "source": one.source.path.name, "labels": labels}
        says += [about | batch.number_of(given, one.source, k, n) for k in range(n)]
        names += drawing.names_of(one.source.name, args.seed, n)
    says = [one | more for one, more in zip(says, told, strict=True)]
    words = f"then {count} {done}"
    if args.restore:
        after = drawn.reshape(len(edits), n, *drawn.shape[1:]).mean(1)
        words = f"{count} what it may have been, and their mean, which has the least error"
    around = n + (len(before) + (0 if after is None else len(after))) // len(edits)
    columns = batch.columns(edits, around, pipe.model.size, 10 if args.restore else 9)
    words = f"{batch.said(edits)}, {words}"
    drawn = drawn, names, says, words, columns, 6
    return results.Result(*drawn, before=before, after=after, groups=len(edits), chain=chain)


def _pasted(result, edits, n):
    """Put the edits back into the pictures that were given, at their own sizes -> results.Result"""
    before, images, bare, alphas = {}, [], [], []
    drawn = result.images if result.bare is None else result.bare
    for k, one in enumerate(edits):
        part, paper = slice(k * n, (k + 1) * n), one.given.paper
        rgb = np.broadcast_to(drawn[part], (*drawn[part].shape[:3], 3))
        opaque = np.ones_like(rgb[..., :1])
        if result.alpha is not None:
            opaque = to_float(result.alpha[part, ..., None])
        whole = np.dstack(open_whole(one.source.path))
        x = one.x if result.palette is None else colours.nearest(one.x, result.palette)
        changed = np.abs(result.images[part] - x).max(-1) > 1e-4
        back = paste(whole, np.concatenate([rgb, opaque], -1), changed, one.given.box)
        on_paper = lambda x, paper=paper: paper + (x[..., :3] - paper) * (x[..., 3:] + 1) / 2
        before[f"given {one.source.name}"] = on_paper(whole)
        images, bare = [*images, *on_paper(back)], [*bare, *back[..., :3]]
        alphas += list(to_uint8(back[..., 3]))
    alpha = alphas if any((a < 255).any() for a in alphas) else None
    zoom, around = max(1, 96 // max(images[0].shape)), len(before) // len(edits) + n
    found = {"images": images, "alpha": alpha, "bare": bare}
    if len({x.shape for x in images}) == 1:
        found = {name: x if x is None else np.stack(x) for name, x in found.items()}
    return replace(result, **found, before=before, chain=None, zoom=zoom, columns=around)


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
    if args.paste and (args.restore or results.animations(args)):
        raise UsageError(
            "--paste is for edits at the picture's own size: leave out --restore and --frames"
        )
    if args.paste and args.transparent not in (None, True):
        why = "--paste keeps the picture around the edit, which has no key colour"
        raise UsageError(f"{why}: give --transparent without a colour, or leave out --paste")
    if args.sigma and not args.restore:
        raise UsageError("--sigma is for --restore: it says how noisy the picture is")


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
