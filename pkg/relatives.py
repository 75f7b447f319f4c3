"""The same staircase elsewhere: regression, deep linear networks, words.

Three models whose gradient flow splits into modes, as that of chapter 3 does. A mode of
final strength s obeys du/dt = N u^(2 - 2/N) (s - u), where N counts the factors that
are multiplied: one in regression, two in an embedding of words, any number in a deep
linear network. Where N is one nothing waits; where it is more, what has not grown
cannot grow fast. Deep networks live in `pkg._deep_linear`, texts in `pkg._words`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pkg import _check, spectra
from pkg._deep_linear import deep_flow, deep_linear, deep_step_times
from pkg._words import Text, cooccurrence, load_text, vocabulary, word_target
from pkg.record import Trajectory

__all__ = [
    "FactorModes",
    "RegressionModes",
    "Text",
    "cooccurrence",
    "deep_flow",
    "deep_linear",
    "deep_step_times",
    "factor_modes",
    "factorization",
    "load_text",
    "regression_modes",
    "vocabulary",
    "word_target",
]


# --- kernel regression ---------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class RegressionModes:
    """Kernel regression under gradient flow from f = 0, solved mode by mode.

    The loss is ||f - y||^2 / 2n, and df/dt = -K (f - y) / n on the n samples.
    Introduced in chapter 16.

    Attributes
    ----------
    rates : (n,)
        Eigenvalues of K / n, descending: mode j is learned at rate ``rates[j]``.
    modes : (n, n)
        Orthonormal eigenvectors, one a column.
    targets : (n, c)
        Coefficients of the labels in the modes.
    """

    rates: Float[np.ndarray, " n"]
    modes: Float[np.ndarray, "n n"]
    targets: Float[np.ndarray, "n c"]

    def learned(self, t: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T n"]:
        """Give the share of each mode that is learned, 1 - exp(-rate t)."""
        t = _check.times("t", t)
        return -np.expm1(-np.outer(t, self.rates))

    def loss(self, t: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """Give the loss: what is left of every label, squared, over 2n."""
        power = np.sum(self.targets**2, axis=1)  # (n,)
        return (1.0 - self.learned(t)) ** 2 @ power / (2 * len(power))

    def half_times(self) -> Float[np.ndarray, " n"]:
        """Give the time ln 2 / rate at which each mode is half learned."""
        with np.errstate(divide="ignore"):
            return np.log(2.0) / self.rates

    def predict(
        self, k_new: Float[np.ndarray, "q n"], t: float
    ) -> Float[np.ndarray, "q c"]:
        """Give the outputs at time `t` on new points, by their kernel with the n."""
        k_new = _check.finite("k_new", k_new, ndim=2)
        n = len(self.rates)
        if k_new.shape[1] != n:
            raise ValueError(
                f"`k_new` must be (q, {n}), new points against the {n} samples; got "
                f"shape {k_new.shape}"
            )
        share = self.learned(np.array([float(t)]))[0]
        # As rate -> 0 the share over the rate tends to t; no mode is divided by zero.
        still = share == 0.0
        weight = np.where(still, t, share / np.where(still, 1.0, self.rates)) / n
        return k_new @ (self.modes @ (weight[:, None] * self.targets))


def regression_modes(
    K: Float[np.ndarray, "n n"], y: Float[np.ndarray, "n c"]
) -> RegressionModes:
    """Split kernel regression into its modes.

    Each eigenvector of K learns its part of the labels by itself, at the rate of its
    eigenvalue: large ones first, which is the spectral bias, and none of them waits.
    Introduced in chapter 16.

    Parameters
    ----------
    K : (n, n)
        Kernel of the samples, symmetric and positive semi-definite.
    y : (n, c)
        Labels, one column an output.

    Returns
    -------
    RegressionModes

    Raises
    ------
    ValueError
        If the shapes disagree, K is not symmetric, or K has a negative eigenvalue
        beyond round-off: then it is no kernel.
    """
    K = _check.symmetric("K", K)
    y = _check.finite("y", y, ndim=2)
    n = len(K)
    if len(y) != n:
        raise ValueError(f"`y` must have {n} rows like `K`; got {len(y)}")
    rates, modes = spectra.top_eigenpairs(K / n)
    if rates[-1] < -n * np.finfo(np.float64).eps * abs(rates[0]):
        raise ValueError(
            f"`K` has the negative eigenvalue {n * rates[-1]:.3g} and is no kernel; "
            "pass a positive semi-definite matrix"
        )
    rates = np.maximum(rates, 0.0)
    return RegressionModes(rates=rates, modes=modes, targets=modes.T @ y)


# --- factorizations ------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class FactorModes:
    """The modes that a factorization W^T W of a symmetric matrix M will learn.

    Attributes
    ----------
    strengths : (d,)
        The d largest eigenvalues of M: where each mode ends.
    modes : (m, d)
        Their eigenvectors.
    u0 : (d,)
        Where each mode starts, in the sense of a small start. With `strengths` this is
        all that ``deep_linear(..., depth=2)`` and `deep_step_times` need.
    """

    strengths: Float[np.ndarray, " d"]
    modes: Float[np.ndarray, "m d"]
    u0: Float[np.ndarray, " d"]


def factor_modes(
    M: Float[np.ndarray, "m m"], W0: Float[np.ndarray, "d m"]
) -> FactorModes:
    """Read what a small start will make of a symmetric matrix, mode by mode.

    Column j of W V, with V the top eigenvectors of M, grows as e^(lambda_j t) until it
    saturates along its own direction and takes that direction from the later ones: the
    Gram-Schmidt reading of chapter 4, u0 = R_jj^2 with W0 V = QR. It becomes exact as
    W0 shrinks. Introduced in chapter 16.

    Parameters
    ----------
    M : (m, m)
        Symmetric, with at least d positive eigenvalues.
    W0 : (d, m)
        Weights at time 0.

    Returns
    -------
    FactorModes

    Raises
    ------
    ValueError
        If the shapes disagree, or fewer than d eigenvalues of M are positive: W^T W
        cannot learn the others.
    """
    M, W0 = _factored(M, W0)
    strengths, modes = spectra.top_eigenpairs(M, len(W0))
    if strengths[-1] <= 0:
        raise ValueError(
            f"`W0` has {len(W0)} rows, but `M` has only {int(np.sum(strengths > 0))} "
            "positive eigenvalues, and W^T W learns no others; use fewer rows"
        )
    R = np.linalg.qr(W0 @ modes, mode="r")
    return FactorModes(strengths=strengths, modes=modes, u0=np.diag(R) ** 2)


def factorization(
    t: Float[np.ndarray, " T"],
    M: Float[np.ndarray, "m m"],
    W0: Float[np.ndarray, "d m"],
) -> Trajectory:
    """Solve dW/dt = W (M - W^T W) exactly, from any start.

    This is gradient flow on ||W^T W - M||_F^2 / 4. The product G = W^T W obeys a matrix
    Riccati equation, and W(t) = (I + W0 F W0^T)^(-1/2) W0 e^(Mt) solves it up to a
    rotation of the rows, with F = (e^(2Mt) - I) M^(-1). We take it in short strides, so
    that nothing overflows and small modes keep their digits. Introduced in chapter 16.

    Parameters
    ----------
    t : (T,)
        Flow time.
    M : (m, m)
        Symmetric, of any signature.
    W0 : (d, m)
        Weights at time 0; a column is the embedding of a word.

    Returns
    -------
    Trajectory
        Eigenvalues of W W^T, sorted at each time: the second moment of all embeddings,
        summed over m. The weights are those at ``t[-1]``, up to a rotation of the rows.

    Raises
    ------
    ValueError
        If the shapes disagree, M is not symmetric, or times do not increase.

    References
    ----------
    The Riccati solution: Yan, Helmke and Moore, "Global analysis of Oja's flow for
    neural networks", IEEE Transactions on Neural Networks 5 (1994).
    """
    from scipy import linalg

    t = _check.times("t", t)
    M, W0 = _factored(M, W0)
    lambdas, V = np.linalg.eigh(M)
    Y, now = W0 @ V, 0.0  # (d, m) in the eigenvectors of M
    stride = 1.0 / max(np.abs(lambdas).max(), np.finfo(np.float64).tiny)
    loss, levels = [], []
    for time in t:
        strides = int(np.ceil((time - now) / stride))
        if strides:
            h = (time - now) / strides
            grow = np.exp(lambdas * h)
            zero = lambdas == 0
            fill = np.expm1(2.0 * lambdas * h) / np.where(zero, 1.0, lambdas)
            fill[zero] = 2.0 * h
        for _ in range(strides):
            brake = np.linalg.cholesky(np.eye(len(Y)) + (Y * fill) @ Y.T)
            Y = linalg.solve_triangular(brake, Y * grow, lower=True)
        now = time
        G = Y @ Y.T  # (d, d)
        misfit = lambdas @ lambdas - 2.0 * np.sum(Y**2 @ lambdas) + np.sum(G**2)
        loss.append(misfit / 4)
        levels.append(np.linalg.svd(Y, compute_uv=False) ** 2)
    return Trajectory(
        t=t,
        loss=np.array(loss),
        eigenvalues=np.array(levels),
        order="rank",
        matrix="covariance",
        source="exact flow",
        weights=Y @ V.T,
    )


def _factored(M: np.ndarray, W0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    M = _check.symmetric("M", M)
    W0 = _check.finite("W0", W0, ndim=2)
    if W0.shape[1] != len(M) or len(W0) > len(M):
        raise ValueError(
            f"`W0` must be (d, {len(M)}) with d at most {len(M)}; got shape {W0.shape}"
        )
    return M, W0
