"""tinydiff's U-Net in PyTorch, written as PyTorch users would, with weights copied from ours."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tinydiff.nn import time_embedding


def conv(C, O, K=3, circular=False):
    mode = "circular" if circular and K > 1 else "zeros"
    return nn.Conv2d(C, O, K, padding=K // 2, bias=False, padding_mode=mode)


class Block(nn.Module):
    def __init__(self, C, O, E, circular):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, C), conv(C, O, circular=circular)
        self.embed = nn.Linear(E, O)
        self.norm2, self.conv2 = nn.GroupNorm(8, O), conv(O, O, circular=circular)
        self.shortcut = conv(C, O, 1) if C != O else None

    def forward(self, x, e):
        h = self.conv1(F.silu(self.norm1(x))) + self.embed(e)[:, :, None, None]
        return (self.shortcut(x) if self.shortcut else x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.norm = nn.GroupNorm(8, C)
        self.q, self.k, self.v, self.out = (conv(C, C, 1) for _ in range(4))

    def forward(self, x):
        N, C, H, W = x.shape
        h, tokens = self.norm(x), lambda y: y.reshape(N, C, H * W).transpose(1, 2)
        q, k, v = (tokens(layer(h)) for layer in (self.q, self.k, self.v))
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
        self.width = width
        self.time1, self.time2 = nn.Linear(width, E), nn.Linear(E, E)
        self.labels = nn.ModuleList(nn.Embedding(M + 1, E) for M in classes)
        self.conv_in = conv(channels, C, circular=ring)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for m in multipliers:
            self.downs.append(nn.ModuleList())
            for _ in range(depth):
                self.downs[-1].append(Block(C, m * width, E, ring))
                C = m * width
                skips.append(C)
        self.mid1, self.mid2 = Block(C, C, E, ring), Block(C, C, E, ring)
        self.attention = Attention(C)
        for m in reversed(multipliers):
            self.ups.append(nn.ModuleList())
            for _ in range(depth):
                self.ups[-1].append(Block(C + skips.pop(), m * width, E, ring))
                C = m * width
        self.norm, self.conv_out = nn.GroupNorm(8, C), conv(C, channels, circular=ring)

    def forward(self, x, t, labels):
        e = self.time2(F.silu(self.time1(t)))
        for k, table in enumerate(self.labels):
            e = e + table(labels[:, k])
        e = F.silu(e)
        h, skips, last = self.conv_in(x), [], len(self.downs) - 1
        for i, level in enumerate(self.downs):
            for block in level:
                h = block(h, e)
                skips.append(h)
            if i != last:
                h = F.avg_pool2d(h, 2)
        h = self.mid2(self.attention(self.mid1(h, e)), e)
        for i, level in enumerate(self.ups):
            for block in level:
                h = block(torch.cat([h, skips.pop()], 1), e)
            if i != last:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
        return self.conv_out(F.silu(self.norm(h)))


NAMES = {"w": "weight", "b": "bias", "scale": "weight", "shift": "bias", "table": "weight"}


def torch_name(name):
    """Translate a parameter's name: 'mid1.norm1.scale' -> 'mid1.norm1.weight'"""
    *path, last = name.split(".")
    return ".".join([*path, NAMES[last]])


def torch_layout(array):
    """Convert a parameter, or its gradient, to PyTorch's layout: (K, K, C, O) -> (O, C, K, K)"""
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
    """Convert our model's inputs to those of the PyTorch model: NHWC -> NCHW, t -> its embedding"""
    return (
        torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))),
        torch.from_numpy(time_embedding(t, width)),
        torch.from_numpy(labels),
    )
