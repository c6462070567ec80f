"""Variational inference and variational EM, section 3.6 of the notes.

`procedures` states the two procedures and the parameters that its functions share.
"""

from .procedures import (
    EMStep,
    Posterior,
    m_step,
    noise_nodes,
    variational_em,
    variational_inference,
)

__all__ = [
    "EMStep",
    "Posterior",
    "m_step",
    "noise_nodes",
    "variational_em",
    "variational_inference",
]
