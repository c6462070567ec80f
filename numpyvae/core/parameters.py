"""All parameters in one flat vector, with names for its parts.

    flat = [ φ | θ ],   φ = flat[:n_phi],   θ = flat[n_phi:]

Variational inference moves the first slice, the M-step the second (notes, §3.6). An optimizer, a
finite difference and a checkpoint see one vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from ..support.checks import check_vector

__all__ = ["Parameters", "glorot_uniform"]

Shapes = Mapping[str, tuple[int, ...]]


class Parameters(Mapping[str, np.ndarray]):
    """Named views into one flat vector.

    Parameters
    ----------
    phi_shapes, theta_shapes : mapping of str to tuple of int
        Names and shapes of the encoder's and the decoder's parameters, in order.
    flat : (P,) array, optional
        The vector, which is not copied; zeros if left out.
    dtype : dtype
        Of the zeros.

    Attributes
    ----------
    flat, phi, theta : (P,), (P_φ,) and (P_θ,) array
        The vector and its two slices.
    encoder, decoder : list of (W, b)
        Weights and biases of each layer of the two networks, as views.
    epochs : int
        Number of passes over the data that `fit` has made to move these parameters.

    Raises
    ------
    ValueError
        If `flat` is not a contiguous vector of the right length.

    Examples
    --------
    >>> p = Parameters({"encoder.W0": (2, 3), "encoder.b0": (3,)}, {"decoder.W0": (3, 1)})
    >>> p["encoder.W0"][:] = 1.0        # writes into the flat vector
    >>> p.flat[:8]
    array([1., 1., 1., 1., 1., 1., 0., 0.])
    >>> p.theta.size, [W.shape for W, b in p.encoder]
    (3, [(2, 3)])
    """

    def __init__(
        self,
        phi_shapes: Shapes,
        theta_shapes: Shapes,
        flat: np.ndarray | None = None,
        dtype: np.dtype | str = "float64",
    ) -> None:
        self._shapes = dict(phi_shapes), dict(theta_shapes)
        shapes = self._shapes[0] | self._shapes[1]
        size = sum(map(math.prod, shapes.values()))
        flat = np.zeros(size, dtype) if flat is None else check_vector("flat", flat, size)
        self._flat = flat
        self._views: dict[str, np.ndarray] = {}
        stop = 0
        for name, shape in shapes.items():
            start, stop = stop, stop + math.prod(shape)
            self._views[name] = flat[start:stop].reshape(shape)
        n_phi = sum(map(math.prod, self._shapes[0].values()))
        self.phi, self.theta = flat[:n_phi], flat[n_phi:]
        self.encoder, self.decoder = self._layers("encoder"), self._layers("decoder")
        self.epochs = 0

    def _layers(self, network: str) -> list[tuple[np.ndarray, np.ndarray]]:
        views, found = self._views, []
        while (b := views.get(f"{network}.b{len(found)}")) is not None:
            found.append((views[f"{network}.W{len(found)}"], b))
        return found

    @property
    def flat(self) -> np.ndarray:
        """The whole vector, (P,). Assignment copies the values."""
        return self._flat

    @flat.setter
    def flat(self, values: np.ndarray) -> None:
        self._flat[:] = values

    def __getitem__(self, name: str) -> np.ndarray:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __reduce__(self):
        # A copy has its own vector; its views are made anew.
        return Parameters, (*self._shapes, self.flat), {"epochs": self.epochs}

    def __repr__(self) -> str:
        rows = [f"{name} {view.shape}" for name, view in self.items()]
        return f"Parameters({self.flat.size} of {self.flat.dtype}: {', '.join(rows)})"

    def part(self, update: str) -> np.ndarray:
        """Return the vector that moves, as a view: "both" is `flat`, else `phi` or `theta`."""
        return {"both": self.flat, "phi": self.phi, "theta": self.theta}[update]

    def like(self, flat: np.ndarray) -> Parameters:
        """Give the same names to another vector: a gradient, a complex perturbation."""
        return Parameters(*self._shapes, flat)

    def zeros_like(self) -> Parameters:
        """Return zeros under the same names."""
        return self.like(np.zeros_like(self.flat))

    def empty_gradient(self, update: str = "both") -> Parameters:
        """Return an uninitialized vector under the same names, which pullbacks fill.

        With `update` "phi" or "theta" the other slice, which nobody will fill, is zero.
        """
        gradient = self.like(np.empty_like(self.flat))
        if update != "both":
            gradient.part("theta" if update == "phi" else "phi")[:] = 0
        return gradient


def glorot_uniform(
    rng: np.random.Generator, fan_in: int, fan_out: int, heads: int = 1
) -> np.ndarray:
    """Draw a weight matrix from U(−r, r), r² = 6/(in + out) (Glorot & Bengio 2010, §4.2.1).

    Parameters
    ----------
    rng : numpy.random.Generator
    fan_in, fan_out : int
    heads : int
        Number of matrices side by side, as those of μ and log σ².

    Returns
    -------
    W : (fan_in, heads * fan_out) array

    Examples
    --------
    >>> W = glorot_uniform(np.random.default_rng(0), 64, 10, heads=2)
    >>> W.shape, bool(np.abs(W).max() <= np.sqrt(6 / 74))
    ((64, 20), True)
    """
    r = math.sqrt(6.0 / (fan_in + fan_out))
    return rng.uniform(-r, r, size=(fan_in, heads * fan_out))
