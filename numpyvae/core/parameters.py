"""All parameters in one flat vector, with names for its parts.

    flat = [ φ | θ ],   φ = flat[:n_phi],   θ = flat[n_phi:]

φ are the encoder's parameters, θ those of decoder and likelihood; P is their number. Variational
inference moves φ, the M-step moves θ (notes, §3.6). Optimizers, gradient checks and files use the
whole vector.
"""

from __future__ import annotations

import math
import re
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
        Names and shapes of the parameters in φ and θ, in order.
    flat : (P,) array, optional
        The vector, which is not copied; zeros if left out.
    dtype : dtype
        Of the zeros.

    Attributes
    ----------
    flat, phi, theta : (P,), (P_φ,) and (P_θ,) array
        The vector and its two slices.
    encoder, decoder : list of (W, b)
        Weights and biases of each layer, as views.
    epochs : int
        Passes of `fit` over the data that moved these parameters.

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
        stop, places = 0, []
        for name, shape in (self._shapes[0] | self._shapes[1]).items():
            start, stop = stop, stop + math.prod(shape)
            places.append((name, slice(start, stop), shape))
        n_phi = sum(map(math.prod, self._shapes[0].values()))
        layers = [  # a likelihood may have decoder.beta
            [(b.replace(".b", ".W"), b) for b in part if re.search(r"\.b\d+$", b)]
            for part in self._shapes
        ]
        self._layout = places, n_phi, layers
        self._view(np.zeros(stop, dtype) if flat is None else check_vector("flat", flat, stop))

    def _view(self, flat: np.ndarray) -> None:
        """Make the views of `flat` under their names."""
        places, n_phi, layers = self._layout
        views = {name: flat[place].reshape(shape) for name, place, shape in places}
        self.phi, self.theta = flat[:n_phi], flat[n_phi:]
        self.encoder, self.decoder = ([(views[W], views[b]) for W, b in part] for part in layers)
        self._flat, self._views, self.epochs = flat, views, 0

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
        # `deepcopy` and `pickle` copy the vector and make new views.
        return Parameters, (*self._shapes, self.flat), {"epochs": self.epochs}

    def __repr__(self) -> str:
        rows = [f"{name} {view.shape}" for name, view in self.items()]
        return f"Parameters({self.flat.size} of {self.flat.dtype}: {', '.join(rows)})"

    def part(self, update: str) -> np.ndarray:
        """Return a view of what `update` moves: "both" is `flat`, else `phi` or `theta`."""
        return {"both": self.flat, "phi": self.phi, "theta": self.theta}[update]

    def like(self, flat: np.ndarray) -> Parameters:
        """Give the same names to another vector: a gradient, a complex perturbation."""
        twin = Parameters.__new__(Parameters)
        twin._shapes, twin._layout = self._shapes, self._layout
        twin._view(check_vector("flat", flat, self.flat.size))
        return twin

    def zeros_like(self) -> Parameters:
        """Return zeros under the same names."""
        return self.like(np.zeros_like(self.flat))

    def empty_gradient(self, update: str = "both") -> Parameters:
        """Return an uninitialized vector under the same names, which pullbacks fill.

        With `update` "phi" or "theta" the other slice is zero.
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
        Number of matrices side by side (μ and log σ²: 2).

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
