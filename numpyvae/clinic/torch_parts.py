"""The parts of a VAE in PyTorch: encoder, decoder, draw and loss, found by names and by trial.

With the noise replaced by ε = 0 the draw z = μ + σ ε is μ, and `forward` returns the decoded μ.
This tells μ from the other outputs of the encoder, and what of `decode` is in `forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .torch_draws import draws_of
from .torch_results import flattened, normal_pair, output
from .torch_state import Session

__all__ = ["Parts", "find_parts"]

_ENCODE = (
    "encode", "encoder", "Encoder", "inference", "inference_net", "recognition", "q_net", "enc",
)  # fmt: skip
_DECODE = (
    "decode", "decoder", "Decoder", "generative", "generative_net", "generator", "p_net", "dec",
)  # fmt: skip
_SAMPLE = (
    "reparameterize", "reparametrize", "reparameterization", "reparametrization", "reparam",
    "reparameterise", "sample_z", "sampling", "sample_latent", "sample",
)  # fmt: skip


@dataclass
class Parts:
    """The parts of a model, functions of tensors; what was not found is None.

    Parameters
    ----------
    session : Session
    module : torch.nn.Module
    x : (B, ...) tensor
        The rows at which they were tried.
    encode : callable, optional
        x → (mu, second), (B, J) each.
    decode : callable, optional
        z (B, J) → output, or (mean, second).
    sample : callable, optional
        (mu, second) → z.
    forward : callable, optional
        x → the list of outputs of the module.
    latent_shape : tuple of int
        The shape of one row of z.
    recon : object
        What `forward` returns as the reconstruction, without noise.
    link : str
        What is between `decode` and the reconstruction of `forward`: "identity", "sigmoid",
        "logit", or "" if it is not known.
    scale : str or None
        What the second output of the encoder is, if this is certain.
    guesses : list of str

    Examples
    --------
    >>> Parts(None, None, None).latent_shape
    ()
    """

    session: Session
    module: Any
    x: Any
    encode: Callable | None = None
    decode: Callable | None = None
    sample: Callable | None = None
    forward: Callable | None = None
    latent_shape: tuple[int, ...] = ()
    recon: Any = None
    link: str = ""
    scale: str | None = None
    guesses: list[str] = field(default_factory=list)

    def found(self, name: str) -> Callable:
        """Return the part of this name, where it is known to be there."""
        return getattr(self, name)


def find_parts(
    session: Session,
    module: Any,
    x: Any,
    encode: Callable | None = None,
    decode: Callable | None = None,
    sample: Callable | None = None,
) -> Parts:
    """Find the parts of a module.

    Parameters
    ----------
    session : Session
    module : torch.nn.Module
    x : (B, ...) tensor
    encode, decode, sample : callable, optional
        Those that are known.

    Returns
    -------
    parts : Parts

    Examples
    --------
    >>> import torch
    >>> class Linear(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.encode, self.decode = torch.nn.Linear(3, 4), torch.nn.Linear(2, 3)
    ...     def forward(self, x):
    ...         mu, s = self.encode(x).chunk(2, -1)
    ...         return self.decode(mu + s.exp() * torch.randn_like(s)), mu, s
    >>> model = Linear()
    >>> parts = find_parts(Session(torch, [model], "float32"), model, torch.ones(4, 3))
    >>> parts.latent_shape, parts.link
    ((2,), 'identity')
    """
    parts = Parts(session, module, x)
    outputs = _forward(parts)
    _encoder(parts, encode, outputs)
    if parts.encode is None:
        return parts
    _decoder(parts, decode)
    _sampler(parts, sample)
    _order(parts, outputs)
    _check_decoder(parts, named=decode is not None or _is_method(module, "decode"))
    if sample is None:
        _check_sampler(parts)
    return parts


def _is_method(module: Any, name: str) -> bool:
    """Whether a name is a function of the module, and not one of its layers."""
    member = getattr(module, name, None)
    return callable(member) and not hasattr(member, "parameters")


def _owners(module: Any) -> Iterator[Any]:
    """The module, what it wraps, and its encoder, where methods are looked for."""
    yield module
    for name in ("module", "model", "vae", "encoder"):
        inner = getattr(module, name, None)
        if hasattr(inner, "parameters"):
            yield inner


def _members(parts: Parts, names: tuple[str, ...], given: Callable | None) -> Iterator[tuple]:
    """The functions with one of these names: (shown name, function)."""
    if given is not None:
        yield "that is given", given
        return
    for owner in _owners(parts.module):
        for name in names:
            member = getattr(owner, name, None)
            if callable(member):
                yield name, member


def _tried(parts: Parts, function: Callable | None, *args: Any, noise: Any = None) -> Any:
    """The result of a function, None if there is none or it raises an error."""
    if function is None:
        return None
    draws = draws_of(parts.session.torch)(noise, no_dropout=parts.session.no_dropout)
    try:
        with parts.session.calling(draws=draws):
            return function(*(a.clone() if hasattr(a, "clone") else a for a in args))
    except Exception:
        return None


def _forward(parts: Parts) -> list[Any]:
    """Set `forward`, if it returns several tensors; return its outputs without noise."""
    call = parts.module
    value = _tried(parts, call, parts.x, noise=0.0)
    if value is None:
        value = _tried(parts, call, parts.x)
    outputs = flattened(value)
    if len(outputs) > 1:
        parts.forward = lambda x: flattened(call(x))
    return outputs


def _pair(parts: Parts, function: Callable) -> tuple | None:
    """The pair (mu, second) that a function of x returns, and how to take it, or None."""
    calls = [flattened(_tried(parts, function, parts.x)) for _ in range(2)]
    rows = len(parts.x)
    for items in zip(*calls):
        pair = normal_pair(items[0])
        if pair is not None and len(pair[0]) == rows:
            index = next(i for i, v in enumerate(calls[0]) if v is items[0])
            return pair, lambda v, index=index: normal_pair(flattened(v)[index]), "sigma"
    # z, which differs between two calls, is left out
    steady = [i for i, (a, b) in enumerate(zip(*calls)) if hasattr(a, "shape") and _same(a, b)]
    for k, i in enumerate(steady):
        for j in steady[k + 1 :]:
            a, b = calls[0][i], calls[0][j]
            latent = a.dim() > 1 and len(a) == rows and a[0].numel() != parts.x[0].numel()
            if a.shape == b.shape and (latent or len(calls[0]) == 2):
                return (a, b), lambda v, i=i, j=j: (flattened(v)[i], flattened(v)[j]), None
    return None


def _same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and bool((a == b).all())


def _encoder(parts: Parts, given: Callable | None, outputs: list[Any]) -> None:
    """Set `encode`, from a function that returns two tensors, or from the outputs of `forward`."""
    candidates = list(_members(parts, _ENCODE, given))
    if given is None and parts.forward is not None:
        candidates.append(("forward", parts.module))
    for name, function in candidates:
        found = _pair(parts, function)
        if found is None and parts.x.dim() > 2 and name != "forward":  # flattened by forward
            function = _of_rows(function)
            found = _pair(parts, function)
        if found is None:
            continue
        (mu, _), take, parts.scale = found
        parts.latent_shape = tuple(mu.shape[1:])
        parts.encode = _encoding(function, take)
        parts.guesses.append(f"encoder: {name}, (mu, second) of shape {parts.latent_shape}")
        return
    if given is None:
        _halves(parts)


def _of_rows(function: Callable) -> Callable:
    """A function of the rows of x as vectors."""
    return lambda x: function(x.reshape(len(x), -1))


def _encoding(function: Callable, take: Callable) -> Callable:
    """x → (mu, second), each (B, J)."""

    def encode(x):
        return tuple(part.reshape(len(x), -1) for part in take(function(x)))

    return encode


def _halves(parts: Parts) -> None:
    """Set `encode` by an encoder whose one output has mu and the second output side by side."""
    for name, function in _members(parts, _ENCODE, None):
        out = flattened(_tried(parts, function, parts.x))
        if len(out) != 1 or not hasattr(out[0], "dim") or out[0].dim() != 2 or out[0].shape[1] % 2:
            continue
        half = out[0].shape[1] // 2
        if any(
            _tried(parts, decode, out[0][:, :half]) is not None
            for _, decode in _members(parts, _DECODE, None)
        ):
            parts.latent_shape = (half,)
            parts.encode = _encoding(function, lambda v: flattened(v)[0].chunk(2, 1))
            parts.guesses.append(f"encoder: {name}, mu and the second output are its halves")
            return


def _decoder(parts: Parts, given: Callable | None) -> None:
    """Set `decode`."""
    mu, _ = _tried(parts, parts.encode, parts.x)
    shape = parts.latent_shape
    for name, function in _members(parts, _DECODE, given):

        def decode(z, function=function):
            return output(function(z.reshape(-1, *shape)))

        value = _tried(parts, decode, mu)
        first = value[0] if isinstance(value, tuple) else value
        if first is not None and first.numel() == parts.x.numel():
            parts.decode = decode
            parts.guesses.append(f"decoder: {name}")
            return


def _sampler(parts: Parts, given: Callable | None) -> None:
    """Set `sample`, a function of (mu, second) whose results have their shape."""
    mu, second = _tried(parts, parts.encode, parts.x)
    shape = parts.latent_shape
    for name, function in _members(parts, _SAMPLE, given):

        def sample(mu, second, function=function):
            z = function(mu.reshape(-1, *shape), second.reshape(-1, *shape))
            return flattened(z)[0].reshape(mu.shape)

        if _tried(parts, sample, mu, second) is not None:
            parts.sample = sample
            parts.guesses.append(f"draw: {name}")
            return


def _order(parts: Parts, outputs: list[Any]) -> None:
    """Exchange the outputs of the encoder, if the second is what is decoded without noise."""
    mu, second = _tried(parts, parts.encode, parts.x)
    if parts.sample is not None:
        z = _tried(parts, parts.sample, mu, second, noise=0.0)
        swapped = z is not None and _close(z, second) and not _close(z, mu)
    else:
        decoded = [None, None] if parts.decode is None else [
            _tried(parts, parts.decode, v) for v in (mu, second)
        ]  # fmt: skip
        swapped = _match(decoded[1], outputs) and not _match(decoded[0], outputs)
    if swapped:
        encode, sample = parts.found("encode"), parts.sample
        parts.encode = lambda x: encode(x)[::-1]
        parts.guesses.append("encoder: its second output is mu, which is decoded without noise")
        if sample is not None:
            parts.sample = lambda mu, second: sample(second, mu)


def _match(decoded: Any, outputs: list[Any]) -> bool:
    """Whether one of the outputs is what is decoded, or a sigmoid of it."""
    return any(_link(decoded, out) for out in outputs)


def _close(a: Any, b: Any) -> bool:
    if not hasattr(a, "shape") or not hasattr(b, "shape") or a.numel() != b.numel():
        return False
    tolerance = 1e-4 if "32" in str(a.dtype) else 1e-9
    difference = (a.reshape(-1) - b.reshape(-1)).abs().max()
    return bool(difference <= tolerance * (1 + b.abs().max()))


def _link(decoded: Any, out: Any) -> str:
    """What is between the output of `decode` and that of `forward`."""
    if not hasattr(out, "detach"):
        try:
            out = output(out)
        except TypeError:
            return ""
    if isinstance(out, tuple) or isinstance(decoded, tuple):
        both = isinstance(out, tuple) and isinstance(decoded, tuple)
        return "identity" if both and all(map(_close, decoded, out)) else ""
    if _close(decoded, out):
        return "identity"
    if hasattr(decoded, "sigmoid") and _close(decoded.sigmoid(), out):
        return "sigmoid"
    return "logit" if hasattr(out, "sigmoid") and _close(decoded, out.sigmoid()) else ""


def _check_decoder(parts: Parts, named: bool) -> None:
    """Find the reconstruction in `forward`; a layer that does not give it is not the decoder."""
    mu, second = _tried(parts, parts.encode, parts.x)
    outputs = [] if parts.forward is None else _tried(parts, parts.forward, parts.x, noise=0.0)
    if parts.decode is None or not outputs:
        return
    z = None if parts.sample is None else _tried(parts, parts.sample, mu, second, noise=0.0)
    for start in (mu, mu if z is None else z):
        decoded = _tried(parts, parts.decode, start)
        for out in outputs:
            parts.link = _link(decoded, out)
            if parts.link:
                parts.recon = out
                return
    if not named:
        parts.decode = None
        parts.guesses.append("decoder: not used, since forward decodes mu to another output")


def _check_sampler(parts: Parts) -> None:
    """A draw that does not give the z of `forward` for its arguments (mu, second) is not used.

    Its second argument may be σ = exp(½ log σ²), which `forward` computes before.
    """
    if parts.sample is None or parts.forward is None or not parts.link:
        return
    torch = parts.session.torch
    mu, second = _tried(parts, parts.encode, parts.x)
    noise = torch.linspace(-1.5, 1.5, mu.numel(), dtype=mu.dtype, device=mu.device)
    z = _tried(parts, parts.sample, mu, second, noise=noise)
    decoded = _tried(parts, parts.decode, z)
    if not _match(decoded, flattened(_tried(parts, parts.module, parts.x, noise=noise))):
        parts.sample = None
        parts.guesses.append("draw: not used, since forward does not call it with (mu, second)")
