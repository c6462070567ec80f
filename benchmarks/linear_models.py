"""VAETransformer, PCA and FactorAnalysis at equal dimension, on the digits.

    python -m benchmarks.linear_models

It prints the table of docs/scikit-learn.md. All models are fitted on the 3823 training images, and
measured on the 1797 test images, which other people wrote. PCA and FactorAnalysis have densities,
and the counts are whole numbers, so noise from U(0, 1) is added to each count for them: the mean
log density of the sum is then a lower bound on the mean log probability of the counts (Theis, van
den Oord & Bethge 2016, §3.1), and the figures of all models can be compared. All three Gaussian
models get the same standardized columns, and their log densities are those of the counts' unit.
"""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from numpyvae.datasets import load_digits
from numpyvae.sklearn import VAETransformer
from numpyvae.support.statistics import mean_and_error

__all__ = ["compare", "models"]

DIMENSIONS = (2, 5, 10, 20)
TRAININGS = 3  # seeds of the weights, the draws and the noise that is added


def models(latent_dim: int, epochs: int = 100, seed: int = 0) -> dict[str, object]:
    """The estimators that are compared, by name."""
    same = {"latent_dim": latent_dim, "epochs": epochs, "random_state": seed}
    return {
        "PCA": PCA(latent_dim),
        "FactorAnalysis": FactorAnalysis(latent_dim, random_state=seed),
        "VAE, gaussian:learned": VAETransformer(**same, early_stopping=True),
        "VAE, binomial:16": VAETransformer(**same, likelihood="binomial:16"),
    }


def compare(latent_dim: int, epochs: int = 100, seed: int = 0) -> dict[str, tuple]:
    """Return, for each model, log p and whether the class is right, for each test image."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    train, test = (x.astype("float32") for x in (digits.x_train, digits.x_test))
    smooth = [x + rng.random(x.shape, "float32") for x in (train, test)]
    scaler = StandardScaler().fit(smooth[0])
    volume = np.log(scaler.scale_).sum()  # log |d standardized / d count| is minus this
    found = {}
    for name, model in models(latent_dim, epochs, seed).items():
        counts = "binomial" in name
        a, b = (train, test) if counts else map(scaler.transform, smooth)
        log_p = model.fit(a).score_samples(b) - (0 if counts else volume)
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier.fit(model.transform(a), digits.y_train)
        right = classifier.predict(model.transform(b)) == digits.y_test
        found[name] = log_p, 100.0 * right
    return found


def words(values: np.ndarray) -> str:
    """Mean over trainings and images, and the standard error over images."""
    mean, error = mean_and_error(values.mean(axis=0))
    return f"{mean:.1f}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{error:.1f}".replace("-", "−")


def spread(values: np.ndarray) -> str:
    """The range over trainings, if it is seen."""
    each = values.mean(axis=1)
    low, high = f"{each.min():.1f}", f"{each.max():.1f}"
    return "" if low == high else f" ({low} … {high})".replace("-", "−")


def main() -> None:
    above = "above FactorAnalysis"
    print(f"| J | model | log p(x), nats | {above} | accuracy, % | {above}, points |")
    print("|---|---|---|---|---|---|")
    for latent_dim in DIMENSIONS:
        found = [compare(latent_dim, seed=seed) for seed in range(TRAININGS)]
        base = [[run["FactorAnalysis"][i] for run in found] for i in (0, 1)]
        for name in found[0]:
            cells = [str(latent_dim), name]
            for i in (0, 1):
                values = np.array([run[name][i] for run in found])
                cells += [words(values) + spread(values), words(values - base[i])]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
