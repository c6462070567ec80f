"""The importance-weighted bound (Burda, Grosse & Salakhutdinov 2015, §3).

It averages the weights of K draws from the approximate posterior,

    w_k = p_θ(x, z_k) / q_φ(z_k|x),   L_K = E[log (1/K) Σ_k w_k] ≤ log p(x)

L_1 is the ELBO of Eq. (7). L_K does not decrease with K, and tends to log p(x). Its
estimate needs only the model and its encoder, and is the usual one in the literature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..core.vae import VAE
from ..fast.model import weigh_draws
from ..support.checks import check_count, check_data, check_noise, check_rows, check_seed
from ..support.parallel import check_jobs, map_rows
from ..support.progress import progress_line
from ..support.special import log_mean_exp
from ..support.streams import Purpose, row_normals, row_streams
from .streams import decoder_megabytes, how_many, rows_in_cache

__all__ = ["ImportanceCurve", "importance_curve", "importance_log_likelihood", "log_weights"]

_ROWS = 20  # datapoints in a block


class ImportanceCurve(NamedTuple):
    """L_k against k; L_k ≤ log p(x) in expectation (Burda et al. 2015, §3).

    Attributes
    ----------
    n_importance : (M,) array of int
        The values of k, in increasing order.
    values : (M, N) array
        Nats per datapoint.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> importance_curve(vae, [[0, 1, 1, 0]], 50).n_importance
    array([ 1,  2,  5, 10, 20, 50])
    """

    n_importance: np.ndarray
    values: np.ndarray


def importance_log_likelihood(
    vae: VAE,
    x: Any,
    n_importance: int = 500,
    *,
    seed: int = 0,
    memory: float | None = None,
    n_jobs: int | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Estimate log p(x) by the importance-weighted bound L_K, streamed over K.

    log p(x) ≈ log (1/K) Σ_k exp(log p(x|z_k) + log p(z_k) − log q(z_k|x)),  z_k ~ q_φ(z|x)

    The mean is that of the weights, not of their logarithms. It is computed by `log_mean_exp` in
    pieces, so that the memory does not grow with K.

    Parameters
    ----------
    n_importance : int
        K, the number of draws per datapoint.

    Returns
    -------
    log_likelihood : (N,) array of float64
        Nats per datapoint: a lower bound on log p(x) in expectation.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> importance_log_likelihood(vae, [[0, 1, 1, 0]], 50).shape
    (1,)
    """
    x = check_data(vae, x)
    K = check_count("n_importance", n_importance)
    seed = check_seed(seed)
    n_jobs = check_jobs(n_jobs)
    return log_mean_weights(vae, x, K, Purpose.IMPORTANCE, seed, memory, n_jobs, progress)


def importance_curve(
    vae: VAE,
    x: Any,
    n_importance: int = 500,
    *,
    seed: int = 0,
    memory: float | None = None,
    n_jobs: int | None = None,
    progress: bool = False,
) -> ImportanceCurve:
    """Estimate L_k for k = 1, 2, 5, 10, … up to K, all from the same K draws.

    The draws are split into K // k groups of k, and the estimates of L_k from all groups are
    averaged, so that the noise is small for small k, too. The last value is that of
    `importance_log_likelihood`. In addition to `memory`, it needs memory for the K weights of 20
    datapoints.

    Parameters
    ----------
    n_importance : int
        K, the number of draws per datapoint.

    Returns
    -------
    curve : ImportanceCurve

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> curve = importance_curve(vae, [[0, 1, 1, 0]], 50)
    >>> curve.n_importance.tolist(), curve.values.shape
    ([1, 2, 5, 10, 20, 50], (6, 1))
    """
    x = check_data(vae, x)
    K, seed = check_count("n_importance", n_importance), check_seed(seed)
    n_jobs = check_jobs(n_jobs)
    steps = (m * 10**e for e in range(len(str(K))) for m in (1, 2, 5))
    sizes = np.array([*(k for k in steps if k < K), K])
    reduce = partial(_curve, K=K, sizes=sizes)
    parts = _for_each_block(reduce, vae, x, K, Purpose.IMPORTANCE, seed, memory, n_jobs, progress)
    return ImportanceCurve(sizes, np.concatenate(parts, axis=1))


