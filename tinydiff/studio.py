"""What the commands do that draw and edit with a trained model: sample, edit, restyle, alphabet, gallery."""

from .commands import Bad, pictures_named, require_file

RESTORE = {"shrink2": 0.02, "shrink4": 0.02, "grey": 0.02, "blur": 0.05, "noise": 0.2}  # and how noisy such a picture is taken to be


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
    require_file(args.out)
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
    cov = restore.covariance(pictures_named(about["dataset"]).train)
    return {"also": lambda eps_model: colour.coloured(eps_model, s, cov, model.size, palette, main, args.pull or 1.0)}


def cmd_edit(args):
    """Run `edit`: args from the parser -> None; writes the picture as the model sees it, and args.n times drawn anew, side by side"""
    import numpy as np
    from PIL import Image

    from . import checkpoint, data, edit, plot, sample
    from .draw import change, guided, wishes

    model, s, about = checkpoint.ready(args.model)
    if args.steps and args.steps > s.T:
        raise Bad(f"--steps takes at most {s.T}, the steps that this model was trained with; got {args.steps}")
    if args.strength and args.strength > 1:
        raise Bad(f"--strength takes at most 1, which draws all anew; got {args.strength:g}")
    if args.rounds and not args.mask:
        raise Bad("--rounds is for --mask: how often the parts are brought to agree")
    if args.sigma and not args.restore:
        raise Bad("--sigma is for --restore: it says how noisy the picture is")
    A, cov = _degradation(args, model, about) if args.restore else (None, None)
    x, said = data.open_image(args.image, *((len(A[0]), len(A[2])) if A else (model.size, model.out)))
    if args.mask:
        mask, how = data.open_image(args.mask, model.size, 1)
        said += f"\n{how}"
        sizes = ["{} x {}".format(*Image.open(path).size) for path in (args.image, args.mask)]
        if sizes[0] != sizes[1]:
            raise Bad(f"--mask is {sizes[1]}, the picture {sizes[0]}: give a mask of the picture's size")
        if (mask < 0).all() or (mask >= 0).all():
            raise Bad(
                f"--mask {args.mask} is all {'black' if mask.max() < 0 else 'white'}: paint white what is to be drawn anew, black the rest"
            )
    usual = (1, 2.0, 20) if args.change else (8, 1.0, 50)
    n, w, steps = (given or own for given, own in zip((args.n, args.guidance, args.steps), usual, strict=True))
    try:
        labels, wanted = (wishes(about["labels"], words or []) for words in (args.label, args.change))
    except ValueError as e:
        raise Bad(str(e)) from None
    if args.change:
        labels, wanted, shows = _before_after(about, x, labels, wanted)
        said += f"\n{shows}"
    require_file(args.out)
    print(said)
    if args.restore:
        return _restored(args, model, s, about, np.tile(labels, (n, 1)), w, A, cov, x, steps)
    x0, rng, times = np.repeat(x, n, axis=0), np.random.default_rng(args.seed), sample.even_times(s, steps)
    eps_model = guided(model, s, about, np.tile(labels, (n, 1)), w)
    if args.change:
        drawn = change(model, s, about, x0, np.tile(labels, (n, 1)), np.tile(wanted, (n, 1)), rng, w, steps)
    elif args.mask:
        keep = np.repeat(mask < 0, n, axis=0)
        *_, drawn = edit.inpaint(eps_model, s, x0, keep, rng, times, args.rounds or 5, wide=True, clip=1.0)
    else:
        *_, drawn = edit.image_to_image(eps_model, s, x0, args.strength, rng, times, clip=1.0)
    picture = plot.save_png(plot.sheet(np.concatenate([x, np.asarray(drawn)]), min(n + 1, 9), scale=6), args.out)
    print(f"{picture}: the picture, then {n} times {'changed' if args.change else 'drawn anew'}")


