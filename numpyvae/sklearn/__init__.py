"""The VAE as a scikit-learn transformer: `VAETransformer`. It needs the extra `sklearn`.

    from numpyvae.sklearn import VAETransformer

    codes = VAETransformer(latent_dim=5).fit_transform(x)

`x` is a table of numbers, (n_samples, n_features). The transformer can stand in a `Pipeline`, and
its parameters can be searched by `GridSearchCV`.
"""

try:
    from .transformer import VAETransformer
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise ImportError(
        "numpyvae.sklearn: expected scikit-learn 1.6 or newer, which is not installed; "
        'pip install "numpyvae[sklearn]"'
    ) from None

__all__ = ["VAETransformer"]
