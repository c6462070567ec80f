"""Find the exact model of a VAE, if there is one."""

from __future__ import annotations

from ..core.vae import VAE
from ..support.checks import check_vae
from .linear_gaussian import LinearGaussian
from .model import ExactModel
from .quadrature import Quadrature

__all__ = ["exact_model"]


def exact_model(vae: VAE) -> ExactModel | None:
    """Return the model whose `log_evidence` is log p_θ(x) of this VAE, Eq. (2), or None.

    A linear decoder with Gaussian noise has a closed form. For any other decoder the evidence is
    computed by quadrature if J ≤ 2.

    Parameters
    ----------
    vae : VAE

    Returns
    -------
    model : LinearGaussian, Quadrature or None

    Raises
    ------
    TypeError
        If `vae` is not a VAE.

    Examples
    --------
    >>> exact_model(VAE(data_dim=64, latent_dim=10, hidden=(), likelihood="gaussian:0.5"))
    LinearGaussian(64 dimensions, 10 latents, probabilistic PCA)
    >>> exact_model(VAE(data_dim=64, latent_dim=10)) is None
    True
    """
    check_vae(vae)
    gaussian = vae.likelihood.noise_variance(vae.parameters) is not None
    if gaussian and not vae.architecture.hidden:
        return LinearGaussian.from_vae(vae)
    return Quadrature(vae) if vae.latent_dim <= 2 else None
