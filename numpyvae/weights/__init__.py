"""Weights of dense VAEs of other libraries, in and out: state dicts and safetensors files.

    state = net.state_dict()                                     of a PyTorch module
    vae = from_state_dict(state, PYTORCH_EXAMPLE, activation="relu", likelihood="bernoulli")
    net.load_state_dict({k: torch.from_numpy(v) for k, v in to_state_dict(vae, …).items()})

A state dict is a mapping from names to arrays. A `Layout` declares which of its tensors is which
part of the model: `PYTORCH_EXAMPLE`, what `sequential_layout` returns, or one of your own.

The functions share these parameters:

- `layout : Layout`
- `activation : str or callable`, the activation of the hidden layers, which a state dict does not
  contain
- `likelihood : str or Likelihood`, the distribution p(x|z), which it does not contain either

`from_state_dict` and `load_safetensors` raise a ValueError that names each tensor that is missing,
left over, of another shape or of another dtype.
"""

from .files import load_safetensors, save_safetensors
from .layouts import PYTORCH_EXAMPLE, Layout, sequential_layout
from .state import from_state_dict, to_state_dict

__all__ = [
    "PYTORCH_EXAMPLE",
    "Layout",
    "from_state_dict",
    "load_safetensors",
    "save_safetensors",
    "sequential_layout",
    "to_state_dict",
]
