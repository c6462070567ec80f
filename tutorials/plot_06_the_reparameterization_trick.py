"""
The reparameterization trick
============================

Section 3.7 ends with a remark: to train the model, one must differentiate through the random variable
z, and this needs a trick. The trick is one line, z = μ + σ ε. This tutorial explains why the trick is
needed, checks that it is correct, and measures how much it reduces the noise of the gradient.

:Aim: to differentiate an expectation over random draws in two ways, and to say which way is better
    in which case.
:You need: section 3.7 of the notes, Eq. (11); Kingma & Welling 2013, §2.4; tutorial 1.
:Time: a few seconds.
"""

# %%
# The problem
# -----------
# We want the derivatives ∂/∂μ and ∂/∂σ of E_q[f(z)], where q = N(μ, σ²). We estimate the expectation
# by an average over draws of z. A random number generator returns z as a number, not as a function of
# μ, so we cannot differentiate z with respect to μ.
#
# Two solutions
# -------------
# *Score function*: differentiate the density, ∂/∂μ E_q[f] = E_q[f(z) ∂ log q(z)/∂μ].
#
# *Reparameterization*: write the draw as a function z = μ + σ ε, where the distribution of the noise,
# ε ~ N(0, 1), has no parameters. Then apply the chain rule: ∂/∂μ E_q[f] = E_ε[f′(z) ∂z/∂μ]. This is
# also called the *path* (or pathwise) gradient.
#
# For f(z) = z² the exact derivatives are known: E_q[f] = μ² + σ², so ∂/∂μ = 2μ and ∂/∂log σ² = σ². We
# compare both estimates with them.

import matplotlib.pyplot as plt
import numpy as np

from numpyvae.core.distributions import reparameterize
from numpyvae.support.statistics import mean_and_error, plus_minus

rng = np.random.default_rng(0)
n = 100_000
mu, logvar = np.array([[1.5]]), np.array([[-0.5]])
sigma = np.exp(0.5 * logvar)
eps = rng.standard_normal((n, 1, 1))
z, pull = reparameterize(mu, logvar, eps)

path_mu = 2 * z  # f′(z) · 1
path_logvar = 2 * z * (0.5 * sigma * eps)  # f′(z) · ½ σ ε
score_mu = z**2 * (z - mu) / sigma**2  # f(z) · ∂ log q/∂μ
score_logvar = z**2 * 0.5 * (((z - mu) / sigma) ** 2 - 1)

for name, path, score, truth in (
    ("∂/∂μ", path_mu, score_mu, 2 * mu),
    ("∂/∂log σ²", path_logvar, score_logvar, sigma**2),
):
    print(f"{name}: truth {truth.item():.3f}")
    for kind, draws in (("path", path), ("score", score)):
        mean, error = mean_and_error(draws.ravel())
        print(
            f"   {kind:5s} {plus_minus(mean, error, 3)}, "
            f"standard deviation of one draw {draws.std():.2f}"
        )
        assert abs(mean - truth.item()) < 5 * error

# %%
# Both estimates have the correct mean. The score-function estimate has a much larger variance.

fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained", sharey=True)
bins = np.linspace(-20, 30, 101)
for ax, path, score, truth, name in (
    (axes[0], path_mu, score_mu, 2 * mu, "∂/∂μ"),
    (axes[1], path_logvar, score_logvar, sigma**2, "∂/∂log σ²"),
):
    ax.hist(score.ravel(), bins, density=True, alpha=0.6, label="score function")
    ax.hist(path.ravel(), bins, density=True, histtype="step", color="k", label="path")
    ax.axvline(truth.item(), color="0.4", linestyle="--", label="truth")
    ax.set(xlabel=f"one draw of {name}", yscale="log")
axes[0].set_ylabel("density")
axes[1].legend(loc="upper right")
fig.suptitle("the two estimators have the same mean and different variances")

# %%
# In the code
# -----------
# ``reparameterize`` returns z and its pullback (the vector–Jacobian product). The pullback takes
# ∂ELBO/∂z and returns ∂ELBO/∂μ and ∂ELBO/∂log σ². The gradient of log p(x|z) reaches the encoder only
# through this pullback.

dz = np.ones_like(z) / n
dmu, dlogvar = pull(dz)
assert np.allclose(dmu, 1) and np.allclose(dlogvar, (0.5 * sigma * eps).mean())

# %%
# The effect of the dimension
# ---------------------------
# Now let f(z) = ‖z‖² in J dimensions. The score-function estimate multiplies the score of each
# component of z by the whole value f(z), so its noise grows with J. The path estimate for component j
# uses only ∂f/∂z_j, so its noise does not depend on J.

dims = np.array([1, 2, 5, 10, 20, 50])
noise = {"path": [], "score function": []}
for J in dims:
    e = rng.standard_normal((20_000, 1, J))
    z, _ = reparameterize(np.ones((1, J)), np.zeros((1, J)), e)
    noise["path"].append((2 * z[..., 0]).std())
    noise["score function"].append(((z**2).sum(-1) * e[..., 0]).std())

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for (name, values), style in zip(noise.items(), ("o-", "s--")):
    ax.loglog(dims, values, style, label=name)
ax.set(xlabel="number of latents J", ylabel=r"std of one draw of $\partial/\partial\mu_1$")
ax.set_title("noise of the gradient against the number of latents")
ax.legend()
assert noise["score function"][-1] > 10 * noise["path"][-1]

# %%
# Exercises
# ---------
# 1. A common bug is to use exp(log σ²) as σ in the draw. What is E[z²] with this bug? Check your
#    answer with random draws.

# %%
# With the bug the draw is z = μ + σ² ε, so its variance is σ⁴ and E[z²] = μ² + σ⁴ = μ² + exp(2 log
# σ²). The right value is μ² + σ². For σ < 1 the draws are too narrow, for σ > 1 too wide, and there
# is no error message; the ELBO of such a model is not a bound.

wrong = mu + np.exp(logvar) * eps
assert abs((wrong**2).mean() - (mu**2 + np.exp(2 * logvar)).item()) < 0.05

# %%
# 2. Subtracting a constant from f does not change the mean of the score-function estimate, since
#    E_q[∂ log q/∂μ] = 0, but it does change its variance. Find a constant that reduces the variance.

# %%
# E_q[f] = μ² + σ² is a good choice: it removes the part of f that is the same for all draws, which
# multiplies the score and adds only noise. The best constant is E[f s²]/E[s²] for the score s, a
# mean of f that is weighted by s². The mean of the estimate does not change, since E_q[s] = 0.

z, _ = reparameterize(mu, logvar, eps)
baseline = (mu**2 + sigma**2).item()
with_baseline = (z**2 - baseline) * (z - mu) / sigma**2
mean, error = mean_and_error(with_baseline.ravel())
assert abs(mean - 2 * mu.item()) < 5 * error
assert with_baseline.std() < score_mu.std()

plt.show()