def _curve(pieces: Iterator[np.ndarray], K: int, sizes: np.ndarray) -> np.ndarray:
    """Return L_k for each k of `sizes`, (M, B), from the log weights of K draws."""
    room, done = np.empty((K, _ROWS)), 0  # too large a K fails here, before the first draw
    for piece in pieces:
        log_w = room[:, : piece.shape[1]]
        log_w[done : done + len(piece)] = piece
        done += len(piece)
    groups = (log_w[: K // k * k].reshape(K // k, k, -1).swapaxes(0, 1) for k in sizes)
    return np.array([log_mean_exp(group).mean(axis=0) for group in groups])  # (k, K // k, B)


def log_mean_weights(
    vae: VAE,
    x: np.ndarray,
    K: int,
    purpose: int,
    seed: int,
    memory: float | None,
    n_jobs: int | None,
    progress: bool,
    power: float = 1.0,
) -> np.ndarray:
    """Return log (1/K) Σ_k w_k^power for each row of x, (N,), block by block."""
    reduce = partial(_log_mean, power=power)
    parts = _for_each_block(reduce, vae, x, K, purpose, seed, memory, n_jobs, progress)
    return np.concatenate(parts)


def _log_mean(pieces: Iterator[np.ndarray], power: float) -> np.ndarray:
    return log_mean_exp(power * log_w for log_w in pieces)


def _for_each_block(
    reduce: Callable[[Iterator[np.ndarray]], np.ndarray],
    vae: VAE,
    x: np.ndarray,
    K: int,
    purpose: int,
    seed: int,
    memory: float | None,
    n_jobs: int | None,
    progress: bool,
) -> list[np.ndarray]:
    """Return reduce(pieces) of each block of rows; `pieces` yields its log weights, (k, B)."""
    B = min(_ROWS, x.shape[0])
    most = max(1, rows_in_cache(vae) // B)
    if memory is not None:
        most = how_many(memory, B * decoder_megabytes(vae), f"one draw for each of {B} datapoints")
    blocks = [slice(i, i + _ROWS) for i in range(0, x.shape[0], _ROWS)]
    work = partial(_reduced, reduce, vae, K, purpose, seed, most)
    with progress_line(len(blocks) * -(-K // most), "piece", progress) as advance:
        return map_rows(work, blocks, [x], n_jobs, advance)


def _reduced(
    reduce: Callable[[Iterator[np.ndarray]], np.ndarray],
    vae: VAE,
    K: int,
    purpose: int,
    seed: int,
    most: int,
    x: np.ndarray,
    *,
    advance: Callable[[str], None],
) -> np.ndarray:
    """Return what `reduce` makes of the log weights of one block."""
    x = np.asarray(x, vae.dtype)
    return reduce(_pieces(vae, x, K, row_streams(seed, purpose, x), most, advance))


def _pieces(
    vae: VAE,
    x: np.ndarray,
    K: int,
    streams: list[np.random.Generator],
    most: int,
    advance: Callable[[str], None],
) -> Iterator[np.ndarray]:
    """Yield the log weights of K draws for each row of x, at most `most` draws at a time."""
    (mu, logvar), _ = vae.encoder(x)
    for done in range(0, K, most):
        eps = row_normals(streams, min(most, K - done), vae.latent_dim, vae.dtype)
        yield check_weights(weigh_draws(vae, x, mu, logvar, eps).astype(float))
        advance(f"{min(done + most, K)} of {K} draws")


def check_weights(log_w: np.ndarray) -> np.ndarray:
    """Return log weights if each is a number below infinity, or minus infinity, for p(x, z) = 0.

    Raises
    ------
    FloatingPointError
        If one of them is NaN or infinity.
    """
    if not (log_w < np.inf).all():  # a comparison with NaN is false
        raise FloatingPointError(
            "expected log importance weights that are finite, got NaN or infinity; check the "
            "model's parameters, and that its outputs do not overflow"
        )
    return log_w


def log_weights(vae: VAE, x: Any, mu: Any, logvar: Any, eps: Any) -> np.ndarray:
    """Log importance weights log p_θ(x, z) − log q_φ(z|x) at z = μ + σ ε.

    Parameters
    ----------
    mu, logvar : (N, J) array_like
        The parameters of q for each row of x, as from `vae.encode`.
    eps : (L, N, J) array_like
        Standard normal noise.

    Returns
    -------
    log_w : (L, N) array
        Nats, in the dtype of the model.

    Raises
    ------
    TypeError, ValueError
        If `x` is not valid for the model, or `mu`, `logvar` or `eps` has another shape or is not
        finite.

    Examples
    --------
    >>> vae = VAE(data_dim=4, latent_dim=2, hidden=(3,))
    >>> x, zeros = np.ones((1, 4)), np.zeros((1, 2))
    >>> log_weights(vae, x, zeros, zeros, np.zeros((5, 1, 2))).shape
    (5, 1)
    """
    x = check_data(vae, x)
    mu = check_rows(mu, vae.latent_dim, "mu", vae.dtype, len(x))
    logvar = check_rows(logvar, vae.latent_dim, "logvar", vae.dtype, len(x))
    eps = check_noise(eps, len(x), vae.latent_dim)
    return weigh_draws(vae, *(np.asarray(a, vae.dtype) for a in (x, mu, logvar, eps)))
