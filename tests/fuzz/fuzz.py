"""Feed damaged files to what reads files from strangers, with a coverage-guided fuzzer.

    pip install atheris
    python tests/fuzz/fuzz.py pictures -max_total_time=600
    python tests/fuzz/fuzz.py checkpoints -max_total_time=600

It starts from the files in tests/fuzz/pictures and tests/fuzz/checkpoints, and stops at the first
that gives anything but one line (an OSError), takes more than ten seconds or a gigabyte. More
options: those of libFuzzer.
"""

import io
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "tinydiff", "zipfile", "json"]):
    from tinydiff import checkpoint
    from tinydiff.design import masks, picture

HERE = Path(__file__).resolve().parent
SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz-"), "file")
LIMITS = ["-timeout=10", "-rss_limit_mb=1000", "-max_len=65536"]


def pictures(content):
    """Read a picture, as picture, mask and letter: bytes -> None"""
    SCRATCH.write_bytes(content)
    try:
        given = picture.open_given(SCRATCH, 16, 3)
        x, said = given.x, given.said
        assert x.shape == (1, 16, 16, 3) and -1 <= x.min() <= x.max() <= 1 and "\n" not in said
        masks.open_mask(SCRATCH, SCRATCH, given)
    except OSError as e:
        assert "\n" not in str(e), e
    except ValueError as e:  # a mask that leaves no choice
        assert "what is to be drawn anew" in str(e), e


def checkpoints(content):
    """Read a checkpoint: bytes, a zip file, or the text of the header of one -> None"""
    SCRATCH.write_bytes(content if content[:2] == b"PK" else with_header(content))
    try:
        checkpoint.ready(SCRATCH)
    except checkpoint.CheckpointError as e:
        assert "\n" not in str(e), e


def with_header(text):
    """Make a checkpoint with another header, whose checksums are right: bytes -> bytes"""
    import numpy as np

    made = io.BytesIO()
    with zipfile.ZipFile(HERE / "checkpoints" / "training.npz") as old:
        with zipfile.ZipFile(made, "w") as new:
            for name in old.namelist():
                if name != "meta.npy":
                    new.writestr(name, old.read(name))
            meta = io.BytesIO()
            np.save(meta, np.array(text.decode(errors="replace")))
            new.writestr("meta.npy", meta.getvalue())
    return made.getvalue()


if __name__ == "__main__":
    targets = {"pictures": pictures, "checkpoints": checkpoints}
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        sys.exit(f"name what to fuzz: {', '.join(targets)}")
    name, *options = sys.argv[1:]
    warnings.simplefilter("error")
    found = tempfile.mkdtemp(prefix="fuzz-corpus-")  # new files go to the first folder
    atheris.Setup([sys.argv[0], *LIMITS, *options, found, str(HERE / name)], targets[name])
    atheris.Fuzz()
