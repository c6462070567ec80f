"""Optional faster versions of the training step, the model, Adam and Adagrad, compiled
by Numba.

    fit(vae, x, epochs=20, estimator=CompiledSGVB(), optimizer=CompiledAdam(learning_rate=1e-3))
    importance_log_likelihood(compiled(vae), x, 5000)

NumPy makes one pass over memory for each operation, and each call has a cost of its own, which
counts on small networks. A compiled step is one call: BLAS computes the matrix products, and
between two products there is one pass over memory. It uses one core.

| | replaces | result |
|---|---|---|
| `CompiledSGVB(n_samples=L)` | `Estimator`, and `SGVBB` with β = 1 | equal within rounding |
| `CompiledIWAE(K)`, `CompiledDReG(K)` | `IWAE(K)`, `DReG(K)` | equal within rounding |
| `CompiledAdam`, `CompiledAdagrad` | `optimizers.Adam`, `Adagrad` | the same bits |
| `compiled(vae)` | the networks, log p and log weights of `vae` | equal within rounding |

Compiled are networks of any depth with tanh, relu or softplus, and the Bernoulli, Binomial and
Gaussian likelihoods, in float32 and float64. What is not compiled, NumPy computes, and a warning
of one line says so. `compiled(vae)` is for evaluation, and for other estimators.

The package uses these versions only if you choose them. The first step compiles them, which takes
about ten seconds. Numba saves the result next to these files, or in the folder NUMBA_CACHE_DIR.

One idea per file: `scalars` (e^x, log(1 + t)), `networks`, `densities`, `posterior`, `decoding`,
and then `whole` (a training step) and `evaluation` (log weights), which call the others.
"""

from .model import compiled
from .optimizers import CompiledAdagrad, CompiledAdam, compiled_optimizer
from .step import CompiledDReG, CompiledIWAE, CompiledSGVB, compiled_estimator

__all__ = [
    "CompiledAdagrad",
    "CompiledAdam",
    "CompiledDReG",
    "CompiledIWAE",
    "CompiledSGVB",
    "compiled",
    "compiled_estimator",
    "compiled_optimizer",
]
