"""Names of version 0.1, so that import cells and answers written then still work.

Modules that stood side by side are in wings now, some under another name, and helpers have lost
their underscore. Nothing in the package uses the old names; importing tinydiff installs this.
"""

import sys
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder
from importlib.util import spec_from_loader

MODULES = {  # where a module stood -> where it stands
    **{"draw": "design.pipeline", "style": "design.paired", "gram": "design.gatys"},
    **{name: f"design.{name}" for name in ("edit", "restore", "colour")},
    **{"likelihood": "beyond.likelihood", "flow": "beyond.flow"},
    **{"variance": "beyond.learned_variance", "learned": "beyond.learned_schedule"},
    **{name: f"measure.{name}" for name in ("metrics", "baselines", "classifier", "evaluate")},
    **{f"kernels.{k}": f"kernels.cpu_{k}" for k in ("direct", "winograd", "microkernel", "ladder")},
    **{"kernels.device": "kernels.cuda_array", "kernels.tiles": "kernels.cuda_matmul"},
    **{"kernels.threads": "kernels.cuda_ladder", "kernels.simulator": "kernels.cuda_simulator"},
    **{"kernels.errors": "kernels", "diagnosis": "course.diagnosis"},
    "submission": "course.plugin",  # pytest's entry point in environments installed before
}


def _method(name):
    """Make a function of `model, s, about` out of what is a method of Pipeline now."""

    def f(model, s, about, *args, **options):
        pipeline = import_module("tinydiff.design.pipeline")
        return getattr(pipeline.Pipeline.of(model, s, about), name)(*args, **options)

    return f


NAMES = {  # module -> what a name is called today (with a dot: elsewhere), or what replaces it
    "data": {"open_image": "tinydiff.design.picture.open_image"},
    "diffusion": {"_at": "at", "_rates": "rates"},
    "sample": {
        **{"_start": "start", "_noise": "noise_like", "_visited": "visited", "_sigma": "sigma"},
        **{"_ddim_step": "ddim_step", "_churn": "add_churn", "_at_sigma": "times_at_sigma"},
        "_require_steps": "require_steps",
    },
    "train": {
        **{"descend": "train_step", "hide": "drop_labels"},
        "fetch_losses": lambda run: run.fetch_losses(),
    },
    "optim": {"ema_keep": "ema_decay"},
    "checkpoint": {"judge": "tinydiff.measure.classifier.load"},
    "plot": {
        "quality": "tinydiff.measure.evaluate.quality",
        "bound": "tinydiff.beyond.likelihood.draw_bound",
    },
    "grade": {
        **{n: f"tinydiff.course.exercises.{n}" for n in ("exercises", "find", "original", "ROOT")},
        **{n: f"tinydiff.course.grade.{n}" for n in ("judge", "judge_all", "WrongAnswer")},
        "Verdict": "tinydiff.course.judge.Verdict",
    },
    "design.edit": {
        **{"_step": "inpaint_step", "_require_mask": "require_mask"},
        **{n: f"tinydiff.sample.{n}" for n in ("_ddim_step", "_noise", "_start", "_visited")},
    },
    "beyond.likelihood": {"_at": "tinydiff.diffusion.at"},
    "design.pipeline": {
        **{"wishes": "parse_labels", "guided": _method("eps_model"), "draw": _method("draw")},
        **{"tiles": _method("tile"), "change": _method("change"), "restored": _method("restore")},
        **{name: _method(name) for name in ("restyle", "alphabet")},
    },
    "measure.metrics": {"_flat": "flat"},
    "measure.classifier": {"surprise": "nll"},
}


class _Alias(Loader):
    """Let an old name of a module stand for the module itself."""

    def __init__(self, name):
        self.name = name

    def create_module(self, spec):
        self.module = import_module(self.name)
        self.spec = self.module.__spec__
        return self.module

    def exec_module(self, module):
        module.__spec__ = self.spec  # importing it under the old name has replaced its own


class _WithNames(Loader):
    """Load a module as its own loader does, and let it answer to its old names."""

    def __init__(self, spec, inside):
        self.own, self.inside = spec.loader, inside

    def create_module(self, spec):
        return self.own.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self.own  # all else is as without this
        self.own.exec_module(module)
        module.__getattr__ = partial(_named, self.inside)


class _Former(MetaPathFinder):
    """Find modules of the package by their old names, and give those that need it old names."""

    def find_spec(self, name, path=None, target=None):
        inside = name.removeprefix("tinydiff.")
        if inside in MODULES and name != inside:
            return spec_from_loader(name, _Alias(f"tinydiff.{MODULES[inside]}"))
        if inside in NAMES and name != inside:
            spec = PathFinder.find_spec(name, path)
            if spec:
                spec.loader = _WithNames(spec, inside)
            return spec


def _named(inside, key):
    """Look up an old name of a module; Python asks where the module has none of that name."""
    if key not in NAMES[inside]:
        raise AttributeError(f"module 'tinydiff.{inside}' has no attribute {key!r}")
    today = NAMES[inside][key]
    if callable(today):
        return today
    module, _, name = (today if "." in today else f"tinydiff.{inside}.{today}").rpartition(".")
    return getattr(import_module(module), name)


sys.meta_path.insert(0, _Former())
