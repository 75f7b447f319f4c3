"""Make neural_tangents.npz: what another library says of the networks' kernels.

neural-tangents 0.6.5 is the last release, and works with one old JAX only, so it lives
in an environment of its own, apart from the book's::

    python3 -m venv elsewhere
    elsewhere/bin/pip install "jax==0.4.23" "jaxlib==0.4.23" "numpy<2" "scipy<1.13" \\
        opt_einsum absl-py frozendict
    elsewhere/bin/pip install --no-deps neural-tangents==0.6.5
    elsewhere/bin/python tests/golden/make_neural_tangents.py

Its part `experimental` needs TensorFlow, which nothing here does: an empty module
stands in for it. The file holds the inputs, and one (n, n) table for each activation,
depth and bias, twice: ``relu_ntk_3_0.3`` has depth 3 and bias variance 0.3.
"""

import sys
from pathlib import Path
from types import ModuleType

import jax
import numpy as np

sys.modules["neural_tangents.experimental"] = ModuleType("experimental")
jax.config.update("jax_enable_x64", True)

from neural_tangents import stax  # noqa: E402

# As the package has it when nothing is said.
WEIGHT_VARIANCE = 2.0
ACTIVATIONS = {"relu": stax.Relu, "erf": stax.Erf}


def inputs() -> np.ndarray:
    """Return (20, 8): ordinary rows, then one row's repetitions and near misses."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((15, 8))
    first = x[0]
    special = [first, 3 * first, -first, first + 1e-9 * x[1], 1e-3 * x[2]]
    return np.concatenate([x, special])


def main() -> None:
    """Compute every table and write them beside this script."""
    x = inputs()
    tables = {"x": x}
    for name, activation in ACTIVATIONS.items():
        for depth in (1, 3, 10):
            for bias in (0.0, 0.3):
                kernel = _network(activation, depth, bias)(x, None, ("nngp", "ntk"))
                end = f"{depth}_{bias:g}"
                # A symmetric table is its upper triangle.
                upper = np.triu_indices(len(x))
                tables[f"{name}_nngp_{end}"] = np.asarray(kernel.nngp)[upper]
                tables[f"{name}_ntk_{end}"] = np.asarray(kernel.ntk)[upper]
    path = Path(__file__).with_name("neural_tangents.npz")
    np.savez_compressed(path, **tables)
    print(path, path.stat().st_size, "bytes")


def _network(activation, depth: int, bias: float):
    dense = {
        "W_std": WEIGHT_VARIANCE**0.5,
        "b_std": bias**0.5 or None,
        "parameterization": "ntk",
    }
    hidden = [stax.Dense(1, **dense), activation()] * depth
    return stax.serial(*hidden, stax.Dense(1, **dense))[2]


if __name__ == "__main__":
    main()
