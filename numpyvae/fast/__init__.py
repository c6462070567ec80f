"""Optional faster versions of Adam, tanh and log p, compiled by Numba.

    fit(compiled(vae), x, epochs=20, optimizer=CompiledAdam(learning_rate=1e-3))

NumPy makes one pass over memory for each operation. Beside the matrix products, a training step
makes many passes over the parameters (Adam), the hidden layers (tanh) and the pixels of every draw
(the log-likelihood). Compiled, each of them is one pass, on one core:

| | replaces | result |
|---|---|---|
| `CompiledAdam` | `optimizers.Adam` | the same bits |
| `compiled(vae)` | tanh and the Bernoulli and Binomial log p of `vae` | equal within rounding |

Nothing here is used unless it is asked for. The first step compiles, which takes about three
seconds; Numba keeps the result on disk beside these files, or in the folder NUMBA_CACHE_DIR.
"""

from .adam import CompiledAdam
from .model import compiled
from .step import CompiledDReG, CompiledIWAE, CompiledSGVB, compiled_estimator

__all__ = [
    "CompiledAdam",
    "CompiledDReG",
    "CompiledIWAE",
    "CompiledSGVB",
    "compiled",
    "compiled_estimator",
]
