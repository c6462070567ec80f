"""The variational auto-encoder itself, in eight files to be read in this order.

    parameters → layers → distributions → likelihoods → vae → elbo → optimizers → training

`elbo` is the center: the evidence lower bound and its gradient. The files need NumPy, the
standard library and `numpyvae.support` alone; `numpyvae` exports the main names.
"""

__all__: list[str] = []
