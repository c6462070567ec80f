"""What functions of PyTorch VAEs return, brought into one form.

An encoder returns two tensors, or a `Normal`, or z beside them; a loss is a number, an entry of a
dict, or the first of several.
"""

from __future__ import annotations

from typing import Any

__all__ = ["flattened", "normal_pair", "output", "role", "total"]

_TOTALS = ("loss", "total_loss", "total", "nelbo", "neg_elbo", "elbo")
_SECOND = ("var", "std", "sigma", "sd", "scale", "log_s", "logs")
_RECON = ("recon", "hat", "tilde", "pred", "output", "rec", "decoded", "generated", "logits")
_DATA = ("input", "data", "target", "image", "img", "orig", "batch", "true", "real", "label")


def flattened(value: Any) -> list[Any]:
    """Return the tensors and distributions in nested tuples, lists and dicts, in their order.

    Parameters
    ----------
    value : object

    Returns
    -------
    parts : list

    Examples
    --------
    >>> import torch
    >>> len(flattened((torch.ones(1), [torch.ones(2), {"z": torch.ones(3)}], "text")))
    3
    """
    if isinstance(value, dict):
        return flattened(tuple(value.values()))
    if isinstance(value, (tuple, list)):
        return [part for item in value for part in flattened(item)]
    return [value] if hasattr(value, "detach") or hasattr(value, "log_prob") else []


def normal_pair(value: Any) -> tuple[Any, Any] | None:
    """Return the mean and the standard deviation of a normal distribution, None for others.

    Parameters
    ----------
    value : object

    Returns
    -------
    pair : (mean, stddev) or None

    Examples
    --------
    >>> import torch
    >>> from torch.distributions import Independent, Normal
    >>> normal_pair(Independent(Normal(torch.zeros(1), torch.ones(1)), 1))
    (tensor([0.]), tensor([1.]))
    """
    value = getattr(value, "base_dist", value)
    return (value.loc, value.scale) if type(value).__name__ == "Normal" else None


def output(value: Any) -> Any:
    """Return what a decoder gives for each row: a tensor, or (mean, second).

    Parameters
    ----------
    value : object

    Returns
    -------
    out : tensor or pair of tensors

    Raises
    ------
    TypeError
        If it is something else.

    Examples
    --------
    >>> from torch.distributions import Bernoulli
    >>> import torch
    >>> output(Bernoulli(logits=torch.ones(2)))
    tensor([1., 1.])
    """
    parts = flattened(value)
    if len(parts) not in (1, 2):
        raise TypeError(f"expected one output or (mean, second), got {type(value).__name__}")
    if len(parts) == 2:
        return tuple(parts)
    (part,) = parts
    if hasattr(part, "detach"):
        return part
    pair, inner = normal_pair(part), getattr(part, "base_dist", part)
    if pair is None and not hasattr(inner, "logits"):
        raise TypeError(f"expected tensors, Normal or Bernoulli, got {type(inner).__name__}")
    return inner.logits if pair is None else pair


def total(value: Any, *, terms: bool | None = None) -> tuple[Any, str]:
    """Return the loss in what a function of a loss returns, and what was taken.

    Parameters
    ----------
    value : object
    terms : bool, optional
        Whether two values are the two terms of the loss; if not, the first is the loss.

    Returns
    -------
    loss : tensor
    taken : str

    Raises
    ------
    TypeError
        If there is no number in it, or two of which it is not known what they are.

    Examples
    --------
    >>> import torch
    >>> total((torch.tensor(3.0), torch.tensor(1.0), torch.tensor(2.0)))
    (tensor(3.), 'the first of 3 values')
    >>> total((torch.tensor(1.0), torch.tensor(2.0)), terms=True)
    (tensor(3.), 'the sum of 2 values')
    """
    if isinstance(value, dict):
        keys = [k for k in _TOTALS if k in value]
        if keys:
            return value[keys[0]], f"the entry {keys[0]!r}"
    elif hasattr(value, "loss"):
        return value.loss, "the attribute loss"
    parts = [p for p in flattened(value) if hasattr(p, "detach") and p.is_floating_point()]
    if not parts or parts[0].dim() > 1:
        raise TypeError(f"expected a loss, got {type(value).__name__}")
    if len(parts) == 1:
        return parts[0], ""
    if len(parts) == 2 and terms is None:
        raise TypeError("expected one loss, got two values; return the loss, or their sum")
    if len(parts) == 2 and terms:
        return parts[0] + parts[1], "the sum of 2 values"
    return parts[0], f"the first of {len(parts)} values"


def role(name: str) -> str:
    """Return what an argument of a loss is by its name, "" if it does not tell.

    Parameters
    ----------
    name : str

    Returns
    -------
    role : {"recon", "x", "mu", "second", "z", ""}

    Examples
    --------
    >>> [role(n) for n in ("recon_x", "x", "mu", "log_var", "beta")]
    ['recon', 'x', 'mu', 'second', '']
    """
    name = name.lower()
    if name in ("z", "latent", "latents", "sample"):
        return "z"
    if any(token in name for token in _RECON) or name in ("y", "x_mu", "x_mean", "xhat", "x_out"):
        return "recon"
    if any(token in name for token in _SECOND):
        return "second"
    if "mu" in name or "mean" in name or name == "loc":
        return "mu"
    return "x" if name in ("x", "inputs") or any(token in name for token in _DATA) else ""
