"""Any decoder with one or two latents: the evidence by quadrature, from a trained `VAE` as it is.

    p(x) = ∫ p(x|z) p(z) dz                                     Eq. (2)

In one or two dimensions the integral can be done to ten digits. Three steps:

1. *Search* all of z-space for where log p(x, z) comes within 40 nats of its top: on one grid for
   all datapoints, then on finer ones around the nodes found, until neighbors differ by less than
   20 nats.
2. *Integrate* over the box of these nodes, along its principal axes (`integration`).
3. *Confirm*: climb log p(x, z) from points that the search did not choose. A climb that ends near
   the top and outside the box proves that the search has missed a part.

What does not converge raises `QuadratureError`. The likelihood and the activation are known by
their values alone, so that no search can be certain: what is much narrower than a hidden unit and
leaves no slope, far from where the encoder points, is not found. Expectations under a Gaussian q
are integrals over z = μ + 9 C u by the same rules. The number of nodes grows exponentially with J,
which is why Eq. (2) is called intractable.

Symbols: x (B, D); z (L, B, J); nodes come as a list with their rows of x, rows (N,) and z (N, J).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..core.distributions import log_prior
from ..core.vae import VAE
from ..support.checks import check_count, check_positive, check_rows, check_vae
from ..support.streams import Purpose, Seed, stream
from .gaussian import Gaussian, check_gaussian
from .integration import (
    NEGLIGIBLE,
    STEEP,
    Grid,
    Integral,
    QuadratureError,
    check_top,
    evaluated,
    highest,
    trapezoidal,
)
from .model import ExactModel

__all__ = ["Quadrature", "QuadraturePosterior"]

_ROWS = 100  # datapoints that share a search
_NEAR, _FAR = (
    8.0,
    100.0,
)  # the search has nodes δ apart up to here, and ever wider ones up to there
_COARSEST = 0.25  # δ in standard deviations of the prior, at most
_SEARCH_NODES = 1 << 21  # more than this many would take minutes
_ELEMENTS = 1 << 20  # numbers in one block of the search
_CROWD = 3000  # nodes of a row: enough for a box, in whose axes the integral searches on
_SHIFT = 0.382  # of a spacing: no node of the shifted grid is one of the others
_Q_RADIUS = 9.0  # q is integrated over ±9 standard deviations: 1e-18 of its mass is beyond
_CLIMBS, _STEPS = 2, 8  # starts per datapoint, and steps of each climb


class Region(NamedTuple):
    """One parallelepiped for each datapoint: z = center + axes u, u in [−1, 1]^J."""

    center: np.ndarray  # (B, J)
    axes: np.ndarray  # (B, J, J), columns are half-axes

    def z(self, rows: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Map u (N, J) to z (N, J)."""
        return self.center[rows] + np.einsum("njk,nk->nj", self.axes[rows], u)

    def u(self, rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Map z (N, J) to u (N, J)."""
        return np.linalg.solve(self.axes[rows], (z - self.center[rows])[..., None])[..., 0]

    def lengths(self) -> np.ndarray:
        """Euclidean lengths of the axes, from end to end, (B, J)."""
        return 2 * np.sqrt((self.axes**2).sum(axis=1))

    def log_volume(self) -> np.ndarray:
        """log |det A|, the Jacobian of z in u, (B,)."""
        return np.linalg.slogdet(self.axes)[1]


class QuadraturePosterior(NamedTuple):
    """The exact posterior's normalizing constant, Eq. (2), and moments, Eq. (4).

    Attributes
    ----------
    log_evidence : (B,) array
        Nats.
    mean : (B, J) array
    cov : (B, J, J) array

    Examples
    --------
    >>> model = Quadrature(VAE(data_dim=1, latent_dim=1, hidden=(3,)))
    >>> model.posterior([[0], [1]]).gaussian()
    Gaussian(2 datapoints, 1 latent)
    """

    log_evidence: np.ndarray  # (B,)
    mean: np.ndarray  # (B, J)
    cov: np.ndarray  # (B, J, J)

    def gaussian(self) -> Gaussian:
        """Return the Gaussian with these moments: the q that minimizes KL(posterior ‖ q)."""
        return Gaussian.from_covariance(self.mean, self.cov)


class Quadrature(ExactModel):
    """The generative half of a VAE with J ≤ 2, its evidence and posterior by quadrature.

    Parameters
    ----------
    vae : VAE
        With any likelihood and activation. Its decoder is copied, in float64. An activation is
        taken to have kinks unless it declares `smooth = True`, a likelihood if it declares
        `smooth = False`.
    tolerance : float
        Accepted relative change of an integral when its nodes are doubled. Smooth activations are
        then right to rounding; behind kinks it is the error itself. With kinks and two latents the
        default is out of reach and is refused: 1e-5 is a tolerance that small models meet.
    order : int
        Gauss-Lobatto nodes of a panel along each axis, where there are kinks or steep steps.
    max_nodes : int
        Per datapoint and integral.

    Raises
    ------
    ValueError
        If the VAE has more than two latents.
    TypeError
        If it is not a VAE.

    Examples
    --------
    >>> import numpy as np
    >>> vae = VAE(data_dim=1, latent_dim=1, hidden=(3,), dtype="float64")
    >>> model = Quadrature(vae)
    >>> np.exp(model.log_evidence([[0], [1]])).sum().round(12)
    np.float64(1.0)
    """

    def __init__(
        self,
        vae: VAE,
        *,
        tolerance: float = 1e-10,
        order: int = 8,
        max_nodes: int = 1 << 22,
    ) -> None:
        check_vae(vae)
        if vae.latent_dim > 2:
            raise ValueError(
                f"vae: expected at most 2 latents, got {vae.latent_dim}; the nodes of a "
                "quadrature grow as a power of that: use numpyvae.importance_log_likelihood"
            )
        self.vae = vae.with_flat(vae.parameters.flat.astype(float))
        self.tolerance = check_positive("tolerance", tolerance)
        self.order = check_count("order", order, minimum=2)
        self.max_nodes = check_count("max_nodes", max_nodes)
        self._latest: tuple | None = None

    @property
    def data_dim(self) -> int:
        """The number D of dimensions of x."""
        return self.vae.data_dim

    @property
    def latent_dim(self) -> int:
        """The number J of latent variables."""
        return self.vae.latent_dim

    @property
    def _has_kinks(self) -> bool:
        activation = getattr(self.vae.activation, "smooth", False)
        likelihood = getattr(self.vae.likelihood, "smooth", True)
        return not likelihood or (bool(self.vae.architecture.hidden) and not activation)

    def __repr__(self) -> str:
        return f"Quadrature({self.vae!r}, tolerance={self.tolerance:g})"

    # Densities

    def log_prior(self, z: np.ndarray) -> np.ndarray:
        """Log prior log N(z; 0, I), (L, B)."""
        return log_prior(z)[0]

    def log_likelihood(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log-likelihood log p(x|z), (L, B), by the VAE's own decoder and likelihood."""
        return self.vae.log_likelihood(self._rows(x), z)[0]

    def log_evidence(self, x: Any) -> np.ndarray:
        """Log-evidence log ∫ p(x|z) p(z) dz by quadrature, (B,), Eq. (2).

        Parameters
        ----------
        x : (B, D) array_like

        Returns
        -------
        log_px : (B,) array
            Nats.

        Raises
        ------
        QuadratureError
            If the integral of some datapoint does not converge.
        """
        return self.posterior(x).log_evidence

    def posterior(self, x: Any) -> QuadraturePosterior:
        """Normalizing constant, mean and covariance of p(z|x), Eq. (2) to Eq. (4).

        The result for the last `x` is kept, since the checks of the notes ask for it many times.

        Parameters
        ----------
        x : (B, D) array_like

        Returns
        -------
        posterior : QuadraturePosterior

        Raises
        ------
        QuadratureError
            If the integral of some datapoint does not converge.
        """
        return self._solution(self._rows(x))[1]

    def posterior_mass(self, x: Any) -> np.ndarray:
        """Total mass ∫ p(z|x) dz of the density in Eq. (4), (B,): 1 if log p(x) is right.

        By other nodes than those that gave log p(x): those of a shifted grid.
        """
        x = self._rows(x)
        region, posterior = self._solution(x)
        log_scale, value = self._integrate_joint(x, region, moments=False)
        return np.exp(
            log_scale + np.log(value[:, 0]) + region.log_volume() - posterior.log_evidence
        )

    def log_posterior(self, x: Any, z: np.ndarray) -> np.ndarray:
        """Log posterior log p(x, z) − log p(x), (L, B), Eq. (4).

        With one row of x and a grid z (L, 1, J) it is the density to draw.
        """
        return self.log_joint(x, z) - self.log_evidence(x)

    def sample(self, n: int, seed: Seed = 0) -> np.ndarray:
        """Draw from the model, (n, D): `VAE.sample` in float64."""
        return self.vae.sample(n, seed)

    # Expectations under a Gaussian q, every one of them by quadrature but the KL to the prior.

    def expected_log_q(self, q: Gaussian) -> np.ndarray:
        """E_q[log q(z|x)] by quadrature, (B,); in Eq. (6)."""
        self._latents(q)
        return self._expect(q, lambda rows, z: self._log_q(q, rows, z))

    def expected_log_prior(self, q: Gaussian) -> np.ndarray:
        """E_q[log p(z)] by quadrature, (B,); in Eq. (19)."""
        return self._expect(q, lambda rows, z: self.log_prior(z))

    def expected_log_likelihood(self, x: Any, q: Gaussian) -> np.ndarray:
        """E_q[log p(x|z)] by quadrature, (B,); in Eq. (11)."""
        x = self._matched(x, q)
        return self._expect(q, lambda rows, z: self._log_likelihood(x, rows, z))

    def expected_log_joint(self, x: Any, q: Gaussian) -> np.ndarray:
        """E_q[log p(x, z)] by quadrature, (B,); in Eq. (6) and Eq. (7)."""
        x = self._matched(x, q)
        return self._expect(q, lambda rows, z: self._log_joint(x, rows, z))

    def expected_log_posterior(self, x: Any, q: Gaussian) -> np.ndarray:
        """E_q[log p(z|x)] by quadrature, (B,); in Eq. (15)."""
        x = self._matched(x, q)
        log_px = self.log_evidence(x)
        return self._expect(q, lambda rows, z: self._log_joint(x, rows, z) - log_px[rows])

    def kl_to_prior(self, q: Gaussian) -> np.ndarray:
        """KL(q ‖ p(z)) between Gaussians in closed form, (B,); in Eq. (11)."""
        return self._latents(q).kl(Gaussian.standard(*q.mean.shape))

    def kl_to_posterior(self, x: Any, q: Gaussian) -> np.ndarray:
        """KL(q ‖ p(z|x)) = ∫ q log(q / p(z|x)) dz, (B,), Eq. (5): Eq. (13), not Eq. (8).

        Computed as ∫ (q log(q/p) − q + p) dz, which is the same for densities that integrate to
        1 and counts a wrong log p(x) against p. Without the last two terms log p(x) would
        cancel from Eq. (8) and Eq. (9), and checking them would prove nothing about it.
        """
        x = self._matched(x, q)
        log_px = self.log_evidence(x)

        def log_ratio(rows, z):
            log_posterior = self._log_joint(x, rows, z) - log_px[rows]
            return self._log_q(q, rows, z) - log_posterior

        return self._expect(q, log_ratio) + (self.posterior_mass(x) - 1)

    # The integrals

    def _solution(self, x: np.ndarray) -> tuple[Region, QuadraturePosterior]:
        """Return the regions and the posterior of x; kept for the last x."""
        if self._latest is None or not np.array_equal(self._latest[0], x):
            found = []
            step = max(1, min(_ROWS, (1 << 20) // (len(self._axis) ** self.latent_dim)))
            for start in range(0, len(x), step):
                some = x[start : start + step]
                try:
                    with np.errstate(over="ignore", invalid="ignore"):  # refused where it matters
                        region = self._search(some)
                        top, *moments = self._moments(some, region)
                        self._confirm(some, region, top)
                        found.append((*region, *moments))
                except QuadratureError as error:
                    raise error.renumbered(np.arange(start, start + len(some))) from None
            center, axes, *moments = map(np.concatenate, zip(*found))
            self._latest = x.copy(), Region(center, axes), QuadraturePosterior(*moments)
        _, region, posterior = self._latest
        return region, QuadraturePosterior(*map(np.copy, posterior))

    def _moments(self, x: np.ndarray, region: Region) -> tuple[np.ndarray, ...]:
        """Integrate p(x, z) (1, u, u uᵀ); return its top, log-evidence, mean and covariance."""
        J = self.latent_dim
        log_scale, value = self._integrate_joint(x, region)
        mass = value[:, 0]
        mean = value[:, 1 : 1 + J] / mass[:, None]
        second = value[:, 1 + J :].reshape(-1, J, J) / mass[:, None, None]
        cov = second - mean[:, :, None] * mean[:, None, :]
        return (
            log_scale,
            log_scale + np.log(mass) + region.log_volume(),
            region.center + np.einsum("bjk,bk->bj", region.axes, mean),
            region.axes @ cov @ np.swapaxes(region.axes, 1, 2),
        )

    def _integrate_joint(self, x: np.ndarray, region: Region, moments: bool = True) -> Integral:
        """Integrate p(x, z) against 1, u and u uᵀ: in the region's own u they do not cancel.

        Without the moments, against 1 alone, and at other nodes.
        """
        J = self.latent_dim

        def f(rows, u):
            g = [np.ones((len(u), 1))]
            if moments:
                g += [u, (u[:, :, None] * u[:, None, :]).reshape(-1, J * J)]
            return self._log_joint(x, rows, region.z(rows, u)), np.concatenate(g, axis=1)

        least = region.lengths().max(axis=1) / self._delta
        return self._integrate(f, least, 0.0 if moments else _SHIFT)

    def _expect(self, q: Gaussian, g: Callable) -> np.ndarray:
        """E_q[g(z)], (B,), for g(rows, z) of shape (N,): an integral over z = μ + 9 C u."""
        B, J = self._latents(q).mean.shape
        region = Region(q.mean, np.broadcast_to(_Q_RADIUS * q.chol, (B, J, J)))
        height = J * math.log(_Q_RADIUS / math.sqrt(2 * math.pi))  # of the density in u

        def f(rows, u):
            log_w = height - 0.5 * _Q_RADIUS**2 * (u * u).sum(axis=1)
            return log_w, g(rows, region.z(rows, u))[:, None]

        log_scale, value = self._integrate(f, np.zeros(B))
        return value[:, 0] * np.exp(log_scale)

    def _integrate(self, f: Callable, least: np.ndarray, shift: float = 0.0) -> Integral:
        """Integrate all rows, a hundred at a time."""
        order = self.order // 2 + 2 if self._has_kinks else self.order  # kinks are halved away
        settings: dict[str, Any] = {"kinks": self._has_kinks, "order": order, "shift": shift}
        parts = []
        for start in range(0, len(least), _ROWS):
            some = np.arange(start, min(start + _ROWS, len(least)))
            limits = self.latent_dim, self.tolerance, self.max_nodes
            parts.append(trapezoidal(f, some, *limits, least=least[some], **settings))
        return Integral(*map(np.concatenate, zip(*parts)))

    # The search

    @cached_property
    def _delta(self) -> float:
        """The spacing δ of the search: no hidden unit's input moves by more than ½ in a step.

        A unit does what it does within about 1 of its input. A step or a bump of the decoder then
        has nodes on both sides and within, where data that the decoder contradicts on either side
        have their posterior.
        """
        layers, J, delta = self.vae.parameters.decoder[:-1], self.latent_dim, _COARSEST
        for depth in range(len(layers)):
            z = self._nodes(_grid_axis(delta)) if depth else np.zeros((1, J))
            step = max(1, _ELEMENTS // (J * max(W.shape[1] for W, _ in layers)))
            steepest = max(self._steepness(z[i : i + step], depth) for i in range(0, len(z), step))
            delta = min(delta, 0.5 / max(steepest, 1e-300))
            if len(_grid_axis(delta)) ** J > _SEARCH_NODES:
                raise QuadratureError(
                    "expected a decoder whose details can be searched through, got some "
                    f"{delta:.1g} wide; its weights may be too large"
                )
        return delta

    def _steepness(self, z: np.ndarray, depth: int) -> float:
        """Largest |∂a_k/∂z| among the inputs a_k of the units of a layer, over nodes z (G, J)."""
        (W, b), *layers = self.vae.parameters.decoder[: depth + 1]
        a, slope = z @ W + b, np.broadcast_to(W, (len(z), *W.shape))  # ∂a/∂z (G, J, H)
        for W, b in layers:
            h, pull = self.vae.activation(a)
            slope = (slope * pull(np.ones_like(h))[:, None]) @ W
            a = h @ W + b
        return math.sqrt(np.square(slope).sum(axis=1).max())

    @property
    def _axis(self) -> np.ndarray:
        return _grid_axis(self._delta)

    def _nodes(self, axis: np.ndarray) -> np.ndarray:
        """Return the nodes whose coordinates are all on the axis, (G, J)."""
        grid = np.meshgrid(*[axis] * self.latent_dim, indexing="ij")
        return np.stack(grid, axis=-1).reshape(-1, self.latent_dim)

    def _search(self, x: np.ndarray) -> Region:
        """Find, for each datapoint, all of the posterior that matters.

        Returns
        -------
        region : Region
            It holds every node at which log p(x, z) is within 40 nats of the top, or would be if
            log p(x|z) rose once more as much as it does from there to a neighbor.
        """
        B, J, half = len(x), self.latent_dim, len(self._axis) // 2
        grid = Grid(J, half)

        def at(key):
            z = _graded(grid.u(key) * self._delta)
            return evaluated(
                lambda rows, z: (self._log_likelihood(x, rows, z), self.log_prior(z)[:, None]),
                grid.row(key), z,
            )  # fmt: skip

        key, log_px, log_pz = self._scan(x, grid)
        top, center, axes = np.full(B, -np.inf), np.empty((B, J)), np.empty((B, J, J))
        best = np.full(B, -np.inf)
        while len(key):
            row = grid.row(key)
            top = np.maximum(top, highest(row, log_px + log_pz[:, 0], B))
            best = np.maximum(best, highest(row, log_px, B))
            leap = grid.leaps(key, log_px)
            near = self._near(row, log_px, leap, log_pz[:, 0], top, best)
            row, key, leap = row[near], key[near], leap[near]
            log_px, log_pz = log_px[near], log_pz[near]
            u = grid.u(key)
            if (edge := np.abs(u).max(axis=1) >= half).any():
                raise QuadratureError(
                    "expected a posterior that can be searched for, got one that may lie beyond "
                    f"|z| = {_FAR:.0f}; is x anything like what the decoder produces?",
                    int(row[edge.argmax()]),
                )
            crowded = np.bincount(row, minlength=B) > _CROWD
            open_ = (highest(row, leap, B) > STEEP) & ~crowded
            done = ~open_[row]
            if done.any():
                found, z = np.unique(row[done]), _graded(u[done] * self._delta)
                center[found], axes[found] = _principal_box(z, row[done])
            key, log_px, log_pz = key[~done], log_px[~done], log_pz[~done]
            if len(key):
                added = grid.centers(key)
                more_px, more_pz = at(added)
                order = np.argsort(key_all := np.concatenate([key, added]))
                key = key_all[order]
                log_px = np.concatenate([log_px, more_px])[order]
                log_pz = np.concatenate([log_pz, more_pz])[order]
        return Region(center, axes)

    def _scan(self, x: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Meet every node of the first grid with every datapoint; return those that may matter.

        Returns keys (N,), log p(x|z) (N,) and log p(z) (N, 1). Each node is decoded once: the
        decoder's outputs have shape (G, 1, heads·D) and broadcast against x.
        """
        B, n, J = len(x), len(self._axis), self.latent_dim
        z = self._nodes(self._axis)
        step = max(1, _ELEMENTS // (B * max(self.data_dim, *self.vae.architecture.hidden, 1)))
        parts = []
        for i in range(0, len(z), step):
            out, _ = self.vae.decoder(z[i : i + step, None])
            parts.append(self.vae.likelihood.log_prob(x, out, self.vae.parameters)[0])
        log_px = np.concatenate(parts).T  # (B, G)
        if (wrong := ~(log_px < np.inf).all(axis=1)).any() or not (log_px > -np.inf).any():
            raise QuadratureError(
                "expected finite log densities, got NaN or infinity", int(wrong.argmax())
            )
        log_px = np.maximum(log_px, -1e300)
        log_pz = self.log_prior(z)
        table, leap = log_px.reshape(B, *[n] * J), np.zeros((B, *[n] * J))
        for axis in range(1, J + 1):
            size = np.abs(np.diff(table, axis=axis))
            for part in (slice(1, None), slice(None, -1)):
                there = (slice(None),) * axis + (part,)
                np.maximum(leap[there], size, out=leap[there])
        top, best = (log_px + log_pz).max(axis=1), log_px.max(axis=1)
        check_top(top, np.arange(B))
        row = np.arange(B)[:, None]
        near = self._near(row, log_px, leap.reshape(B, -1), log_pz, top, best)
        row, node = np.nonzero(near)
        u = np.stack(np.unravel_index(node, [n] * J), axis=1) - n // 2
        return grid.keys(row, u), log_px[row, node], log_pz[node, None]

    @staticmethod
    def _near(
        row: np.ndarray,
        log_px: np.ndarray,
        leap: np.ndarray,
        log_pz: np.ndarray,
        top: np.ndarray,
        best: np.ndarray,
    ) -> np.ndarray:
        """Tell which nodes are, or may hide something, within 40 nats of the top.

        A leap says how much higher log p(x|z) may be between two nodes, but not 40 nats above
        the best that was seen anywhere.
        """
        reach = np.minimum(log_px + leap, best[row] + NEGLIGIBLE)
        return reach + log_pz > top[row] - NEGLIGIBLE

    def _confirm(self, x: np.ndarray, region: Region, top: np.ndarray) -> None:
        """Climb log p(x, z) from the encoder's mean and a draw; raise if the search missed a part.

        The steps follow the gradient's direction; their length grows after a success and
        shrinks after a failure.
        """
        B, J = len(x), self.latent_dim
        draws = stream(0, Purpose.CLIMBS).standard_normal((_CLIMBS - 1, 1, J))
        z = np.concatenate([self.vae.encoder(x)[0][0][None], np.tile(draws, (1, B, 1))])
        length, height = np.full((_CLIMBS, B, 1), 0.5), np.full((_CLIMBS, B), -np.inf)
        way = np.zeros(())
        for _ in range(_STEPS):
            there = z + length * way
            log_px, pull = self.vae.log_likelihood(x, there)
            value = log_px + self.log_prior(there)
            better = value > height
            slope = pull(np.ones_like(value)) - there
            slope = slope / np.maximum(np.sqrt((slope**2).sum(axis=2, keepdims=True)), 1e-300)
            z, height = np.where(better[..., None], there, z), np.where(better, value, height)
            way = np.where(better[..., None], slope, way)
            length = np.where(better[..., None], 1.5 * length, 0.25 * length)
        rows = np.tile(np.arange(B), _CLIMBS)
        outside = np.abs(region.u(rows, z.reshape(-1, J))).max(axis=1) > 1 + 1e-9
        reached = height.ravel()
        missed = (outside & (reached > top[rows] - NEGLIGIBLE)) | (reached > top[rows] + STEEP)
        if missed.any():
            raise QuadratureError(
                "expected a posterior that a grid can find, got a narrow part that was missed",
                int(rows[missed.argmax()]),
            )

    def _log_likelihood(self, x: np.ndarray, rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        """log p(x|z) of nodes z (N, J) with their rows of x, (N,)."""
        return self.vae.log_likelihood(x[rows], z[None])[0][0]

    def _log_joint(self, x: np.ndarray, rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        """log p(x, z) of nodes with their rows of x, (N,), Eq. (1)."""
        return self._log_likelihood(x, rows, z) + self.log_prior(z)

    @staticmethod
    def _log_q(q: Gaussian, rows: np.ndarray, z: np.ndarray) -> np.ndarray:
        """log q(z|x) of nodes with their rows, (N,)."""
        return q.rows(rows).log_pdf(z[None])[0]

    def _rows(self, x: Any) -> np.ndarray:
        """Return x as a (B, D) array of float64 that the likelihood accepts."""
        x = check_rows(x, self.data_dim)
        self.vae.likelihood.check(x)
        return x.astype(float, copy=False)

    def _latents(self, q: Gaussian) -> Gaussian:
        """Return q if it is a Gaussian over as many latents as the model has."""
        return check_gaussian(q, self.latent_dim)

    def _matched(self, x: Any, q: Gaussian) -> np.ndarray:
        """Return x, checked, with one row of q for each of its rows."""
        x = self._rows(x)
        check_gaussian(q, self.latent_dim, len(x))
        return x


def _graded(t: np.ndarray) -> np.ndarray:
    """z = t up to |t| = 8, then sign(t) 8 e^(|t| − 8): equal steps in t grow with |z|."""
    beyond = np.maximum(np.abs(t) - _NEAR, 0)
    return np.clip(t, -_NEAR, _NEAR) * np.exp(beyond)


def _grid_axis(delta: float) -> np.ndarray:
    """Nodes of the search on one axis, from −100 to 100, δ apart in t."""
    half = math.ceil((_NEAR + math.log(_FAR / _NEAR)) / delta)
    return _graded(delta * np.arange(-half, half + 1))


def _principal_box(z: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box the nodes z (N, J) of each row, sorted by row, along their principal axes."""
    first = np.flatnonzero(np.diff(row, prepend=-1))  # where each row begins
    counts = np.diff(first, append=len(row))
    mean = np.add.reduceat(z, first) / counts[:, None]
    deviation = z - np.repeat(mean, counts, axis=0)
    cov = np.add.reduceat(deviation[:, :, None] * deviation[:, None, :], first)
    turn = np.linalg.eigh(cov)[1]  # columns: the principal axes
    along = np.einsum("nj,njk->nk", deviation, np.repeat(turn, counts, axis=0))
    low, high = np.minimum.reduceat(along, first), np.maximum.reduceat(along, first)
    center = mean + np.einsum("bjk,bk->bj", turn, (low + high) / 2)
    return center, turn * ((high - low) / 2)[:, None, :]
