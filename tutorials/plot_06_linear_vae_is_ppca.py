"""
A linear VAE is probabilistic PCA
=================================

Take the activations out of a VAE and give it a Gaussian likelihood with one σ², and its best decoder
is known: the probabilistic PCA of Tipping and Bishop. So a trained VAE can be held against the right
answer. It also shows, in closed form, what makes latents collapse: σ² (Lucas et al. 2019).

:Aim: hold a trained VAE against a solution in closed form, and predict what collapses.
:You need: section 3.5 of the notes, Eq. (2) and Eq. (10); tutorial 5.
:Time: about ten seconds.
"""

# %%
# The exact answer
# ----------------
# The maximum-likelihood model of the digits with five latents, from a singular value decomposition.

import matplotlib.pyplot as plt
import numpy as np

import numpyvae
from numpyvae import datasets
from numpyvae.core.optimizers import Adam, cosine_schedule
from numpyvae.diagnostics import active_units
from numpyvae.exact import LinearGaussian, ppca_maximum_likelihood

grays = datasets.load_digits().grays("train", dtype="float64")
x = grays - grays.mean(axis=0)
J = 5
exact = ppca_maximum_likelihood(x, J)
best = exact.log_evidence(x).mean()
print(f"probabilistic PCA: log p(x) = {best:.4f} nats per digit, sigma = {exact.sigma2**0.5:.4f}")

# %%
# The trained answer
# ------------------
# The same model as a VAE without hidden layers, trained by stochastic gradients of the ELBO. It is
# told σ and nothing else. A density may exceed one, so a log-likelihood, and an ELBO, may be positive.


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
print(f"trained: {gaps[-1]:.5f} nats below the best")
assert 0 <= gaps[-1] < 0.05

fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.semilogy(range(1, len(gaps) + 1), gaps)
ax.set(
    xlabel="epoch", ylabel="below the best log p(x) (nats)", title="distance to the closed form"
)

# %%
# The same directions
# -------------------
# log p(x) fixes W only up to a rotation of its columns, so we first compare the planes that they
# span: the cosines of the angles between them are all but one.

W = LinearGaussian.from_vae(vae).W
span_trained, span_exact = np.linalg.qr(W)[0], np.linalg.qr(exact.W)[0]
cosines = np.linalg.svd(span_trained.T @ span_exact, compute_uv=False)
print("cosines between the planes:", np.round(cosines, 4))
assert cosines.min() > 0.99

# %%
# The ELBO with a diagonal q also fixes the rotation: only along the principal axes is the posterior
# uncorrelated, so that a diagonal q leaves no gap. The pull is weak where two components have nearly
# the same variance. The last two components, which stand apart, are found as they are; the first
# three (variances 0.70, 0.63, 0.55) are still turning among themselves.

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
# What makes latents collapse
# ---------------------------
# In the exact solution a direction of the data with variance λ is modeled only if λ > σ². The mean
# of its posterior then varies by 1 − σ²/λ over the data; else by nothing, the column of W is zero
# and the posterior is the prior, whatever the method of training. We set σ² by hand and compare:
# collapse here is not a failure of the ELBO.

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
ax.set(xlabel="latent, sorted", ylabel="variance of μ(x)", xticks=range(1, 11))
ax.set_title("trained (markers) and predicted (lines)")
ax.legend()

# %%
# Exercises
# ---------
# 1. With a given σ the best linear decoder is W = U (Λ − σ² I)^½ for the eigenvalues above σ². Show
#    that no other number of columns does better at σ = 0.4.

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
# 2. Squared error is a Gaussian log-likelihood with a hidden σ² = ½. How many latents of the digits
#    survive that choice?

assert (eigenvalues > 0.5).sum() == 3

plt.show()
