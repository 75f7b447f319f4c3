"""The closed form against integrating the same problem with SciPy."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from pkg import dynamics, spectra
from tests.bench import Row

M, D, T, S0 = 512, 10, 400, 1e-3
# What a user would try first, and the most accurate that SciPy's explicit methods get.
PEERS = (("RK45", 1e-6, 1e-9), ("DOP853", 1e-11, 1e-14))


def rows() -> list[Row]:
    """Time the curves alone, the curves with their eigenpairs, and both limits."""
    Gamma, W0, t = _problem()
    gammas = spectra.top_eigenvalues(Gamma, D)

    def solved() -> Any:
        return dynamics.closed_form(t, spectra.top_eigenvalues(Gamma, D), S0)

    curves = _median(lambda: dynamics.closed_form(t, gammas, S0), 200)
    whole = _median(solved, 20)
    eigen = _median(lambda: spectra.top_eigenvalues(Gamma, D), 20)
    exact, task = solved().eigenvalues, f"m = {M}, d = {D}, {T} times"
    table = []
    for method, rtol, atol in PEERS:
        run = partial(_integrate, W0, Gamma, t, method=method, rtol=rtol, atol=atol)
        seconds = _median(run, 3)
        error = np.abs(_spectrum(run(), Gamma) - exact).max()
        peer = f"solve_ivp {method}, rtol {rtol:g}: {seconds:.2f} s, off by {error:.0e}"
        table += [
            _row(
                f"staircase, eigenvalues known; {task}", curves, seconds, peer, 10_000
            ),
            _row("the same, eigenvalues found too", whole, seconds, peer, 25),
        ]
    limit = Row(
        what="the same against its limit",
        ours=f"{1e3 * whole:.1f} ms",
        peer=f"one top-{D} eigensolve, {1e3 * eigen:.1f} ms",
        ratio=f"{whole / eigen:.2f}x the limit",
        goal="",
        reached=None,
    )
    return [*table, limit]


def _problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((M, M)))
    # Falls as the spectra of chapter 5 do, where gamma_1 / gamma_10 is about 50.
    values = np.arange(1, M + 1) ** -1.7
    Gamma = (basis * values) @ basis.T
    t = np.linspace(0.0, 1.2 * dynamics.step_times(values[:D], S0)[-1], T)
    return (Gamma + Gamma.T) / 2, S0 * basis[:, :D].T, t


def _integrate(W0: np.ndarray, Gamma: np.ndarray, t: np.ndarray, **how: Any) -> Any:
    """What a user would write: the matrix equation, flattened."""

    def velocity(_: float, flat: np.ndarray) -> np.ndarray:
        W = flat.reshape(D, M)
        W_Gamma = W @ Gamma
        return (-4 * (W_Gamma @ W.T - np.eye(D)) @ W_Gamma).ravel()

    return solve_ivp(velocity, (0, t[-1]), W0.ravel(), t_eval=t, **how)


def _spectrum(solution: Any, Gamma: np.ndarray) -> np.ndarray:
    Ws = solution.y.T.reshape(T, D, M)
    return np.linalg.eigvalsh(Ws @ Gamma @ Ws.transpose(0, 2, 1))[:, ::-1]


def _row(what: str, ours: float, seconds: float, peer: str, goal: int) -> Row:
    return Row(
        what=what,
        ours=f"{1e3 * ours:.3g} ms",
        peer=peer,
        ratio=f"{seconds / ours:,.0f}x",
        goal=f"{goal:,}x",
        reached=bool(seconds / ours >= goal),
    )


def _median(run: Callable[[], Any], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
