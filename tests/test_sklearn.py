"""`VAETransformer`: scikit-learn's own checks, and what they do not look at."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason='needs scikit-learn: pip install "numpyvae[sklearn]"')

from sklearn.utils.estimator_checks import parametrize_with_checks

from numpyvae.sklearn import VAETransformer


@parametrize_with_checks([VAETransformer(latent_dim=2, hidden=(10,), epochs=5)])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)
