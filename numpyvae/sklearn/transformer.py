"""`VAETransformer`: a scikit-learn estimator that trains a `VAE` and encodes rows with it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ..bounds import compare_bounds, importance_log_likelihood
from ..command.settings import Settings
from ..core.elbo import Estimator
from ..core.likelihoods import Likelihood
from ..core.optimizers import Optimizer
from ..core.training import fit
from ..core.vae import VAE
from ..support.checks import shown
from ..support.history import History
from ..support.stopping import EarlyStopping
from ..support.streams import Purpose, stream
from . import choices

__all__ = ["VAETransformer"]

_DTYPES = [np.float64, np.float32]  # others become float64


@dataclass(kw_only=True, eq=False, repr=False)
class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A variational auto-encoder that maps each row to the mean of its posterior q(z|x).

    The model computes in the dtype of the training data, float32 or float64. Likelihood,
    activation, estimator and optimizer may be names or objects, as for `VAE` and `fit` of the
    package. Each parameter with the name of an option of the command `train` has
    the meaning and the default of that option, except that `likelihood` is Gaussian by default,
    since a table of numbers is seldom one of zeros and ones.

    Parameters
    ----------
    latent_dim : int
        J, the number of latent variables, and of columns of `transform`.
    hidden : tuple of int
        Widths of the hidden layers of the encoder; the decoder has them in reverse order.
    activation : str or callable
        Activation of the hidden layers.
    likelihood : str or Likelihood
        Distribution p(x|z): `gaussian:learned`, `gaussian:head`, `gaussian:SIGMA`, `bernoulli` for
        zeros and ones, `binomial:N` and `poisson` for counts.
    estimator : str or Estimator
        Estimator of the gradient, with its objective.
    n_samples : int, optional
        L, the number of terms averaged for each row.
    train_importance : int, optional
        K of the objective, for `iwae`, `stl-iwae` and `dreg`.
    beta : float, optional
        Weight of the KL in the objective, for `sgvb-b`.
    kl_warmup : float, optional
        Number of epochs in which the weight of the KL rises from 0 to beta, for `sgvb-b`.
    free_bits : float, optional
        Number of nats of KL for each latent variable that cost nothing, for `sgvb-b`.
    weight_prior : float, optional
        Variance of a Gaussian prior of the decoder's parameters.
    optimizer : str or Optimizer
        Rule for the steps. An object has its own learning rate and clipping.
    learning_rate : float
        Learning rate at the start of training.
    schedule : {"cosine", "constant"} or callable
        How the learning rate falls during `fit`; for `partial_fit` it is constant.
    clip_norm : float, optional
        Maximum norm of the gradient.
    epochs : int
        Number of passes of `fit` over the data.
    batch_size : int, optional
        B; by default 100. All rows if there are fewer.
    early_stopping : bool
        Hold out a fraction of the rows of `fit`, and end the training when their ELBO no longer
        rises, with the best parameters.
    validation_fraction : float
        The fraction that early stopping holds out.
    n_iter_no_change : int
        Number of epochs without a better validation ELBO after which early stopping ends.
    warm_start : bool
        Whether `fit` starts from the parameters of the last fit.
    random_state : int, numpy.random.RandomState or None
        Seed of all draws. None takes one from the global state of NumPy.
    bound : {"iwae", "elbo"}
        What `score_samples` returns: the importance-weighted bound L_K, or the ELBO.
    eval_importance : int
        K, the number of importance samples for each row, if the bound is "iwae".
    accelerator : {"numba"}, optional
        Compile the training step, the evaluation, adam and adagrad.

    Attributes
    ----------
    vae_ : VAE
        The model; `vae_.save(path)` writes a file that the whole package reads.
    history_ : History
        The figures of each epoch.
    n_iter_ : int
        Number of epochs that moved the parameters.
    seed_ : int
        The seed that was used.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : (n_features_in_,) array of str
        Names of the columns, if X was a data frame with names.
    best_validation_score_ : float or None
        The highest validation ELBO, in nats per row, with early stopping.

    Examples
    --------
    >>> import numpy as np
    >>> from numpyvae.sklearn import VAETransformer
    >>> X = np.random.default_rng(0).normal(size=(200, 3)) @ np.diag([3.0, 1.0, 0.1])
    >>> transformer = VAETransformer(latent_dim=2, hidden=(20,), epochs=5, random_state=0).fit(X)
    >>> transformer.transform(X).shape, transformer.inverse_transform(np.zeros((1, 2))).shape
    ((200, 2), (1, 3))
    >>> transformer.score_samples(X).shape, transformer.n_iter_
    ((200,), 5)
    """

    latent_dim: int = Settings.latent_dim
    hidden: tuple[int, ...] = Settings.hidden
    activation: str | Callable = Settings.activation
    likelihood: str | Likelihood = "gaussian:learned"
    estimator: str | Estimator = Settings.estimator
    n_samples: int | None = Settings.n_samples
    train_importance: int | None = Settings.train_importance
    beta: float | None = Settings.beta
    kl_warmup: float | None = Settings.kl_warmup
    free_bits: float | None = Settings.free_bits
    weight_prior: float | None = Settings.weight_prior
    optimizer: str | Optimizer = Settings.optimizer
    learning_rate: float = Settings.learning_rate
    schedule: str | Callable[[float], float] = Settings.schedule
    clip_norm: float | None = Settings.clip_norm
    epochs: int = Settings.epochs
    batch_size: int | None = Settings.batch_size
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    warm_start: bool = False
    random_state: int | np.random.RandomState | None = None
    bound: str = "iwae"
    eval_importance: int = Settings.eval_importance
    accelerator: str | None = Settings.accelerator

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train a model on X; with `warm_start` the last one goes on.

        Parameters
        ----------
        X : (n_samples, n_features) array_like
        y : None
            Ignored.

        Returns
        -------
        self : VAETransformer

        Raises
        ------
        TypeError, ValueError
            If X or a parameter is not one that the model can take.
        NonFiniteError
            If the training met NaN or infinity. The last fit stays as it was.
        """
        go_on = self.warm_start and hasattr(self, "vae_")
        X, seed, vae = self._begin(X, go_on)
        x_valid = None
        if self.early_stopping:
            X, x_valid = _hold_out(X, self.validation_fraction, seed)
        history = self._train(
            vae,
            X,
            seed,
            epochs=self.epochs,
            schedule=choices.make_schedule(self),
            x_valid=x_valid,
            callbacks=[EarlyStopping(self.n_iter_no_change)] if self.early_stopping else [],
        )
        return self._keep(vae, history, seed)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Make one pass over X, from where the last pass ended, with a constant learning rate.

        Parameters
        ----------
        X : (n_samples, n_features) array_like
        y : None
            Ignored.

        Returns
        -------
        self : VAETransformer

        Raises
        ------
        TypeError, ValueError
            If X or a parameter is not one that the model can take; if `early_stopping` is set.
        NonFiniteError
            If the training met NaN or infinity. The last state stays as it was.
        """
        if self.early_stopping:
            raise ValueError(
                "partial_fit: expected early_stopping=False, got True; one pass has nothing to "
                "stop: use fit, or set_params(early_stopping=False)"
            )
        go_on = hasattr(self, "vae_")
        X, seed, vae = self._begin(X, go_on, self.seed_ if go_on else None)
        resume = self._resumed() if go_on else None
        return self._keep(vae, self._train(vae, X, seed, epochs=1, resume=resume), seed)

    def transform(self, X: Any) -> np.ndarray:
        """Return the means of q(z|x).

        Parameters
        ----------
        X : (n_samples, n_features) array_like

        Returns
        -------
        codes : (n_samples, latent_dim) array
        """
        X = self._rows(X)
        return choices.evaluated(self).encode(X)[0]

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the means of p(x|z).

        Parameters
        ----------
        X : (n_samples, latent_dim) array_like
            Values of z, as from `transform`.

        Returns
        -------
        rows : (n_samples, n_features) array
            In the unit of the data; for outcomes, their probabilities.
        """
        check_is_fitted(self)
        z = check_array(X, dtype=self.vae_.dtype.type, input_name="X")
        return choices.evaluated(self).decode(z)

    def score_samples(self, X: Any) -> np.ndarray:
        """Return a lower bound on log p(x) of each row, in expectation over its draws.

        The draws of a row depend only on its values and on the seed, so that the bound of a row is
        the same alone and among others, up to rounding.

        Parameters
        ----------
        X : (n_samples, n_features) array_like

        Returns
        -------
        bound : (n_samples,) array
            Nats.
        """
        X, vae = self._rows(X), choices.evaluated(self)
        choices.check_parameters(self)
        if self.bound == "elbo":
            return compare_bounds(vae, X, ["elbo"], seed=self.seed_).estimates["elbo"].values
        return importance_log_likelihood(vae, X, int(self.eval_importance), seed=self.seed_)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`, which model selection maximizes.

        Parameters
        ----------
        X : (n_samples, n_features) array_like
        y : None
            Ignored.

        Returns
        -------
        score : float
            Nats per row.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw rows from the model.

        Parameters
        ----------
        n_samples : int
        random_state : int, numpy.random.RandomState or None
            None takes that of the transformer: if it is a number, each call draws the same rows.

        Returns
        -------
        X : (n_samples, n_features) array
        """
        check_is_fitted(self)
        chosen = self.random_state if random_state is None else random_state
        return self.vae_.sample(n_samples, seed=choices.make_seed(chosen))

    @property
    def _n_features_out(self) -> int:
        """The number of names that `get_feature_names_out` returns."""
        return self.vae_.latent_dim

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _rows(self, X: Any) -> np.ndarray:
        """Return X in the dtype of the model, after scikit-learn's checks."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=self.vae_.dtype.type, reset=False)

    def _begin(self, X: Any, go_on: bool, seed: int | None = None) -> tuple[np.ndarray, int, VAE]:
        """Return X after all checks, the seed, and the model: the last one or a new one."""
        X = validate_data(self, X, dtype=_DTYPES, reset=not go_on)
        choices.check_parameters(self)
        seed = choices.make_seed(self.random_state) if seed is None else seed
        return X, seed, self._kept_model() if go_on else self._new_model(X, seed)

    def _new_model(self, X: np.ndarray, seed: int) -> VAE:
        return choices.make_model(self, X.shape[1], X.dtype, seed)

    def _kept_model(self) -> VAE:
        """Return a copy of the model, if the parameters still describe it."""
        kept = self.vae_.architecture
        now = choices.make_model(self, kept.data_dim, self.vae_.dtype, 0).architecture
        if now != kept:
            raise ValueError(
                f"latent_dim, hidden, activation, likelihood: expected those of the fitted model "
                f"{self.vae_!r}, got others; to train another, set warm_start=False and use fit"
            )
        return copy.deepcopy(self.vae_)

    def _resumed(self) -> History:
        """Return a history that goes on from the parameters that the model has, best or last."""
        history = self.history_.copy()
        history.best_parameters = history.last_parameters = None
        state = choices.make_rule(self).init(self.vae_.parameters.flat)
        if state.keys() != history.optimizer_state.keys():
            raise ValueError(
                f"optimizer: expected the kind of the last pass, got {shown(self.optimizer)}; to "
                "start another one, set warm_start=True and use fit"
            )
        return history

    def _train(self, vae: VAE, X: np.ndarray, seed: int, **more: Any) -> History:
        return fit(
            vae,
            X,
            batch_size=None if self.batch_size is None else min(int(self.batch_size), len(X)),
            optimizer=choices.make_rule(self),
            estimator=choices.make_objective(self, len(X)),
            seed=seed,
            **more,
        )

    def _keep(self, vae: VAE, history: History, seed: int) -> Self:
        self.vae_, self.history_, self.seed_ = vae, history, seed
        self.n_iter_ = vae.parameters.epochs
        valid = [row["valid_elbo"] for row in history if "valid_elbo" in row]
        self.best_validation_score_ = max(valid) if valid else None
        return self


def _hold_out(X: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split the rows into those to train on and those that early stopping measures."""
    N = len(X)
    M = round(float(fraction) * N)
    if not 0 < M < N:
        raise ValueError(
            f"validation_fraction: expected one that leaves rows in both parts, got {fraction} of "
            f"n_samples = {N}, which is {M}; choose another, or set early_stopping=False"
        )
    order = stream(seed, Purpose.VALIDATION).permutation(N)
    return X[np.sort(order[M:])], X[np.sort(order[:M])]
