"""tinydiff's U-Net in PyTorch: the same topology, written as PyTorch users would, with weights copied from ours."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tinydiff.nn import time_embedding


def conv(C, O, K=3, circular=False):
    return nn.Conv2d(
        C,
        O,
        K,
        padding=K // 2,
        bias=False,
        padding_mode="circular" if circular and K > 1 else "zeros",
    )


class Block(nn.Module):
    def __init__(self, C, O, E, circular):
        super().__init__()
        self.norm1, self.conv1, self.embed = (
            nn.GroupNorm(8, C),
            conv(C, O, circular=circular),
            nn.Linear(E, O),
        )
        self.norm2, self.conv2 = nn.GroupNorm(8, O), conv(O, O, circular=circular)
        self.short_cut = conv(C, O, 1) if C != O else None

    def forward(self, x, e):
        h = self.conv1(F.silu(self.norm1(x))) + self.embed(e)[:, :, None, None]
        return (self.short_cut(x) if self.short_cut else x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.norm = nn.GroupNorm(8, C)
        self.q, self.k, self.v, self.out = (conv(C, C, 1) for _ in range(4))

    def forward(self, x):
        N, C, H, W = x.shape
        h = self.norm(x)
        q, k, v = (
            layer(h).reshape(N, C, H * W).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(1, 2).reshape(N, C, H, W))


class UNet(nn.Module):
    def __init__(
        self,
        size,
        channels=1,
        width=32,
        multipliers=(1, 2, 2),
        depth=2,
        classes=(),
        padding="zeros",
    ):
        super().__init__()
        E, C, skips, ring = 4 * width, width, [], padding == "circular"
        self.width, self.depth = width, depth
        self.time1, self.time2 = nn.Linear(width, E), nn.Linear(E, E)
        self.labels = nn.ModuleList(nn.Embedding(M + 1, E) for M in classes)
        self.enter, self.descent, self.ascent = (
            conv(channels, C, circular=ring),
            nn.ModuleList(),
            nn.ModuleList(),
        )
        for m in multipliers:
            for _ in range(depth):
                self.descent.append(Block(C, m * width, E, ring))
                C = m * width
                skips.append(C)
        self.mid1, self.attention, self.mid2 = (
            Block(C, C, E, ring),
            Attention(C),
            Block(C, C, E, ring),
        )
        for m in reversed(multipliers):
            for _ in range(depth):
                self.ascent.append(Block(C + skips.pop(), m * width, E, ring))
                C = m * width
        self.norm, self.leave = nn.GroupNorm(8, C), conv(C, channels, circular=ring)

    def forward(self, x, t, labels):
        e = self.time2(F.silu(self.time1(t)))
        for k, table in enumerate(self.labels):
            e = e + table(labels[:, k])
        e = F.silu(e)
        h, skips, last = self.enter(x), [], len(self.descent) - 1
        for i, block in enumerate(self.descent):
            h = block(h, e)
            skips.append(h)
            if (i + 1) % self.depth == 0 and i != last:
                h = F.avg_pool2d(h, 2)
        h = self.mid2(self.attention(self.mid1(h, e)), e)
        for i, block in enumerate(self.ascent):
            h = block(torch.cat([h, skips.pop()], 1), e)
            if (i + 1) % self.depth == 0 and i != last:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
        return self.leave(F.silu(self.norm(h)))


NAMES = {"w": "weight", "b": "bias", "scale": "weight", "shift": "bias", "table": "weight"}


def torch_name(name):
    """Translate a parameter's name: 'mid1.norm1.scale' -> 'mid1.norm1.weight'."""
    *path, last = name.split(".")
    return ".".join([*path, NAMES[last]])


def torch_layout(array):
    """Bring a parameter, or its gradient, into PyTorch's layout: (K, K, C, O) -> (O, C, K, K), (C, O) -> (O, C)."""
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    return array


def copy_weights(ours, theirs):
    """Give the PyTorch model our model's weights."""
    state = {}
    for name, array in ours.params().items():
        array = array.T if name.endswith(".w") and array.ndim == 2 else torch_layout(array)
        state[torch_name(name)] = torch.from_numpy(np.ascontiguousarray(array))
    theirs.load_state_dict(state)


def inputs(x, t, width, labels):
    """Turn our model's inputs into the PyTorch model's: NHWC -> NCHW, t -> its embedding."""
    return (
        torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))),
        torch.from_numpy(time_embedding(t, width)),
        torch.from_numpy(labels),
    )
