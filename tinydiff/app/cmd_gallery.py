"""The command `gallery`: one page that shows what the included models can do."""

from .. import plot
from . import gallery
from .progress import Bar
from .usage import require_figures, require_picture


def cmd_gallery(args):
    """Run `gallery`: args from the parser -> None; writes one page with a row for each use"""
    require_picture(args.out)
    require_figures()
    with Bar(gallery.EVALUATIONS, "drawing the gallery") as bar:
        rows = list(gallery.rows(args.seed, bar.tick))
    picture = plot.save_figure(gallery.page(rows), args.out)
    print(f"{picture}: {len(rows)} rows, all drawn just now")
