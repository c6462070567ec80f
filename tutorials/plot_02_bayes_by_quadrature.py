"""
Bayes by quadrature
===================

Sections 1 to 3.1 of the notes say that, if the prior and the likelihood are known, Bayes' rule
gives the posterior "in theory". With one or two latent variables this also works in practice,
because the evidence can be computed as a sum over a grid. We use a model of digits with one latent
variable.

:Aim: to compute an evidence and a posterior, and to know what they are used for.
:You need: Eq. (1) to Eq. (4); tutorial 1 for what a decoder is.
:Time: about ten seconds.
"""

# %%
# A model with one latent variable
# --------------------------------
# This tutorial needs only the decoder: p(z) = N(0, 1), and p(x|z) is a Bernoulli distribution for
# each of the 64 pixels.

import matplotlib.pyplot as plt
import numpy as np

import numpyvae
from numpyvae import datasets, plotting
from numpyvae.core.elbo import log_joint
from numpyvae.exact import Quadrature

digits = datasets.load_digits()
vae = numpyvae.VAE(data_dim=64, latent_dim=1, hidden=(64,), dtype="float64", seed=1)
numpyvae.fit(vae, digits.grays("train"), epochs=40, transform=datasets.binarize)

rng = np.random.default_rng(0)
x = datasets.binarize(digits.grays("test"), rng, dtype="float64")[:200]

# %%
# Eq. (1): the joint density
# --------------------------
# For one image x, log p(x, z) = log p(x|z) + log p(z) is a function of z. It is large where the
# decoder at z explains the image well. We plot the logarithm, because p(x, z) itself is very small:
# for this image, at most about 4e-12.

z = np.linspace(-8, 8, 4001)
grid = z[:, None, None]  # (L, B, J) with B = J = 1
one = x[:1]
log_p = log_joint(vae, one, grid)[:, 0]

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
ax.plot(z, log_p)
ax.set(xlabel="z", ylabel="log p(x, z) (nats)", title="the joint density for one image")

# %%
# Eq. (2): the evidence
# ---------------------
# The evidence is the integral of p(x, z) over z. We subtract the largest exponent before we take
# exponentials, because :math:`e^{-1000}` is rounded to zero in floating-point arithmetic.

step = z[1] - z[0]
log_evidence = log_p.max() + np.log(np.exp(log_p - log_p.max()).sum() * step)
print(f"log p(x) = {log_evidence:.10f} nats by a sum over 4001 grid points")

model = Quadrature(vae)
exact = model.log_evidence(one)[0]
print(f"log p(x) = {exact:.10f} nats by quadrature with error control")
assert abs(exact - log_evidence) < 1e-8

# %%
# Eq. (3) and (4): the posterior
# ------------------------------
# The posterior is the joint density divided by the evidence. The figure shows it for three images.
# Each posterior is about half as wide as the prior, because 64 pixels contain information about the
# latent variable.

fig, (left, right) = plt.subplots(
    1, 2, figsize=(7, 3.2), width_ratios=[1, 3], layout="constrained"
)
chosen = [0, 5, 8]
plotting.image_grid(x[chosen], digits.image_shape, ax=left, columns=1)
left.set_title("x")
for row, style in zip(chosen, ("-", "--", ":")):
    posterior = np.exp(model.log_posterior(x[row : row + 1], grid)[:, 0])
    assert abs(posterior.sum() * step - 1) < 1e-6
    right.plot(z, posterior, style, label=f"p(z|x), image {chosen.index(row) + 1} from the top")
right.plot(z, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), color="0.6", label="p(z)")
right.set(xlabel="z", ylabel="density", title="prior and posteriors", xlim=(-4, 4), ylim=(0, 1.4))
right.legend(loc="upper left", fontsize="small", ncols=2)

# %%
# What the posterior is used for
# ------------------------------
# Any statement about z given x can be computed as an average over the posterior. Here we compute
# the posterior mean and standard deviation for each test digit. The mean places each digit
# on one line; many classes overlap.

mean, cov = model.posterior(x).mean[:, 0], model.posterior(x).cov[:, 0, 0]
fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
ax.errorbar(digits.y_test[:200], mean, np.sqrt(cov), fmt="o", markersize=3, alpha=0.5)
ax.set(xlabel="class of the digit", ylabel="E[z|x] ± standard deviation", xticks=range(10))
ax.set_title("posteriors of 200 test digits")

# %%
# The encoder of the VAE approximates this posterior without computing an integral. The rest of the
# notes explains how good this approximation is.

mu, logvar = vae.encode(x)
print(f"mean |μ(x) − E[z|x]| = {np.abs(mu[:, 0] - mean).mean():.3f}")

# %%
# Exercises
# ---------
# 1. Bayes' rule can be applied in steps: the posterior given the first half of the image is the
#    prior for the second half. Show on the grid that two steps give the same posterior as one.

# %%
# Given z, the pixels are independent, so that p(x|z) = p(x₁|z) p(x₂|z) for the two halves. The
# posterior is ∝ p(x₂|z) [p(x₁|z) p(z)], and the bracket is ∝ p(z|x₁). The normalizing constants do
# not depend on z, so dividing after the first step, after the second, or only at the end gives the
# same density.

out, _ = vae.decoder(grid)  # logits, (4001, 1, 64)
log_pixels = one * out - np.logaddexp(0, out)
first, second = log_pixels[..., :32].sum(-1)[:, 0], log_pixels[..., 32:].sum(-1)[:, 0]
log_prior = -(z**2) / 2


def normalized(log_f):
    f = np.exp(log_f - log_f.max())
    return f / (f.sum() * step)


after_first = normalized(first + log_prior)
both = normalized(np.log(after_first + 1e-300) + second)
assert np.allclose(both, normalized(log_p), atol=1e-9)

# %%
# 2. How many grid points are needed to compute log p(x)? Use only every k-th point, and increase k
#    until the result changes.

# %%
# With about 40 points the error of log p(x) is 1e-10 nats; with 17 points it is 0.03 nats. The
# trapezoidal rule converges very fast for smooth functions that vanish at both ends, as soon as the
# spacing is smaller than the width of the posterior. With a wider spacing the sum can miss the peak
# altogether.

for k in (10, 50, 100, 250):
    coarse = log_p[::k]
    value = coarse.max() + np.log(np.exp(coarse - coarse.max()).sum() * step * k)
    print(f"{len(coarse):4d} points: error {value - exact:+.1e} nats")
assert abs(np.log(np.exp(log_p[::10] - exact).sum() * step * 10)) < 1e-6

plt.show()
