"""What every test shares: generators, tolerances, and the markers' conditions."""

import os

# Before NumPy loads: on few cores threads of BLAS wait for each other and burn a core,
# and their number decides the last digits.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import hypothesis
import jaxtyping
import numpy as np
import pytest

# A busy machine is no bug.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# So that a failed assertion there shows what it compared, as in a test.
pytest.register_assert_rewrite("tests.figure_page")

# Relative tolerance by dtype, for results that should agree to round-off.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture
def tolerance() -> dict[str, float]:
    """Relative tolerance by dtype name."""
    return TOLERANCE


@pytest.fixture
def as_a_user():
    """Switch off the shape checks that only tests have, so that our guards speak."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
