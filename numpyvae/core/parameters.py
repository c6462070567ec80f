"""One flat vector holds every parameter; names are views into it.

The encoder's parameters φ come first and the decoder's θ after them, so that

    flat = [ φ | θ ],   φ = flat[:n_phi],   θ = flat[n_phi:]

are slices of one contiguous array. Variational inference moves the first slice, the M-step the
second (notes, §3.6); an optimizer, a finite difference, a checkpoint and a norm see one vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

__all__ = ["Parameters", "glorot_uniform"]

Shapes = Mapping[str, tuple[int, ...]]


class Parameters(Mapping[str, np.ndarray]):
    """Named views into one flat vector.

    Parameters
    ----------
    phi_shapes, theta_shapes : mapping of str to tuple of int
        Names and shapes of the encoder's and of the decoder's parameters, in storage order.
    flat : (P,) array, optional
        The vector to look into, used as it is, not copied. Zeros when left out.
    dtype : dtype
        Of the zeros, when `flat` is left out.

    Attributes
    ----------
    flat : (P,) array
        Everything.
    phi : (P_φ,) array
        The encoder's slice of `flat`, a view.
    theta : (P_θ,) array
        The decoder's slice of `flat`, a view.

    Raises
    ------
    ValueError
        If `flat` is not a contiguous vector of the right length.

    Examples
    --------
    >>> p = Parameters({"encoder.W0": (2, 3)}, {"decoder.W0": (3, 1)})
    >>> p["encoder.W0"][:] = 1.0        # writes into the flat vector
    >>> p.flat
    array([1., 1., 1., 1., 1., 1., 0., 0., 0.])
    >>> p.theta.size
    3
    """

    def __init__(
        self,
        phi_shapes: Shapes,
        theta_shapes: Shapes,
        flat: np.ndarray | None = None,
        dtype: np.dtype | str = "float64",
    ) -> None:
        self._phi_shapes = dict(phi_shapes)
        self._theta_shapes = dict(theta_shapes)
        shapes = self._phi_shapes | self._theta_shapes
        size = sum(map(math.prod, shapes.values()))
        if flat is None:
            flat = np.zeros(size, dtype)
        proper = isinstance(flat, np.ndarray) and flat.flags.c_contiguous
        if not proper or flat.shape != (size,):
            raise ValueError(
                f"flat: expected a contiguous vector of {size} parameters, got "
                f"{type(flat).__name__} of shape {np.shape(flat)}; "
                "pass numpy.ascontiguousarray(vector)"
            )
        self._flat = flat
        self._views: dict[str, np.ndarray] = {}
        stop = 0
        for name, shape in shapes.items():
            start, stop = stop, stop + math.prod(shape)
            self._views[name] = flat[start:stop].reshape(shape)
        n_phi = sum(map(math.prod, self._phi_shapes.values()))
        self.phi = flat[:n_phi]
        self.theta = flat[n_phi:]

    @property
    def flat(self) -> np.ndarray:
        """Everything, (P,). Assigning to it copies values in: the views stay views."""
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
        # A copy looks into its own vector; the views are made anew from it.
        return Parameters, (self._phi_shapes, self._theta_shapes, self.flat)

    def __repr__(self) -> str:
        rows = [f"{name} {view.shape}" for name, view in self.items()]
        return f"Parameters({self.flat.size} of {self.flat.dtype}: {', '.join(rows)})"

    def like(self, flat: np.ndarray) -> Parameters:
        """Look into another vector through the same names: a gradient, a complex perturbation."""
        return Parameters(self._phi_shapes, self._theta_shapes, flat)

    def zeros_like(self) -> Parameters:
        """Return zeros under the same names."""
        return self.like(np.zeros_like(self.flat))

    def room_for_gradient(self, wrt: str = "both") -> Parameters:
        """Return a vector under the same names that pullbacks fill.

        `wrt` is "both", "phi" or "theta": the other slice is zero, and what is there in this one,
        as after `numpy.empty`, means nothing.
        """
        room = self.like(np.empty_like(self.flat))
        if wrt == "phi":
            room.theta[:] = 0
        elif wrt == "theta":
            room.phi[:] = 0
        return room

    def layers(self, prefix: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the weights and biases `[(W0, b0), (W1, b1), …]` of one network, as views."""
        views, found = self._views, []
        while (name := f"{prefix}.W{len(found)}") in views:
            found.append((views[name], views[f"{prefix}.b{len(found)}"]))
        return found


def glorot_uniform(
    rng: np.random.Generator, fan_in: int, fan_out: int, heads: int = 1
) -> np.ndarray:
    """Draw a weight matrix from U(−r, r), r² = 6/(in + out) (Glorot & Bengio 2010, §4.2.1).

    Parameters
    ----------
    rng : numpy.random.Generator
    fan_in, fan_out : int
        Width of the layer's input, and of one head of its output.
    heads : int
        Heads side by side in one matrix, as μ and log σ² are; each is initialized for itself.

    Returns
    -------
    W : (fan_in, heads * fan_out) array of float64

    Examples
    --------
    >>> W = glorot_uniform(np.random.default_rng(0), 64, 10, heads=2)
    >>> W.shape, bool(np.abs(W).max() <= np.sqrt(6 / 74))
    ((64, 20), True)
    """
    r = math.sqrt(6.0 / (fan_in + fan_out))
    return rng.uniform(-r, r, size=(fan_in, heads * fan_out))
