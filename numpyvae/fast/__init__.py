"""Optional faster versions of the training step, Adam, tanh and log p, compiled by Numba.

    fit(vae, x, epochs=20, estimator=CompiledSGVB(), optimizer=CompiledAdam(learning_rate=1e-3))

NumPy makes one pass over memory for each operation, and each call has a cost of its own, which
counts on small networks. Compiled, a step is one call: the matrix products are those of
BLAS, and all that is between two products is one pass, on one core:

| | replaces | result |
|---|---|---|
| `CompiledSGVB(n_samples=L)` | `Estimator`, and `SGVBB` with β = 1 | equal within rounding |
| `CompiledIWAE(K)`, `CompiledDReG(K)` | `IWAE(K)`, `DReG(K)` | equal within rounding |
| `CompiledAdam` | `optimizers.Adam` | the same bits |
| `compiled(vae)` | tanh and the Bernoulli and Binomial log p of `vae` | equal within rounding |

The estimators take networks of any depth with tanh, relu or softplus, and the Bernoulli, Binomial
and Gaussian likelihoods, in float32 and float64; other models they compute by NumPy.
`compiled(vae)` is for evaluation, and for other estimators.

The package uses these versions only if you choose them. The first step compiles them, which takes
about ten seconds. Numba saves the result next to these files, or in the folder NUMBA_CACHE_DIR.
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
