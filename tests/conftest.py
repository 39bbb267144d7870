"""What several test files share: a seeded generator, and each kernel set in turn."""

import numpy as np
import pytest

from tinydiff import kernels


@pytest.fixture
def rng():
    return np.random.default_rng(20240613)


slow_cpu = pytest.param("cpu", marks=pytest.mark.slow)
compiled_when_slow = pytest.mark.parametrize("kernel_set", ["reference", slow_cpu], indirect=True)


@pytest.fixture(params=("reference", "cpu"))
def kernel_set(request):
    """Run the test once on each kernel set, then go back to the one that was active."""
    before = kernels._active
    yield kernels.use(request.param)
    kernels._active = before
