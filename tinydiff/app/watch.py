"""A training to look at: the loss, the time left, and ten pictures that grow sharper."""

import base64
import io
import sys
import time

import numpy as np

from .. import plot, sample, train
from . import interrupt

EVERY, EVERY_LINE = 1.0, 10.0  # seconds between two looks, in a notebook and elsewhere
SHARE = 0.08  # of the time, at most, that goes into looks
DRAWN, SAMPLER_STEPS = 10, 5


class Stopped(KeyboardInterrupt):
    """A stop that ends a notebook's cell in one line."""

    def _render_traceback_(self):
        return [str(self)]


def watch(run, training, steps, s=None, predict="v"):
    """Go on with a training until so many steps are done, and show how far it is as it goes.

    In a notebook, about once a second: the loss, the time left, and ten pictures that the averaged
    parameters draw from the same noise (DDIM in 5 steps, requested: one value of the first label
    after the other). Elsewhere a line every ten seconds. What is learned is the same to the bit.
    The stop button, or Ctrl-C, ends it after a whole step, with a line; `run` is as after that
    step, and can go on.
    run: a Training; training: what train.train(run, ...), or another loop, yields; steps: run.step
    in the end; s: Schedule, to draw pictures, None = none; predict: as for train.train
    -> yields run after each step
    Raises Stopped where it is stopped before the end of its first step, which may compile.
    """
    came, view = [], _View(run, steps, s, predict)
    if run.step < steps:
        _first(training)
        view.begin()
        yield run
    while run.step < steps and not came:
        with interrupt.noted(came):
            next(training)
            view.look()
        yield run
    view.end()
    if came:
        print(f"stopped at step {run.step:,} of {steps:,}: run this cell again to go on")


def _first(training):
    """Make a first step, which may compile for a minute, and can be stopped all the same."""
    try:
        with interrupt.heard():
            next(training)
    except KeyboardInterrupt:
        raise Stopped("stopped before the first step was done: run this cell again") from None


class _View:
    """What is seen of a training: a picture that changes, or lines."""

    def __init__(self, run, steps, s, predict):
        self.run, self.steps, self.s, self.predict = run, steps, s, predict
        self.shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        self.in_notebook = hasattr(self.shell, "kernel")
        self.every = EVERY if self.in_notebook else EVERY_LINE
        self.handle, self.looked = None, not self.in_notebook

    def begin(self):
        """Start the clock; the first look is due."""
        self.began, self.first = time.perf_counter(), self.run.step
        self.due = self.began + (0 if self.in_notebook else self.every)

    def look(self):
        """Show how far it is, if it is time to."""
        now = time.perf_counter()
        if now < self.due:
            return
        left = (now - self.began) / (self.run.step - self.first) * (self.steps - self.run.step)
        self._show(f"{self._words()}, {left:.0f} s left" if self.looked else self._words())
        self.looked = True
        cost = time.perf_counter() - now
        self.due = now + cost + max(self.every, cost / SHARE)

    def end(self):
        """Show how it ended."""
        self._show(self._words())

    def _words(self):
        self.run.fetch_losses()
        return f"step {self.run.step:,} of {self.steps:,}: loss {self.run.loss:.3f}"

    def _show(self, words):
        if not self.in_notebook:
            return print(words)
        from IPython.display import display

        file = io.BytesIO()
        self._figure(words).savefig(file, format="png")  # whole: cut to what is drawn it would jump
        png = base64.b64encode(file.getvalue()).decode()
        data = {"image/png": png, "text/plain": words}
        if self.handle:
            self.handle.update(data, raw=True)
        else:
            self.handle = display(data, raw=True, display_id=True)

    def _figure(self, words):
        pictures = self._pictures()
        figure = plot.figure(figsize=(9, 2.8), dpi=90)
        axes = figure.add_axes((0.09, 0.2, 0.45, 0.68))  # nothing moves from look to look
        plot.loss_curve(axes, self.run.losses)
        axes.set_xlim(0, self.steps)
        axes.set_title(words, fontsize=10, loc="left")
        if pictures is not None:
            sheet = plot.sheet(pictures, DRAWN // 2, scale=max(1, 64 // pictures.shape[1]))
            axes = figure.add_axes((0.57, 0.15, 0.42, 0.78))
            axes.imshow(sheet, interpolation="nearest")
            axes.set_axis_off()
        return figure

    def _pictures(self):
        """Draw with the averaged parameters, in the place of the others for a while."""
        run, model = self.run, self.run.model
        if self.s is None:
            return None
        shape = (DRAWN, model.size, model.size, model.out)
        x_T = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        labels = None
        if model.classes:
            labels = np.tile(model.classes, (DRAWN, 1))  # any
            labels[:, 0] = np.arange(DRAWN) % model.classes[0]
        times = sample.even_times(self.s, min(SAMPLER_STEPS, self.s.T))
        before = run.theta.copy()
        try:
            run.theta[:] = run.ema
            eps_model = train.denoiser(model, self.s, labels, self.predict)
            *_, x0 = sample.ddim(eps_model, self.s, shape, None, times, x_T=x_T, clip=1.0)
        finally:
            run.theta[:] = before
        return np.asarray(x0)
