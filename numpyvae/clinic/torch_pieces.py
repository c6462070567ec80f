"""The two terms of a loss(recon, x, mu, second) apart, and what likelihood it has.

With x = 1 a Bernoulli reconstruction at the probability p costs −c log p, so that its values at
p = ½, ¼ and ⅛ lie on a line in log p, and the KL is what is left at log p = 0:

    KL = 2 loss(½) − loss(¼)

This does not assume what the KL is at any (mu, second), and needs no p near 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..support.streams import Purpose, stream
from .torch_draws import draws_of
from .torch_losses import Loss
from .torch_parts import Parts

__all__ = ["likelihood_of", "pieces"]

_ENTROPY = {"binary_cross_entropy", "binary_cross_entropy_with_logits"}
_SQUARE = {"mse_loss"}


def likelihood_of(parts: Parts, loss: Loss | None) -> tuple[str, str]:
    """Return the likelihood, and how it was found.

    Parameters
    ----------
    parts : Parts
    loss : Loss or None

    Returns
    -------
    likelihood : {"bernoulli", "gaussian"}
    how : str

    Examples
    --------
    >>> import torch
    >>> likelihood_of(Parts(None, None, 3 * torch.ones(3, 2)), None)
    ('gaussian', 'x has values outside [0, 1]')
    """
    if bool((parts.x < 0).any() or (parts.x > 1).any()):
        return "gaussian", "x has values outside [0, 1]"
    if parts.decode is not None and isinstance(_decoded(parts), tuple):
        return "gaussian", "the decoder has two outputs"
    if loss is not None and loss.of_outputs is not None:
        kind = _curvature(parts, loss.of_outputs)
        if kind:
            power = {"bernoulli": "linear", "gaussian": "quadratic"}[kind]
            return kind, f"the loss is {power} in x at fixed outputs"
    seen = _operations(parts, loss)
    if seen & _ENTROPY:
        return "bernoulli", "the loss calls a binary cross-entropy"
    if seen & _SQUARE:
        return "gaussian", "the loss calls a squared error"
    return "bernoulli", "x is in [0, 1]; declare another one"


def _decoded(parts: Parts) -> Any:
    with parts.session.calling():
        return parts.found("decode")(parts.found("encode")(parts.x.clone())[0])


def _operations(parts: Parts, loss: Loss | None) -> set[str]:
    """The names of the operations of PyTorch in the loss."""
    if loss is None:
        return set()
    draws = draws_of(parts.session.torch)(no_dropout=parts.session.no_dropout)
    with parts.session.calling(draws=draws):
        loss.of_x(parts.x.clone())
    return draws.seen


def _arguments(parts: Parts) -> tuple[Any, Any, Any] | None:
    """The reconstruction, mu and second at which the function of a loss is tried, one row."""
    recon = parts.recon
    if recon is None or not hasattr(recon, "detach"):
        return None
    with parts.session.calling():
        mu, second = parts.found("encode")(parts.x.clone())
    shape = (-1, *parts.latent_shape)
    return recon[:1].detach(), mu[:1].reshape(shape), second[:1].reshape(shape)


def _curvature(parts: Parts, of_outputs: Callable) -> str:
    """Return "bernoulli" for a loss linear in x, "gaussian" for a quadratic one, else nothing."""
    arguments = _arguments(parts)
    if arguments is None:
        return ""
    recon, mu, second = arguments
    try:
        with parts.session.calling():
            values = [
                float(of_outputs(recon, parts.x[:1] * 0 + v, mu, second).double().mean())
                for v in (0.2, 0.3, 0.4, 0.5)
            ]
    except Exception:
        return ""
    first = np.diff(values)
    size = 1e-6 * max(np.abs(first).max(), 1e-3 * np.abs(values).max())
    if parts.session.dtype == "float32":
        size *= 1e3
    if np.abs(np.diff(first)).max() <= size:
        return "bernoulli"
    return "gaussian" if np.abs(np.diff(first, 2)).max() <= 10 * size else ""


def pieces(parts: Parts, loss: Loss | None, likelihood: str) -> dict[str, Callable]:
    """Return `kl` and `reconstruction` over arrays, if the two terms can be told apart.

    Parameters
    ----------
    parts : Parts
    loss : Loss or None
    likelihood : str

    Returns
    -------
    functions : dict of str to callable

    Examples
    --------
    >>> pieces(Parts(None, None, None), None, "bernoulli")
    {}
    """
    if loss is None or loss.of_outputs is None or not parts.link:
        return {}
    if likelihood != "bernoulli" or parts.session.dtype != "float64":
        return {}
    arguments = _arguments(parts)
    if arguments is None:
        return {}
    terms = _Terms(parts, loss.of_outputs, arguments)
    try:
        apart = terms.are_apart()
    except Exception:
        return {}
    if not apart:
        return {}
    parts.guesses.append("KL and reconstruction: the loss at outputs that are chosen")
    return {"kl": terms.kl, "reconstruction": terms.reconstruction}


class _Terms:
    """The two terms of a function of a loss."""

    def __init__(
        self, parts: Parts, of_outputs: Callable, arguments: tuple[Any, Any, Any]
    ) -> None:
        self.parts, self.session, self.of_outputs = parts, parts.session, of_outputs
        self.recon, mu, second = arguments
        self.at = 0.5 + 0 * mu, 1 + 0 * second
        self.logits = self._are_logits()

    def _are_logits(self) -> bool:
        """Whether the reconstruction has values outside [0, 1] for some z."""
        parts = self.parts
        if parts.link == "sigmoid":
            return False
        z = 3 * stream(0, Purpose.CLINIC, 80).standard_normal((64, self.at[0].numel()))
        with self.session.calling():
            out = parts.found("decode")(self.session.tensor(z))
        inside = bool((out >= 0).all() and (out <= 1).all())
        return parts.link == "logit" or not inside

    def _cost(self, p: float, mu: Any, second: Any) -> Any:
        """The loss of white pixels at a probability, without those of one row."""
        value = float(np.log(p) - np.log1p(-p)) if self.logits else p
        one = self.parts.x[:1] * 0 + 1
        return self.of_outputs(self.recon * 0 + value, one, mu, second)

    def _kl(self, mu: Any, second: Any) -> Any:
        return 2 * self._cost(0.5, mu, second) - self._cost(0.25, mu, second)

    def are_apart(self) -> bool:
        """Whether the costs at three probabilities lie on a line, as those of −c log p do."""
        with self.session.calling():
            a, b, c = (float(self._cost(p, *self.at)) for p in (0.5, 0.25, 0.125))
        return abs(a - 2 * b + c) <= 1e-9 * (abs(a) + abs(c)) and b != a

    def kl(self, mu: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The KL of one row."""
        s = self.session
        width = self.at[0].numel()
        shape = (-1, *self.at[0].shape[1:]) if mu.shape[1] == width else mu.shape
        with s.calling():
            return s.to_numpy(
                self._kl(s.tensor(mu).reshape(shape), s.tensor(second).reshape(shape))
            )

    def reconstruction(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        """The reconstruction of one row, for an output of `decode`."""
        s = self.session
        with s.calling():
            recon = s.tensor(out)
            if self.parts.link == "sigmoid":
                recon = recon.sigmoid()
            if self.parts.link == "logit":
                recon = recon.logit()
            recon = recon.reshape(-1, *self.recon.shape[1:])
            value = self.of_outputs(recon, s.tensor(x), *self.at) - self._kl(*self.at)
            return s.to_numpy(value)