def _before_after(about, x, labels, wanted):
    """Tell what a picture x (1, H, W, C) shows, read by the judge where labels don't say it, and what it should -> two rows, a text."""
    import numpy as np

    from . import checkpoint

    values, note = list(about["labels"].values()), ""
    unsaid = np.array([len(v) for v in values])
    try:
        judge, its = checkpoint.judge(about["dataset"])
        read = dict(zip(its["labels"], judge(x), strict=True))
        labels = np.where(labels == unsaid, [np.asarray(read[name])[0].argmax() for name in about["labels"]], labels)
    except checkpoint.CheckpointError:
        note = "no judge comes along for these pictures: what --label does not say of this one is left open\n"
    after = np.where(wanted == unsaid, labels, wanted)
    show = lambda row: " ".join(f"{k}={[*v, '?'][i]}" for k, v, i in zip(about["labels"], values, row, strict=True))
    if np.array_equal(after, labels):
        raise Bad(f"--change asks for nothing new: the picture shows {show(labels)}")
    return labels, after, f"{note}before: {show(labels)}\nafter:  {show(after)}"


def _degradation(args, model, about):
    """Find what --restore names -> rows (h, H), columns (w, W), channels (c, C), see restore.degrade; the data's covariance (D, D)"""
    from . import restore

    shape, k = (model.size, model.out), {"shrink2": 2, "shrink4": 4}.get(args.restore, 1)
    if args.restore == "grey" and model.out == 1:
        raise Bad(f"{args.model} draws in grey: --restore grey is for models of colour pictures")
    if model.size % k:
        raise Bad(f"{args.model} draws {model.size} pixels a side, which --restore {args.restore} cannot divide by {k}")
    luma = (0.299, 0.587, 0.114)  # as Pillow, and most programs, make a picture grey
    made = {"grey": lambda: restore.grey(*shape, luma), "blur": lambda: restore.blur(*shape, 1.0)}
    A = made.get(args.restore, lambda: restore.shrink(*shape, k))()
    return A, restore.covariance(pictures_named(about["dataset"]).train)


def _restored(args, model, s, about, labels, w, A, cov, y, steps):
    """Run `edit --restore`: y (1, h, w, c) is the degraded picture -> None; writes it, args.n restorations and their mean"""
    import numpy as np

    from . import plot, restore
    from .draw import restored

    sigma_y, rng = args.sigma or RESTORE[args.restore], np.random.default_rng(args.seed)
    drawn = restored(model, s, about, labels, y, A, sigma_y, cov, rng, steps, w)
    picture = np.concatenate([restore.enlarge(y, model.size, model.out), drawn, drawn.mean(0, keepdims=True)])
    saved = plot.save_png(plot.sheet(picture, min(len(picture), 10), scale=6), args.out)
    print(f"{saved}: the picture, {len(drawn)} times what it may have been, and their mean, which has the least error")


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
    if args.of and args.way != "inversion":
        raise Bad("--from is for --way inversion; the other ways don't ask what style a picture has")
    if args.way == "inversion" and not args.of:
        raise Bad(f"--way inversion needs --from, the style of the picture: {', '.join(styles)}")
    if args.strength and (args.way == "source" or args.strength > 1):
        raise Bad("--strength is for --way inversion or noise, above 0 up to 1")
    x, said = data.open_image(args.image, model.size, model.out)
    require_file(args.out)
    print(said)
    images, rng = np.repeat(x, args.n, axis=0), np.random.default_rng(args.seed)
    w = args.guidance or (1.5 if args.way == "source" else 2.0)
    drawn = restyle(model, s, about, images, args.to, rng, args.way, args.of, args.steps, w, args.strength or 0.7)
    picture = plot.save_png(plot.sheet(np.concatenate([x, drawn]), min(args.n + 1, 9), scale=6), args.out)
    print(f"{picture}: the picture, then {args.n} times in the style {args.to}")


def cmd_alphabet(args):
    """Run `alphabet`: args from the parser -> None; writes the known letters, and args.n whole alphabets, a row each"""
    import numpy as np

    from . import plot
    from .draw import alphabet

    model, s, about = _model_with(args.model, "letter", args.steps)
    known = _known_letters(args, about["labels"]["letter"], model.size)
    require_file(args.out)
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


def cmd_gallery(args):
    """Run `gallery`: args from the parser -> None; writes one page with a row for each thing that the models can do"""
    from tqdm import tqdm

    from . import gallery, plot

    require_file(args.out)
    rows = list(tqdm(gallery.rows(args.seed), total=len(gallery.ROWS), desc="drawing the gallery", unit="row"))
    print(plot.save_figure(plot.page(rows), args.out), f"{len(rows)} rows, all drawn just now", sep=": ")
