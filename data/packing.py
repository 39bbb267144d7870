"""Put the image sets and the trained models of this folder into the wheel, for `pip install .`.

pyproject.toml names these commands of setuptools. They change three of its habits: data outside the
package comes along, as tinydiff/_data; what is built goes to a temporary folder, so that a
read-only folder can be installed, and leftovers of an older version never are; and notes
that an older installation left beside the package (tinydiff.egg-info) are removed.
"""

import shutil
import tempfile
from pathlib import Path

from setuptools.command.build import build
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

HERE = Path(__file__).resolve().parent
PACKED = ("*.npz", "models/*.npz", "*.md")  # all that the package reads, and the licences
SCRATCH = tempfile.TemporaryDirectory(prefix="tinydiff-build-")  # removed when Python ends


def packed():
    """List what goes into the wheel: () -> list of Path, within this folder"""
    return [path.relative_to(HERE) for pattern in PACKED for path in sorted(HERE.glob(pattern))]


class Build(build):
    """Build in a temporary folder."""

    def initialize_options(self):
        """Choose the folder."""
        super().initialize_options()
        self.build_base = SCRATCH.name


class BuildPy(build_py):
    """Copy the data beside the modules."""

    def run(self):
        """Copy both; an editable install needs neither."""
        super().run()
        if not self.editable_mode:
            for path in packed():
                target = Path(self.build_lib, "tinydiff", "_data", path)
                self.mkpath(str(target.parent))
                self.copy_file(str(HERE / path), str(target))

    def get_source_files(self):
        """List what an sdist must hold -> list of str"""
        own = [str(Path(HERE.name, path)) for path in (Path(__file__).name, *packed())]
        return [*super().get_source_files(), *own]


class EggInfo(egg_info):
    """Write the notes about the package into a temporary folder."""

    def initialize_options(self):
        """Choose the folder; remove what an older version of this program wrote into its own."""
        super().initialize_options()
        self.egg_base = SCRATCH.name
        shutil.rmtree(HERE.parent / "tinydiff.egg-info", ignore_errors=True)
