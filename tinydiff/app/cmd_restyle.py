"""The commands `restyle` and `alphabet`, whose networks look at what they are given."""

from dataclasses import replace
from functools import partial

import numpy as np

from .. import data
from ..design.picture import ink_of, open_given, open_letter
from ..design.pipeline import Pipeline, evaluations
from . import batch, clear, colours, drawing, fonts, keeping, results
from .cli import USUAL
from .usage import UsageError


def _pipeline_for(args, label, command):
    """Load the model of `restyle` or `alphabet`; refuse one that was trained for something else."""
    pipe = Pipeline.load(args.model)
    if not pipe.paired or list(pipe.labels) != [label]:
        was = f"--model {args.model} was trained on {pipe.dataset}"
        raise UsageError(f"{was}: give one of `train {command}`")
    return pipe


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_restyle(args):
    """Run `restyle`: args from the parser -> None; writes each picture args.n times restyled"""
    pipe = _pipeline_for(args, "style", "emoji")
    sampler, usual, _ = USUAL["restyle" if args.way == "source" else "restyle --way"]
    steps, styles = drawing.steps_of(args, pipe, usual), pipe.labels["style"]
    _require_fitting(args, styles)
    colours.require_fitting(args)
    palette, fill = colours.given(args, pipe.model.out), keeping.fill(args)
    drawing.require_room(pipe, args.n)
    n, key, given = args.n, clear.require(args, pipe), batch.sources(args.images)
    sources = batch.chosen(args, given, n)
    names = [name for one in sources for name in drawing.names_of(one.name, args.seed, n)]
    batch.require(args, sources, names, *colours.files(args))
    size, channels = pipe.model.size, pipe.model.out
    opened, left_out = batch.read(sources, lambda one: (one, open_given(one.path, size, channels)))
    shown = np.concatenate([given.x for _, given in opened])
    print(*(given.said for _, given in opened), *keeping.doubts(shown, fill), sep="\n")
    w = args.guidance or (1.5 if args.way == "source" else 2.0)
    strength, each = args.strength or 0.7, 1 if w == 1 else 2
    work = steps * each
    if args.way != "source":
        work = pipe.steps_below(strength, steps) * (each + 2 * (args.way == "inversion"))
    holding = keeping.further(args, pipe)
    bar, pipe = drawing.with_bar(pipe, len(opened) * n * work * colours.passes(args))

    def restyled(part, rng, also=None):
        images = np.repeat(np.concatenate([given.x for _, given in part]), n, axis=0)
        images = keeping.shown(images, fill)
        also = holding(images, also)
        how = args.way, args.of, steps, w, strength, sampler
        return pipe.restyle(images, args.to, rng, *how, whole=True, also=also)

    with bar:
        ours = lambda also: batch.in_pieces(args, pipe, opened, n, partial(restyled, also=also))
        papers = colours.papers([given for _, given in opened])
        chain, palette, told = colours.draw(args, pipe, palette, ours, papers=papers)
    drawing.require_finite(args.model, chain[-1])
    for line in told + keeping.strayed(args, np.repeat(shown, n, axis=0), chain[-1]):
        print(line)
    result = replace(_restyled(args, given, opened, chain), palette=palette)
    papers = [(given.x, given.alpha, given.paper) for _, given in opened]
    results.write(args, clear.cleared(args, pipe, result, key, papers))
    batch.finish(sources, left_out)


def _require_fitting(args, styles):
    """Refuse styles that the model does not have, and options that do not go together."""
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


def _restyled(args, sources, opened, chain):
    """Put together what was drawn, args.n times each picture -> results.Result"""
    n, names, says = args.n, [], []
    for one, _ in opened:
        names += drawing.names_of(one.name, args.seed, n)
        about = {"seed": f"{args.seed}", "source": one.path.name, "style": args.to}
        says += [about | batch.number_of(sources, one, k, n) for k in range(n)]
    before = {f"given {one.name}": given.x[0] for one, given in opened}
    words = f"{batch.said(opened)}, then {n} times in the style {args.to}"
    columns = batch.columns(opened, n + 1, len(chain[-1][0]))
    drawn = chain[-1], names, says, words, columns, 6
    return results.Result(*drawn, before=before, groups=len(opened), chain=chain)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def cmd_alphabet(args):
    """Run `alphabet`: args from the parser -> None; writes args.n whole alphabets"""
    pipe = _pipeline_for(args, "letter", "typefaces")
    sampler, usual, _ = USUAL["alphabet"]
    steps, letters, size = (
        drawing.steps_of(args, pipe, usual),
        pipe.labels["letter"],
        pipe.model.size,
    )
    args.n = args.n or (1 if args.font else 4)
    names = [f"{k}{c}" for k in _numbered(args.n) for c in letters]
    results.require(args, names, *(word.partition("=")[2] for word in args.known))
    fonts.require(args)
    known = _known_letters(args, letters, size)
    own = fonts.own(args, letters, size)
    given = np.zeros((len(letters), size, size, 1), np.float32)
    for i, letter in enumerate(letters):
        given[i] = known.get(letter, 0)
    rng = np.random.default_rng(args.seed)
    w, work = args.guidance, args.n * len(letters)
    bar, pipe = drawing.with_bar(pipe, work * evaluations(pipe.s, sampler, steps, w))
    with bar:
        drawn = [pipe.alphabet(known, rng, steps, w, sampler, True) for _ in range(args.n)]
    chain = [np.concatenate(x) for x in zip(*drawn, strict=True)]
    drawing.require_finite(args.model, chain[-1])
    stay, given_ = "in which these letters stay as they are", "".join(sorted(known))
    words = f"what was given ({given_}), then {args.n} alphabets, {stay}"
    says = [{"seed": f"{args.seed}", "letter": name[-1]} for name in names]
    before = {f"given {c}": x for c, x in zip(letters, given, strict=True)}
    drawn = chain[-1], names, says, words, len(given), 3
    inks = [ink_of(path) for _, _, path in (word.partition("=") for word in args.known) if path]
    result = results.Result(
        *drawn, before=before, chain=chain, as_given=fonts.as_given(args, letters, own)
    )
    result = clear.in_ink(fonts.sharp(args, result), inks)
    results.write(args, result)
    fonts.write(args, letters, chain[-1], own)


def _numbered(n):
    """Number alphabets where there are several: -> "" for one, else "1-", "2-", ..."""
    return [""] if n == 1 else [f"{k + 1}-" for k in range(n)]


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
