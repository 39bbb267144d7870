"""Pictures that lie in one array on disk, read a block at a time, whatever its layout and type."""

import gzip
import math
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from .source import Unusable

BLOCK = 2**22  # bytes read at a time
WHOLE = 2**30  # bytes that may be read at once where there is no other way
MOST = 10**8  # pictures
CHANNELS = (1, 3, 4)
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass(frozen=True)
class Table:
    """An array on disk whose rows are pictures.

    path: of the file, for messages; opened: () -> context manager of a binary file that stands at
    the first value; shape: (M, ...); dtype; fortran: whether the first axis varies fastest
    skip: bytes before each row that are no picture, as CIFAR has labels there
    order: "rows" (H, W, C), "planes" (C, H, W), or "turned", each plane transposed; side: (H, W, C)
    low, high: what stands for black and white
    """

    path: object
    opened: object
    shape: tuple
    dtype: np.dtype
    fortran: bool = False
    skip: int = 0
    order: str = "rows"
    side: tuple = ()
    low: float = 0.0
    high: float = 255.0

    def raw(self):
        """Read rows as they are, and what is skipped: () -> yields (b, skip) uint8, (b, ...)"""
        M, values = self.shape[0], math.prod(self.shape[1:])
        length = self.skip + values * self.dtype.itemsize
        at_once = M if self.fortran else max(1, BLOCK // max(1, length))
        if at_once * length > max(WHOLE, BLOCK + length):
            raise Unusable(f"{self.path} cannot be read in pieces: save it in C order")
        with self.opened() as f:
            for start in range(0, M, at_once):
                rows = min(at_once, M - start)
                if len(data := f.read(rows * length)) < rows * length:
                    came = f"{start + len(data) // max(1, length):,} of its {M:,} pictures"
                    raise Unusable(f"{self.path} ends after {came}: get the file anew")
                data = np.frombuffer(data, np.uint8)
                if self.fortran:
                    whole = data.view(self.dtype).reshape(self.shape, order="F")
                    yield np.zeros((M, 0), np.uint8), whole
                    continue
                data = data.reshape(rows, length)
                x = np.ascontiguousarray(data[:, self.skip :]).view(self.dtype)
                yield data[:, : self.skip], x.reshape(rows, *self.shape[1:])

    def blocks(self):
        """Read the pictures: () -> yields (b, H, W, C) uint8"""
        H, W, C = self.side
        for _, x in self.raw():
            if self.order == "rows":
                x = x.reshape(-1, H, W, C)
            else:
                x = x.reshape(-1, C, H, W).transpose(0, 2, 3, 1)
            x = x.swapaxes(1, 2) if self.order == "turned" else x
            yield x if x.dtype == np.uint8 and (self.low, self.high) == (0, 255) else self._bytes(x)

    def _bytes(self, x):
        scaled = (x.astype(np.float32) - np.float32(self.low)) * np.float32(
            255 / (self.high - self.low)
        )
        return np.clip(scaled, 0, 255).round().astype(np.uint8)


def fitted(table):
    """Find out which axes of a table are height, width and channels, and what is white.

    (M, H, W), (M, H, W, C), (M, C, H, W), or flat: (M, H W) and (M, 3 H W) of squares
    -> Table with side, order, low and high; what was found out: list of str
    Raises Unusable for another shape, for what are no numbers, and where a value is not finite.
    """
    shape, said = table.shape, []
    if table.dtype.kind not in "uifb":
        raise Unusable(f"{table.path} holds {table.dtype}, not numbers: save pixels, as uint8")
    if not 0 < shape[0] <= MOST:
        what = "no pictures" if shape[0] == 0 else f"more than {MOST:,} pictures"
        raise Unusable(f"{table.path} holds {what}: its shape is {shape}")
    if len(shape) == 2:
        table = _unflattened(table, said)
    elif len(shape) == 3:
        table = replace(table, side=(*shape[1:], 1))
    elif len(shape) == 4 and shape[3] in CHANNELS:
        table = replace(table, side=shape[1:])
    elif len(shape) == 4 and shape[1] in CHANNELS:
        table = replace(table, side=(*shape[2:], shape[1]), order="planes")
    if not table.side or min(table.side[:2]) < 4:
        takes = "(N, H, W), (N, H, W, C), (N, C, H, W) or flat (N, H*W)"
        raise Unusable(f"{table.path} has the shape {shape}; pictures are {takes}")
    if max(table.side[:2]) > 4096:
        raise Unusable(f"{table.path} has pictures of {table.side[1]} x {table.side[0]}: too large")
    if table.dtype != np.uint8:
        table = _with_range(table, said)
    return table, said


def _unflattened(table, said):
    """Find the square pictures in flat rows; of colours, whether planes or pixels lie together."""
    values = table.shape[1]
    for C in (1, 3):
        if values % C == 0 and (side := math.isqrt(values // C)) ** 2 * C == values:
            said.append(f"flat rows of {values} values read as {side} x {side} x {C}")
            found = replace(table, side=(side, side, C))
            x = next(iter(table.raw()))[1][:64].astype(np.float64)
            apart = [x.reshape(-1, side, side, C), x.reshape(-1, C, side, side)]
            rough = [np.abs(np.diff(each, axis=2)).mean() for each in apart]
            # neighbours are alike where the layout is right
            return replace(found, order="planes") if C == 3 and rough[1] < rough[0] else found
    return table


def _with_range(table, said):
    """Find what stands for black and white where values are not bytes, from all of them."""
    if table.dtype.kind == "b":
        return replace(table, low=0.0, high=1.0)
    if table.dtype.kind == "u":
        least, most = 0.0, max(float(x.max()) for _, x in table.raw())
    else:
        ends = [(float(x.min()), float(x.max())) for _, x in table.raw()]
        least, most = min(a for a, _ in ends), max(b for _, b in ends)
        if not np.isfinite([e for pair in ends for e in pair]).all():
            raise Unusable(f"{table.path} has values that are no finite numbers: mend these")
    tops = (1, 16, 255, 65535) if least >= 0 else ()  # 16: scikit-learn's digits
    top = next((t for t in tops if 0.5 * t < most <= t), None)
    if least < 0 and -1.001 <= least and most <= 1.001:
        low, high = -1.0, 1.0
    elif top:
        low, high = 0.0, float(top)
    else:
        low, high = least, most if most > least else least + 1
    said.append(f"values of {low:g} to {high:g} made 0 to 255")
    return replace(table, low=low, high=high)


# --- the files ---


def npy(path, opened=None):
    """Look at an array as np.save writes it, without reading it.

    path: for messages; opened: () -> context manager of the file from its start, None = open(path)
    -> Table (M, ...). Raises Unusable where it is none, or holds objects (a pickle).
    """
    whole = opened or (lambda: open(path, "rb"))
    try:
        with whole() as f:
            version = np.lib.format.read_magic(f)
            read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
            shape, fortran, dtype = read(f, max_header_size=4096)
            start = f.tell()
    except (ValueError, AttributeError, EOFError) as e:
        why = " ".join(str(e).split())
        raise Unusable(f"{path} is no array that np.save wrote ({why})") from None
    if dtype.hasobject:
        raise Unusable(f"{path} holds pickled objects, which can run code: save plain numbers")
    if not shape:
        raise Unusable(f"{path} holds a single value, not pictures")

    @contextmanager
    def at_values():
        with whole() as f:
            f.read(start)
            yield f

    return Table(path, at_values, tuple(shape), dtype, fortran and len(shape) > 1)


def npz(path):
    """Look at the arrays of an .npz file, without reading them: () -> {name: Table (M, ...)}"""
    try:
        with zipfile.ZipFile(path) as f:
            names = [n for n in f.namelist() if n.endswith(".npy")]
    except (zipfile.BadZipFile, ValueError, OSError) as e:
        raise Unusable(f"{path} is no .npz file that can be read ({e}): get it anew") from None
    if not names:
        raise Unusable(f"{path} holds no arrays")
    tables = {}
    for name in names:

        @contextmanager
        def opened(name=name):
            try:
                with zipfile.ZipFile(path) as f, f.open(name) as part:
                    yield part
            except (zipfile.BadZipFile, zipfile.zlib.error) as e:
                raise Unusable(f"{path} is damaged ({e}): get it anew") from None

        try:
            tables[name[:-4]] = npy(f"{path}[{name[:-4]}]", opened)
        except Unusable as e:
            if "single value" not in str(e) and "pickled" not in str(e):
                raise
    if not tables:
        raise Unusable(f"{path} holds pickled objects only, which can run code: save plain numbers")
    return tables


def is_idx(path):
    """Tell whether a file, packed by gzip or not, starts as IDX files do: () -> bool"""
    try:
        with _unpacked(path) as f:
            magic = f.read(4)
    except (OSError, EOFError, Unusable, gzip.zlib.error):
        return False
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in IDX_TYPES and 0 < magic[3] < 5


def idx(path):
    """Look at an IDX file, packed by gzip or not, as MNIST comes: () -> Table (M, ...)"""
    with _unpacked(path) as f:
        magic = f.read(4)
        shape = tuple(int.from_bytes(f.read(4), "big") for _ in range(magic[3]))
        start = f.tell()

    @contextmanager
    def at_values():
        with _unpacked(path) as f:
            f.read(start)
            yield f

    return Table(path, at_values, shape, np.dtype(IDX_TYPES[magic[2]]))


@contextmanager
def _unpacked(path):
    with open(path, "rb") as f:
        packed = f.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else open(path, "rb") as f:
            yield f
    except (gzip.BadGzipFile, EOFError, gzip.zlib.error) as e:
        raise Unusable(f"{path} is damaged ({e}): get it anew") from None


def cifar(path, labels):
    """Look at a file of CIFAR's binary version: `labels` bytes, then 3 x 32 x 32, per picture.

    -> Table (M, D), D = 3072. Raises Unusable where the length does not fit.
    """
    length, size = labels + 3072, path.stat().st_size
    if size == 0 or size % length:
        raise Unusable(f"{path} has {size:,} bytes, no multiple of {length}: get the file anew")
    shape, dtype = (size // length, 3072), np.dtype(np.uint8)
    opened = lambda: open(path, "rb")
    return Table(path, opened, shape, dtype, skip=labels, order="planes", side=(32, 32, 3))


def words(table):
    """Read a table of labels: (M,) or (M, K) whole numbers or texts -> list of K lists of M str

    Raises Unusable where it holds something else.
    """
    size = math.prod(table.shape) * table.dtype.itemsize
    if table.dtype.kind not in "uifbUS" or len(table.shape) > 2 or not 0 < size <= WHOLE:
        raise Unusable(f"{table.path} has the shape {table.shape} of {table.dtype}: no labels")
    x = np.concatenate([part for _, part in table.raw()])
    x = x.reshape(len(x), -1)
    if x.shape[1] > 1 and x.dtype.kind in "uifb" and ((x == 0) | (x == 1)).all():
        x = x.argmax(1)[:, None] if (x.sum(1) == 1).all() else x  # "one-hot": a single label
    if x.dtype.kind == "f":
        if not (np.isfinite(x).all() and (x == np.round(x)).all()):
            raise Unusable(f"{table.path} has fractions: labels are whole numbers or texts")
        x = x.astype(np.int64)
    if x.dtype.kind == "b":
        x = x.astype(np.uint8)
    if x.dtype.kind == "S":
        x = np.char.decode(x, "utf-8", "replace")
    return [[str(value) for value in column] for column in x.T.tolist()]
