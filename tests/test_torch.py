"""Where PyTorch is installed: our U-Net and PyTorch's compute the same, so timing both is fair."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tinydiff import autodiff, ops, unet

torch = pytest.importorskip("torch", reason="PyTorch is an optional yardstick: pip install torch")
sys.path.insert(0, str(Path(__file__).parent / "bench"))
import torch_unet  # noqa: E402


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_the_same_function_and_gradients_as_pytorch(padding, rng):
    config = {"size": 8, "channels": 3, "width": 16, "multipliers": (1, 2), "depth": 2}
    config |= {"classes": (4, 3), "padding": padding}
    model = unet.UNet(**config, rng=rng)
    theta = model.flatten()
    # some layers start at zero, which would hide them
    theta += 0.1 * rng.standard_normal(theta.size, dtype=np.float32)
    theirs = torch_unet.UNet(**config)
    torch_unet.copy_weights(model, theirs)

    x, g = (rng.standard_normal((3, 8, 8, 3), dtype=np.float32) for _ in range(2))
    t, labels = np.array([1, 50, 200]), np.array([[0, 2], [3, 3], [4, 0]])
    with model.variables() as params:
        y = model(x, t, labels)
        grads = autodiff.gradient(ops.sum(y * g), params)
    out = theirs(*torch_unet.inputs(x, t, config["width"], labels))
    (out * torch.from_numpy(np.ascontiguousarray(g.transpose(0, 3, 1, 2)))).sum().backward()

    images, near = out.detach().numpy().transpose(0, 2, 3, 1), 1e-4 * np.abs(y.value).max()
    np.testing.assert_allclose(y.value, images, rtol=0, atol=near)
    expected = dict(theirs.named_parameters())
    assert len(expected) == len(grads)
    for name, grad in zip(model.params(), grads, strict=True):
        mine = grad.T if name.endswith(".w") and grad.ndim == 2 else torch_unet.torch_layout(grad)
        true = expected[torch_unet.torch_name(name)].grad.numpy()
        near = 1e-4 * max(np.abs(true).max(), 1)
        np.testing.assert_allclose(mine, true, rtol=0, atol=near, err_msg=name)
