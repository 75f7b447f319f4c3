"""Kernels: how alike two inputs look to a method, or to a network of infinite width.

Every function takes inputs as rows, x (n, m) and y (p, m), and returns the (n, p) table
of their kernel, always computed in float64. Without y it is the symmetric table of x
with itself; on its diagonal the angle between the two inputs is known to be zero, and
the kernels with a kink there (Laplace, arc-cosine, ReLU) are exact.

The four kernels of networks share one convention. Weights have variance
`weight_variance` over the fan-in, biases have variance `bias_variance`, and `depth`
counts hidden layers; the first fan-in is m, so that inner products are divided by m. At
each hidden layer, with u and v jointly normal of covariance Q,

    Q      ->  weight_variance E[f(u) f(v)] + bias_variance
    Theta  ->  Q + weight_variance Theta E[f'(u) f'(v)]

from Theta = Q = weight_variance <x, y> / m + bias_variance. The NNGP kernel Q is the
covariance of the outputs of random networks; Theta, the neural tangent kernel, is the
inner product of their gradients in the NTK parametrisation, where a layer computes
sqrt(weight_variance / fan-in) W h + sqrt(bias_variance) b with normal W and b.
"""

from functools import partial

import numpy as np
from jaxtyping import Float

from pkg import _check
from pkg._kernel_entries import Inputs, Network, decay, erf, relu
from pkg._product import Product, product

__all__ = [
    "Product",
    "arc_cosine",
    "erf_nngp",
    "erf_ntk",
    "laplace",
    "linear",
    "product",
    "rbf",
    "relu_nngp",
    "relu_ntk",
]


def linear(
    x: Float[np.ndarray, "n m"], y: Float[np.ndarray, "p m"] | None = None
) -> Float[np.ndarray, "n p"]:
    """Compute inner products <x, y>: the kernel of the linear model.

    Introduced in chapter 7.

    Parameters
    ----------
    x, y : (n, m), (p, m)
        Inputs as rows; y is x when left out.

    Returns
    -------
    (n, p)

    Raises
    ------
    ValueError
        If the widths differ or an entry is not finite, as in every kernel here; or if
        inputs are so large that their squares overflow: divide them by a constant.
    """
    return Inputs(x, y).gram()


def rbf(
    x: Float[np.ndarray, "n m"],
    y: Float[np.ndarray, "p m"] | None = None,
    *,
    length_scale: float,
) -> Float[np.ndarray, "n p"]:
    """Compute the Gaussian kernel exp(-||x - y||^2 / (2 length_scale^2)).

    Introduced in chapter 7.

    Parameters
    ----------
    x, y : (n, m), (p, m)
        Inputs as rows; y is x when left out.
    length_scale : float
        Distance at which inputs begin to look different. scikit-learn's ``gamma`` is
        1 / (2 length_scale^2).

    Returns
    -------
    (n, p)
        Between 0 and 1, and 1 on the diagonal.

    Raises
    ------
    ValueError
        As ``linear``; or if `length_scale` is not positive.
    """
    rate = _rate(length_scale, power=2) / 2
    inputs = Inputs(x, y, centre=True)
    return inputs.blockwise(partial(decay, rate=rate, root=False, noise=inputs.noise))


def laplace(
    x: Float[np.ndarray, "n m"],
    y: Float[np.ndarray, "p m"] | None = None,
    *,
    length_scale: float,
) -> Float[np.ndarray, "n p"]:
    """Compute the Laplace kernel exp(-||x - y|| / length_scale).

    The distance is Euclidean, so the kernel does not change when inputs are rotated;
    scikit-learn's ``laplacian_kernel`` sums absolute differences instead. It has a kink
    at x = y, as the ReLU NTK has. Introduced in chapter 7.

    Parameters
    ----------
    x, y : (n, m), (p, m)
        Inputs as rows; y is x when left out.
    length_scale : float
        Distance at which the kernel has fallen to 1/e.

    Returns
    -------
    (n, p)
        Between 0 and 1, and 1 on the diagonal.

    Raises
    ------
    ValueError
        As ``linear``; or if `length_scale` is not positive.
    """
    rate = _rate(length_scale, power=1)
    inputs = Inputs(x, y, centre=True)
    how = {"rate": rate, "root": True, "noise": inputs.noise}
    return inputs.blockwise(partial(decay, **how))


