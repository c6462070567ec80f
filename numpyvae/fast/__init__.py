"""The accelerator, for those who choose it: what walks over memory, compiled by Numba.

    fit(compiled(vae), x, epochs=20, optimizer=CompiledAdam(learning_rate=1e-3))

NumPy walks over memory once for each operation. Beside the matrix products, a step of training
walks over the parameters (Adam), over the hidden layers (tanh) and over the pixels of every draw
(the log-likelihood), many times each. Compiled, each is one walk, on one core:

| | in place of | |
|---|---|---|
| `CompiledAdam` | `optimizers.Adam` | the same bits |
| `compiled(vae)` | tanh and the Bernoulli and Binomial log p of `vae` | within rounding |

Nothing else changes, and nothing here is used unless it is asked for. The first step compiles, in
some three seconds; Numba keeps the result on disk beside these files, or where NUMBA_CACHE_DIR
says.
"""

from .adam import CompiledAdam
from .model import compiled

__all__ = ["CompiledAdam", "compiled"]
