"""
The reparameterization trick
============================

Section 3.7 ends with a remark: to learn, one must differentiate through the random variable z, and
this needs a trick. The trick is one line, z = μ + σ ε. We look at why it is needed, that it is right,
and what it buys.

:Aim: differentiate an average over draws in two ways, and say which is better and when.
:You need: section 3.7 of the notes, Eq. (11); Kingma & Welling 2013, §2.4; tutorial 1.
:Time: a few seconds.
"""

# %%
# The problem
# -----------
# We want ∂/∂μ and ∂/∂σ of E_q[f(z)], where q = N(μ, σ²). The average is taken over draws, and a
# draw is not a function of μ: ask a random generator for z, and no derivative comes out.
#
# Two answers
# -----------
# *Score function*: differentiate the density, ∂/∂μ E_q[f] = E_q[f(z) ∂ log q(z)/∂μ].
#
# *Reparameterization*: write the draw as a function, z = μ + σ ε with ε ~ N(0, 1) that has no
# parameters, and differentiate f along it: E_ε[f′(z) ∂z/∂μ].
#
# For f(z) = z² both can be held against the truth: E_q[f] = μ² + σ², so ∂/∂μ = 2μ, ∂/∂log σ² = σ².

import matplotlib.pyplot as plt
import numpy as np

from numpyvae.core.distributions import reparameterize

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
        print(
            f"   {kind:5s} {draws.mean():.3f} ± {draws.std() / n**0.5:.3f}, "
            f"standard deviation of one draw {draws.std():.2f}"
        )
        assert abs(draws.mean() - truth.item()) < 5 * draws.std() / n**0.5

# %%
# Both are right; one is much noisier.

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
axes[0].legend()
fig.suptitle("the same mean, and more noise or less")

# %%
# In the code
# -----------
# ``reparameterize`` returns z and its pullback: ∂ELBO/∂z comes in, ∂ELBO/∂μ and ∂ELBO/∂log σ² go
# out. The decoder's gradient reaches the encoder through these two lines and nothing else.

dz = np.ones_like(z) / n
dmu, dlogvar = pull(dz)
assert np.allclose(dmu, 1) and np.allclose(dlogvar, (0.5 * sigma * eps).mean())

# %%
# The dimension matters
# ---------------------
# f(z) = ‖z‖² in J dimensions. The score function weighs every direction of noise with the whole of f,
# so its noise grows with J; along the path, each direction sees only its own part.

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
ax.set(xlabel="latents J", ylabel=r"std of one draw of $\partial/\partial\mu_1$")
ax.set_title("noise against the number of latents")
ax.legend()
assert noise["score function"][-1] > 10 * noise["path"][-1]

# %%
# Exercises
# ---------
# 1. A classic bug is σ = exp(log σ²) in the draw. What would E[z²] be? Check it by drawing.

wrong = mu + np.exp(logvar) * eps
assert abs((wrong**2).mean() - (mu**2 + np.exp(2 * logvar)).item()) < 0.05

# %%
# 2. Subtracting a constant from f does not change the mean of the score-function estimate, since
#    E_q[∂ log q/∂μ] = 0, but it does change its noise. Find a constant that helps.

z, _ = reparameterize(mu, logvar, eps)
baseline = (mu**2 + sigma**2).item()
with_baseline = (z**2 - baseline) * (z - mu) / sigma**2
assert abs(with_baseline.mean() - 2 * mu.item()) < 5 * with_baseline.std() / n**0.5
assert with_baseline.std() < score_mu.std()

plt.show()
