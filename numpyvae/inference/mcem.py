"""Monte-Carlo EM: the E-step by draws from the posterior, without an encoder.

    E-step   z_n ~ p_θ(z|x_n), by Hamiltonian Monte Carlo          for each datapoint
    M-step   θ ascends (1/B) Σ_n log p_θ(x_n, z_n)                 a few steps with the same draws

The mean of the M-step's gradient over the posterior is the gradient of the evidence (Fisher's
identity), ∂_θ log p_θ(x) = E_{p_θ(z|x)}[∂_θ log p_θ(x, z)]: with converged chains this is
maximum likelihood, with no gap of Eq. (8). Kingma & Welling 2013 compare AEVB with it in Figure 3:
a move of 10 leapfrog steps, with a step size tuned to an acceptance of 90 %, then 5 weight
updates with the acquired draw. (They had Adagrad; 5 steps with one draw save moves, since a move
costs as much as 10 steps.)

Each datapoint has a chain, which starts at the prior and goes on from epoch to epoch while θ
moves. The paper does not say where its chains start. A chain that is left in one mode, or that is
slower than θ, makes a biased gradient, and nothing shows it. The work of an epoch grows as the
number of datapoints times the leapfrog steps, and the chains of all datapoints are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bounds.hmc import adapted, decreasing_gain, point_at, transition
from ..bounds.path import Path
from ..bounds.streams import step_factors
from ..core.distributions import log_prior
from ..core.optimizers import Optimizer, make_optimizer
from ..core.vae import VAE
from ..estimators.weight_prior import weight_log_prior
from ..support.checks import check_count, check_data, check_positive, check_seed, check_vae
from ..support.fit_checks import check_batch_size, check_callbacks, check_functions
from ..support.history import History
from ..support.streams import Purpose, stream
from .epochs import Ascent, batch_rows, run_epochs

__all__ = ["monte_carlo_em"]

_STEP = 0.1  # the first step size of the chains


def monte_carlo_em(
    vae: VAE,
    x: Any,
    *,
    epochs: int,
    batch_size: int | None = None,
    n_leapfrog: int = 10,
    n_updates: int = 5,
    acceptance: float = 0.9,
    optimizer: str | Optimizer = "adagrad",
    schedule: Callable[[float], float] | None = None,
    prior_variance: float | None = None,
    callbacks: Iterable[Callable[[VAE, History], Any]] = (),
    seed: int = 0,
    resume: History | None = None,
) -> History:
    """Learn θ by Monte-Carlo EM with Hamiltonian moves (Kingma & Welling 2013, Figure 3).

    ∂_θ log p_θ(x) = E_{p_θ(z|x)}[∂_θ log p_θ(x, z)], with one draw of z for each datapoint. θ
    changes in place; the encoder is not used and does not change.

    Parameters
    ----------
    vae : VAE
    x : (N, D) array_like
    epochs : int
        Number of passes over the data. In each, every chain makes one move.
    batch_size : int, optional
        B; 100, or N if that is smaller.
    n_leapfrog : int
        Leapfrog steps of a move.
    n_updates : int
        Steps of the optimizer after each move.
    acceptance : float
        The acceptance, in (0, 1), to which the step size of the chains is tuned. The step is one
        for all datapoints, and is adapted by ever smaller amounts.
    optimizer : str or Optimizer
    schedule : callable, optional
        Takes the number of epochs of this run (a float) to a factor of the learning rate.
    prior_variance : float, optional
        v, for a prior θ ~ N(0, v I); by default there is none.
    callbacks : iterable of callable
        Called as `callback(vae, history)` after each epoch; True ends the run.
    seed : int
    resume : History, optional
        Continue that run: it has the chains.

    Returns
    -------
    history : History
        Rows with `epoch`, `log_joint` (mean of log p_θ(x, z) at the draws), `objective` (with the
        prior, if there is one), `acceptance`, `step_size`, `gradient_norm`, `learning_rate` and
        `seconds`. Its optimizer state has the chains.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what the model can take.
    NonFiniteError
        If log p(x, z), a gradient or a step is not finite; `vae` is set back.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=1, hidden=(3,))
    >>> history = monte_carlo_em(vae, [[0, 1, 1, 0], [1, 1, 0, 0]], epochs=3)
    >>> history["log_joint"].shape, history.optimizer_state["chains"].shape
    ((3,), (2, 1))
    """
    check_vae(vae)
    x = check_data(vae, x).astype(vae.dtype, "C", copy=False)  # its rows are taken one by one
    check_functions(schedule=schedule)
    seed, optimizer = check_seed(seed), make_optimizer(optimizer)
    acceptance = check_positive("acceptance", acceptance)
    if acceptance >= 1:
        raise ValueError(f"acceptance: expected a number in (0, 1), got {acceptance}")
    fresh = optimizer.init(vae.parameters.theta) | {
        "chains": stream(seed, Purpose.CHAIN_STARTS).standard_normal(
            (len(x), vae.latent_dim), vae.dtype
        ),
        "chains_log_step": np.full(1, np.log(_STEP)),
        "chains_moves": np.zeros((), np.int64),
    }
    history = History.start(vae.parameters, fresh, resume)
    run = _Run(
        vae,
        x,
        check_batch_size(batch_size, len(x)),
        check_count("n_leapfrog", n_leapfrog),
        check_count("n_updates", n_updates),
        acceptance,
        None if prior_variance is None else check_positive("prior_variance", prior_variance),
        seed,
        history,
        Ascent(vae, optimizer, schedule, history, "theta"),
    )
    epochs = check_count("epochs", epochs, minimum=0 if resume else 1)
    run_epochs(vae, history, epochs, run.epoch, check_callbacks(callbacks, None))
    return history


@dataclass
class _Run:
    """The settings of one call, and one pass over the data with them."""

    vae: VAE
    x: np.ndarray
    batch_size: int
    n_leapfrog: int
    n_updates: int
    target: float
    prior_variance: float | None
    seed: int
    history: History
    ascent: Ascent

    def epoch(self, epoch: int) -> dict[str, float]:
        """Move each chain once, with `n_updates` steps of θ after each minibatch."""
        draws = stream(self.seed, Purpose.CHAINS, epoch)
        done, N, totals, step = len(self.history), len(self.x), np.zeros(4), 0
        for i, rows in enumerate(batch_rows(N, self.batch_size, self.seed, epoch)):
            epochs = done + i * self.batch_size / N
            acceptance = self.move(rows, draws, step)
            z = self.history.optimizer_state["chains"][rows]
            for _ in range(self.n_updates):
                log_p, objective, gradient = self.gradient(self.x[rows], z[None])
                theta = self.vae.parameters.theta
                norm = self.ascent.step(theta, objective, gradient, epochs, step)
                totals += np.multiply(len(rows), (log_p, objective, acceptance, norm))
                step += 1
        log_joint, objective, acceptance, norm = map(float, totals / (N * self.n_updates))
        return {
            "log_joint": log_joint,
            "objective": objective,
            "acceptance": acceptance,
            "step_size": float(np.exp(self.history.optimizer_state["chains_log_step"][0])),
            "gradient_norm": norm,
            "learning_rate": self.ascent.scale * self.ascent.optimizer.learning_rate,
        }

    def move(self, rows: np.ndarray, draws: np.random.Generator, step: int) -> float:
        """Make one Hamiltonian move of the chains of these rows; return the mean acceptance."""
        vae, state = self.vae, self.history.optimizer_state
        density = Path(vae, self.x[rows], "prior").density(1.0)  # log p_θ(x, z)
        point = point_at(density, state["chains"][rows][None])  # (B, J) → (1, B, J)
        if not np.isfinite(point.log_p + point.gradient.sum(axis=-1)).all():
            raise self.ascent.failure("log p(x, z) at the chains", step, np.zeros(1))
        h = np.exp(state["chains_log_step"]).astype(vae.dtype)
        h = h * step_factors(draws.random((1, len(rows)), vae.dtype))
        eps = draws.standard_normal(point.z.shape, vae.dtype)
        log_u = -draws.standard_exponential((1, len(rows)), vae.dtype)
        point, acceptance = transition(density, point, h, self.n_leapfrog, eps, log_u)
        state["chains"][rows] = point.z[0]
        gain = decreasing_gain(int(state["chains_moves"]))
        # The chains of all rows share one step: their mean acceptance adapts it
        state["chains_log_step"] = adapted(
            state["chains_log_step"], acceptance.reshape(-1, 1), gain, self.target
        )
        state["chains_moves"] += 1
        return float(acceptance.mean())

    def gradient(self, x: np.ndarray, z: np.ndarray) -> tuple[float, float, np.ndarray]:
        """Return the means of log p(x, z) and of the objective, and its gradient in θ."""
        parameters = self.vae.parameters
        log_px, pull = self.vae.log_likelihood(x, z)
        gradient = parameters.empty_gradient("theta")
        shares = np.full(log_px.shape, 1 / log_px.size, log_px.dtype)
        pull(shares, gradient, input_gradient=False)  # ∂_θ log p(x, z) = ∂_θ log p(x|z)
        log_p = objective = float(log_px.mean() + log_prior(z)[0].mean())
        if self.prior_variance is not None:  # log p(θ)/N: N datapoints have one prior
            log_p_theta, pull_theta = weight_log_prior(parameters.theta, self.prior_variance)
            gradient.theta[:] += pull_theta(1 / len(self.x))
            objective += float(log_p_theta) / len(self.x)
        return log_p, objective, gradient.theta
