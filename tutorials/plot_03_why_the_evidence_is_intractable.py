"""
Why the evidence is intractable
===============================

Section 3.2 of the notes says that the integral of Eq. (2) is not feasible, and asks "why actually
not?". There are two simple ways to compute it: a grid, and random draws from the prior. We measure
how the cost of each increases with the number J of latent variables, for models trained on digits.

:Aim: to explain with numbers why the evidence cannot be computed.
:You need: section 3.2 of the notes, for Eq. (2); tutorial 2.
:Time: about half a minute.
"""

# %%
# Models of digits with J = 1 to 8 latent variables
# -------------------------------------------------

import matplotlib.pyplot as plt
import numpy as np

import numpyvae
from numpyvae import datasets
from numpyvae.core.elbo import log_joint
from numpyvae.core.optimizers import Adam

digits = datasets.load_digits()
grays = digits.grays("train")
rng = np.random.default_rng(0)
x = datasets.binarize(digits.grays("test"), rng, dtype="float64")[:5]


def trained(J):
    vae = numpyvae.VAE(data_dim=64, latent_dim=J, hidden=(64,), dtype="float64")
    numpyvae.fit(vae, grays, epochs=30, transform=datasets.binarize, optimizer=Adam(3e-3))
    return vae


models = {J: trained(J) for J in (1, 2, 3, 4, 6, 8)}

# %%
# The grid
# --------
# The grid has n equally spaced points on [-4, 4] in each dimension, so :math:`n^J` points in total.
# We increase n until the error of log p(x) is below 0.05 nats for five images. The reference value is
# the importance-weighted estimate with 20000 draws from the encoder.


def by_grid(vae, n):
    J = vae.latent_dim
    axis = np.linspace(-4, 4, n)
    z = np.stack(np.meshgrid(*[axis] * J, indexing="ij"), axis=-1).reshape(-1, 1, J)
    z = np.broadcast_to(z, (len(z), len(x), J))
    log_p = np.concatenate(
        [log_joint(vae, x, part) for part in np.array_split(z, 1 + len(z) // 4096)]
    )
    top = log_p.max(axis=0)
    return top + np.log(np.exp(log_p - top).sum(axis=0)) + J * np.log(8 / (n - 1))


points = {}
for J in (1, 2, 3, 4):
    truth = numpyvae.importance_log_likelihood(models[J], x, 20000)
    for n in (5, 7, 9, 12, 15, 18, 22, 27, 33, 40, 50, 65, 80, 100, 130, 160, 200):
        if n**J > 150_000:
            break
        if np.abs(by_grid(models[J], n) - truth).max() < 0.05:
            points[J] = n**J
            break
    print(f"J = {J}: {points.get(J, 'more than 150000')} grid points")

# %%
# Each additional latent variable multiplies the cost by n. A larger J does not allow a smaller n,
# because the posterior does not become wider. With J = 10 and only n = 10 points per dimension, one
# image would need 1e10 evaluations of the decoder.

# %%
# Random draws from the prior
# ---------------------------
# p(x) is also the mean of p(x|z) over z ~ p(z). An average over K draws is an unbiased estimate for
# every J, but its variance increases with J: p(x|z) is nearly zero for most draws, and a few rare
# draws dominate the sum. We compare this estimate with one that draws z from the encoder's q(z|x)
# and weights each draw by p(z)/q(z|x). K and the decoder are the same; only the distribution of z
# differs.


def log_mean(log_w):
    top = log_w.max(axis=0)
    return top + np.log(np.exp(log_w - top).mean(axis=0))


def by_prior(vae, K):
    z = rng.standard_normal((K, len(x), vae.latent_dim))
    return log_mean(vae.log_likelihood(x, z)[0])


K, repeats = 500, 40
spread = {}
for J, vae in models.items():
    prior = np.stack([by_prior(vae, K) for _ in range(repeats)])
    encoder = np.stack(
        [numpyvae.importance_log_likelihood(vae, x, K, seed=s) for s in range(repeats)]
    )
    spread[J] = prior.std(axis=0).mean(), encoder.std(axis=0).mean()
    low = (encoder.mean(axis=0) - prior.mean(axis=0)).mean().round(2) + 0.0  # + 0.0: no "-0.00"
    print(
        f"J = {J}: std {spread[J][0]:.2f} (prior), {spread[J][1]:.3f} (encoder) nats; "
        f"the estimate from the prior is too low by {low:.2f} nats"
    )

# %%

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
left.semilogy(list(points), list(points.values()), "o-")
left.set(xlabel="latent variables J", ylabel="grid points for one image", xticks=list(points))
left.set_title("grid: exponential cost")
values = np.array(list(spread.values()))
right.semilogy(list(spread), values[:, 0], "o-", label="z ~ p(z), the prior")
right.semilogy(list(spread), values[:, 1], "s--", label="z ~ q(z|x), the encoder")
right.set(
    xlabel="latent variables J",
    ylabel=f"std of log p(x), K = {K} (nats)",
    xticks=list(spread),
)
right.set_title("random draws: large variance")
right.legend()

# %%
# This answers the question "why actually not?". The integrand is concentrated in a small region,
# the position of this region is not known, and the volume of the space grows exponentially with J.
# An encoder that predicts the region makes the integral feasible. Section 3.4 shows how to train
# such an encoder.

# %%
# Exercises
# ---------
# 1. By Jensen's inequality, the logarithm of an unbiased estimate is on average too low. Check that
#    the estimate of log p(x) from the prior is lower with K = 10 than with K = 1000.

# %%
# The logarithm is concave, so E[log p̂] ≤ log E[p̂] = log p(x): the estimate of p(x) is unbiased,
# that of log p(x) is too low. The difference grows with the variance of p̂, which is ∝ 1/K. So more
# draws raise the mean of the estimate, as for L_K in tutorial 9.

few = np.mean([by_prior(models[8], 10).mean() for _ in range(50)])
many = np.mean([by_prior(models[8], 1000).mean() for _ in range(10)])
assert few < many - 1

# %%
# 2. For which J does the grid need fewer decoder evaluations than 500 draws from the encoder? Read
#    the answer from the printed lines.

# %%
# For J = 1 and J = 2, with 9 and about 150 points. The grid needs :math:`n^J` evaluations, the draws
# from the encoder a number that depends little on J. With three latents the grid already needs more than
# a thousand.

assert points[1] < 500 and points[3] > 500

plt.show()
