"""
A linear VAE is probabilistic PCA
=================================

If a VAE has no activations, and a Gaussian likelihood with one σ², its best decoder is known: it is
the probabilistic PCA of Tipping and Bishop. We can therefore compare a trained VAE with the exact
solution. The solution also shows in closed form that the value of σ² determines which latent
variables collapse (Lucas et al. 2019).

:Aim: to compare a trained VAE with a solution in closed form, and to predict which latent variables
    collapse.
:You need: section 3.5 of the notes, Eq. (2) and Eq. (10); tutorial 5.
:Time: about ten seconds.
"""

# %%
# The exact solution
# ------------------
# A singular value decomposition gives the maximum-likelihood model of the digits with five latent
# variables.

import matplotlib.pyplot as plt
import numpy as np

import numpyvae
from numpyvae import Adam, cosine_schedule, datasets
from numpyvae.diagnostics import active_units
from numpyvae.exact import LinearGaussian, ppca_maximum_likelihood

grays = datasets.load_digits().grays("train", dtype="float64")
x = grays - grays.mean(axis=0)
J = 5
exact = ppca_maximum_likelihood(x, J)
best = exact.log_evidence(x).mean()
print(f"probabilistic PCA: log p(x) = {best:.4f} nats per digit, sigma = {exact.sigma2**0.5:.4f}")

# %%
# The trained solution
# --------------------
# The same model is a VAE without hidden layers. We train it with stochastic gradients of the ELBO.
# It uses only the value of σ from the exact solution. A density can exceed one, so the
# log-likelihood and the ELBO can be positive.


def linear_vae(sigma, latent_dim=J):
    return numpyvae.VAE(64, latent_dim, (), likelihood=f"gaussian:{sigma}", dtype="float64")


vae = linear_vae(float(exact.sigma2**0.5))
gaps = []


def record(vae, history):
    gaps.append(best - LinearGaussian.from_vae(vae).log_evidence(x).mean())


history = numpyvae.fit(
    vae,
    x,
    epochs=150,
    batch_size=200,
    optimizer=Adam(0.03),
    schedule=cosine_schedule(150),
    callbacks=[record],
)
print(f"trained: {gaps[-1]:.5f} nats below the maximum")
assert 0 <= gaps[-1] < 0.05

fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.semilogy(range(1, len(gaps) + 1), gaps)
ax.set(xlabel="epoch", ylabel="maximum − log p(x) (nats)", title="distance to the exact solution")

# %%
# The same directions
# -------------------
# log p(x) determines W only up to a rotation of its columns, so we first compare the subspaces that
# the columns span. The cosines of the angles between the two subspaces are close to one.

W = LinearGaussian.from_vae(vae).W
span_trained, span_exact = np.linalg.qr(W)[0], np.linalg.qr(exact.W)[0]
cosines = np.linalg.svd(span_trained.T @ span_exact, compute_uv=False)
print("cosines between the subspaces:", np.round(cosines, 4))
assert cosines.min() > 0.99

# %%
# The ELBO with a diagonal q also determines the rotation. The posterior is uncorrelated only if the
# columns of W are along the principal axes, and only then does a diagonal q leave no gap. The
# gradient toward these axes is weak where two components have nearly the same variance. The last
# two components have well-separated variances, and training finds them. The first three (variances
# 0.70, 0.63, 0.55) have not yet converged: the columns are still mixtures of these components.

alike = np.abs((W / np.linalg.norm(W, axis=0)).T @ (exact.W / np.linalg.norm(exact.W, axis=0)))
fig, axes = plt.subplots(2, J, figsize=(7, 3.2), layout="constrained")
for j in range(J):
    nearest = int(np.argmax(alike[:, j]))
    sign = np.sign(W[:, nearest] @ exact.W[:, j])
    for row, column in enumerate((exact.W[:, j], sign * W[:, nearest])):
        limit = np.abs(column).max()
        axes[row, j].imshow(column.reshape(8, 8), cmap="PuOr", vmin=-limit, vmax=limit)
        axes[row, j].set(xticks=[], yticks=[])
    axes[1, j].set_xlabel(f"cosine {alike[nearest, j]:.2f}")
axes[0, 0].set_ylabel("PCA")
axes[1, 0].set_ylabel("VAE, nearest")
fig.suptitle("columns of W as images")

# %%
# Why latent variables collapse
# -----------------------------
# The exact solution models a direction of the data with variance λ only if λ > σ². The posterior
# mean then has the variance 1 − σ²/λ over the data. If λ ≤ σ², the column of W is zero and the
# posterior equals the prior; this does not depend on the method of training. We choose three values
# of σ and compare. In this model, collapse is a property of the maximum-likelihood solution and is
# not caused by the ELBO.

eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))[::-1]
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for s, marker in ((0.2, "o"), (0.4, "s"), (0.6, "^")):
    wide = linear_vae(s, latent_dim=10)
    numpyvae.fit(
        wide, x, epochs=60, batch_size=200, optimizer=Adam(0.03), schedule=cosine_schedule(60)
    )
    predicted = np.maximum(1 - s * s / eigenvalues[:10], 0)
    measured = np.sort(wide.encode(x)[0].var(axis=0))[::-1]
    (line,) = ax.plot(range(1, 11), predicted, "-")
    ax.plot(range(1, 11), measured, marker, color=line.get_color(), label=f"σ = {s}")
    print(
        f"sigma = {s}: {(predicted > 0).sum()} of 10 predicted, {active_units(wide, x).sum()} active"
    )
ax.set(xlabel="latent variable, sorted", ylabel="variance of μ(x)", xticks=range(1, 11))
ax.set_title("trained (markers) and predicted (lines)")
ax.legend()

# %%
# With σ = 0.6 one latent more is counted as active than predicted, because training has not converged.
# The fourth direction has the variance λ = 0.40, little more than σ² = 0.36, so its gradient is weak.
# Two latents still share this direction, and the variances of both exceed the threshold 0.01. After a
# longer training with smaller steps and larger batches, only one of them is active.

# %%
# Exercises
# ---------
# 1. For a given σ, the best linear decoder is :math:`W = U (\Lambda - \sigma^2 I)^{1/2}` for the eigenvalues
#    above σ². Show that no other number of columns gives a higher log p(x) at σ = 0.4.

# %%
# Each column with λ > σ² that is added increases log p(x), by ½(λ/σ² − 1 − log λ/σ²) nats per
# datapoint, which is positive unless λ = σ². A column with λ ≤ σ² would need a negative squared
# length, so its best length is 0, and more columns change nothing. So log p(x) grows up to the
# number of eigenvalues above σ², and stays there.

s2 = 0.4**2
_, vectors = np.linalg.eigh(x.T @ x / len(x))
vectors = vectors[:, ::-1]
scores = []
for k in range(1, 10):
    columns = vectors[:, :k] * np.sqrt(np.maximum(eigenvalues[:k] - s2, 0))
    scores.append(LinearGaussian(columns, np.zeros(64), s2).log_evidence(x).mean())
n_above = int((eigenvalues > s2).sum())
assert np.argmax(scores) + 1 <= n_above and np.isclose(max(scores), scores[n_above - 1])

# %%
# 2. The squared error is a Gaussian log-likelihood with the implicit choice σ² = ½. How many latent
#    variables of a model of the digits do not collapse with this choice?

# %%
# Three: the eigenvalues of the digits are 0.70, 0.63, 0.55 and then smaller ones, and a latent is
# used only if λ > σ² = ½. So with a summed squared error all latents but three collapse, however
# many there are (tutorial 11).

assert (eigenvalues > 0.5).sum() == 3

plt.show()