def arc_cosine(
    x: Float[np.ndarray, "n m"],
    y: Float[np.ndarray, "p m"] | None = None,
    *,
    order: int,
) -> Float[np.ndarray, "n p"]:
    """Compute the arc-cosine kernel of order 0 or 1.

    Twice the mean, over normal w, of the product of two steps (order 0) or two ReLUs
    (order 1) of <w, x> and <w, y>: 1 - theta / pi, and ||x|| ||y|| (sin theta +
    (pi - theta) cos theta) / pi, with theta the angle between x and y.

    Parameters
    ----------
    x, y : (n, m), (p, m)
        Inputs as rows; y is x when left out. Under order 0 an input of zeros counts as
        orthogonal to everything, as a step that is one half at 0 sees it.
    order : 0 or 1

    Returns
    -------
    (n, p)

    Raises
    ------
    ValueError
        As ``linear``; or if `order` is another number.

    References
    ----------
    Cho and Saul, "Kernel Methods for Deep Learning", NIPS 2009.
    """
    order = _check.count("order", order, low=0, high=1)
    inputs = Inputs(x, y)
    return inputs.blockwise(
        lambda q, p, p_prime: 2 * relu(q, p, p_prime, inputs.noise)[1 - order]
    )


def relu_nngp(
    x: Float[np.ndarray, "n m"],
    y: Float[np.ndarray, "p m"] | None = None,
    *,
    depth: int = 1,
    weight_variance: float = 2.0,
    bias_variance: float = 0.0,
) -> Float[np.ndarray, "n p"]:
    """Compute the covariance of the outputs of random ReLU networks of infinite width.

    With the default variances the diagonal is 2 ||x||^2 / m at every depth.

    Parameters
    ----------
    x, y : (n, m), (p, m)
        Inputs as rows; y is x when left out.
    depth : int
        Hidden layers.
    weight_variance, bias_variance : float
        Variances, not standard deviations; see the top of this module.

    Returns
    -------
    (n, p)

    Raises
    ------
    ValueError
        As ``linear``; or if `depth` is no whole number of at least 1,
        `weight_variance` is not positive, or `bias_variance` is negative.

    References
    ----------
    Lee et al., "Deep Neural Networks as Gaussian Processes", arXiv:1711.00165.
    """
    network = Network(relu, False, depth, weight_variance, bias_variance)
    return network.kernel(x, y)


def relu_ntk(
    x: Float[np.ndarray, "n m"],
    y: Float[np.ndarray, "p m"] | None = None,
    *,
    depth: int = 1,
    weight_variance: float = 2.0,
    bias_variance: float = 0.0,
) -> Float[np.ndarray, "n p"]:
    """Compute the neural tangent kernel of a ReLU network of infinite width.

    With the default variances the diagonal is (depth + 1) 2 ||x||^2 / m. The kernel has
    a kink at x = y, where an angle loses half its digits: inputs closer in angle than
    about 1e-7 are taken for parallel, so that repeated inputs give equal rows.
    Introduced in chapter 8.

    Parameters
    ----------
    x, y, depth, weight_variance, bias_variance
        As in ``relu_nngp``.

    Returns
    -------
    (n, p)

    Raises
    ------
    ValueError
        As ``relu_nngp``.

    References
    ----------
    Jacot, Gabriel and Hongler, "Neural Tangent Kernel", arXiv:1806.07572.
    """
    network = Network(relu, True, depth, weight_variance, bias_variance)
    return network.kernel(x, y)


def erf_nngp(
    x: Float[np.ndarray, "n m"],
    y: Float[np.ndarray, "p m"] | None = None,
    *,
    depth: int = 1,
    weight_variance: float = 2.0,
    bias_variance: float = 0.0,
) -> Float[np.ndarray, "n p"]:
    """Compute the covariance of the outputs of random erf networks of infinite width.

    The activation is the error function, a sigmoid whose averages are elementary.

    Parameters
    ----------
    x, y, depth, weight_variance, bias_variance
        As in ``relu_nngp``.

    Returns
    -------
    (n, p)

    Raises
    ------
    ValueError
        As ``relu_nngp``.

    References
    ----------
    Williams, "Computing with Infinite Networks", NIPS 1996.
    """
    network = Network(erf, False, depth, weight_variance, bias_variance)
    return network.kernel(x, y)


def erf_ntk(
    x: Float[np.ndarray, "n m"],
    y: Float[np.ndarray, "p m"] | None = None,
    *,
    depth: int = 1,
    weight_variance: float = 2.0,
    bias_variance: float = 0.0,
) -> Float[np.ndarray, "n p"]:
    """Compute the neural tangent kernel of an erf network of infinite width.

    Parameters
    ----------
    x, y, depth, weight_variance, bias_variance
        As in ``relu_nngp``.

    Returns
    -------
    (n, p)

    Raises
    ------
    ValueError
        As ``relu_nngp``.

    References
    ----------
    Jacot, Gabriel and Hongler, "Neural Tangent Kernel", arXiv:1806.07572.
    """
    network = Network(erf, True, depth, weight_variance, bias_variance)
    return network.kernel(x, y)


def _rate(length_scale: object, power: int) -> float:
    scale = _check.positive("length_scale", length_scale, ndim=0)
    with np.errstate(over="ignore", divide="ignore"):
        rate = float(1 / np.float64(scale) ** power)
    if not 0 < rate < np.inf:
        raise ValueError(
            f"`length_scale` is {scale:.3g}, too far from one for double precision; "
            "divide it and the inputs by one constant"
        )
    return rate
