"""Section 3.6 of the notes as procedures: variational inference and variational EM."""

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
