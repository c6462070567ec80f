"""
The ELBO and its gap
====================

Sections 3.3 and 3.4 of the notes show that the KL to the posterior cannot be computed without the
evidence. The sum of this KL and the ELBO is exactly log p(x), and the ELBO can be computed. For a
linear-Gaussian model all three terms are known in closed form, so we can check this identity.

:Aim: to understand the bound, its gap to log p(x), and why maximizing the bound is inference.
:You need: sections 3.3 and 3.4 of the notes, Eq. (5) to Eq. (11); tutorial 2.
:Time: a few seconds.
"""

# %%
# A model whose evidence is known
# -------------------------------
# The model has one latent variable and three observed dimensions: x = W z + noise. Its evidence is
# a Gaussian density.

import matplotlib.pyplot as plt
import numpy as np

from numpyvae.exact import Gaussian, LinearGaussian

model = LinearGaussian(W=[[1.0], [0.5], [-0.8]], mean=[0.0, 0.0, 0.0], sigma2=0.5)
x = model.sample(1, seed=3)
log_px = model.log_evidence(x)[0]
posterior = model.posterior(x)
print(
    f"log p(x) = {log_px:.4f}; posterior N({posterior.mean[0, 0]:.3f}, {posterior.cov[0, 0]:.3f})"
)

# %%
# Eq. (9): log p(x) = KL + ELBO for every q
# -----------------------------------------
# We vary the mean of q around the mean of the posterior. When one term increases, the other
# decreases; their sum is constant.

means = np.linspace(-2, 2, 81) + posterior.mean[0, 0]
curves = []
for m in means:
    q = Gaussian.diagonal([[m]], [[np.log(posterior.cov[0, 0])]])
    curves.append((model.elbo_kl_form(x, q)[0], model.kl_to_posterior(x, q)[0]))
elbo, kl = np.array(curves).T
assert np.allclose(elbo + kl, log_px, atol=1e-12)

fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.plot(means, elbo, label="ELBO")
ax.fill_between(means, elbo, elbo + kl, alpha=0.25, label="KL(q ‖ p(z|x))")
ax.axhline(log_px, color="k", linestyle="--", label="log p(x)")
ax.set(xlabel="mean of q", ylabel="nats", title="the gap is the KL to the posterior")
ax.legend(loc="lower center")

# %%
# Eq. (11): the two terms of the training objective
# -------------------------------------------------
# The same ELBO is the reconstruction term minus the KL to the *prior*. We vary the variance of q. A
# narrow q has a high reconstruction term and a large KL to the prior; a wide q has a low
# reconstruction term and a small KL. The ELBO is largest at the variance of the posterior.

logvars = np.linspace(-5, 2, 141)
rows = []
for s in logvars:
    q = Gaussian.diagonal(posterior.mean, [[s]])
    rows.append((model.expected_log_likelihood(x, q)[0], model.kl_to_prior(q)[0]))
reconstruction, kl_prior = np.array(rows).T

fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.plot(logvars, reconstruction, "--", label="E[log p(x|z)], reconstruction")
ax.plot(logvars, -kl_prior, ":", label="−KL(q ‖ p(z))")
ax.plot(logvars, reconstruction - kl_prior, label="ELBO, their sum")
ax.axvline(np.log(posterior.cov[0, 0]), color="0.6", label="log σ² of the posterior")
ax.set(xlabel="log σ² of q", ylabel="nats", title="the ELBO is the sum of two terms")
ax.legend()
best = logvars[np.argmax(reconstruction - kl_prior)]
assert abs(best - np.log(posterior.cov[0, 0])) < 0.05

# %%
# "At the optimal φ* the KL is 0"
# -------------------------------
# This is a statement of section 3.4. It is true if the family of q contains the posterior. With two
# latent variables the posterior can be correlated. A diagonal q has no correlation, so even the
# best diagonal q leaves a gap.

wide = LinearGaussian(W=[[1.0, 0.9], [0.8, 1.0], [0.2, -0.1]], mean=[0.0] * 3, sigma2=0.3)
x2 = wide.sample(1, seed=1)
inside, outside = wide.posterior(x2), wide.best_diagonal(x2)
for name, q in (("full covariance", inside), ("diagonal", outside)):
    print(f"best q with {name:15s}: KL to the posterior {wide.kl_to_posterior(x2, q)[0]:.6f} nats")
assert wide.kl_to_posterior(x2, inside)[0] < 1e-12 < 0.1 < wide.kl_to_posterior(x2, outside)[0]

fig, ax = plt.subplots(figsize=(4, 4), layout="constrained")
angle = np.linspace(0, 2 * np.pi, 200)
circle = np.stack([np.cos(angle), np.sin(angle)])
for q, style, name in ((inside, "-", "posterior"), (outside, "--", "best diagonal q")):
    chol = q.chol if q.chol.ndim == 2 else q.chol[0]
    ring = q.mean[0][:, None] + 2 * chol @ circle
    ax.plot(*ring, style, label=name)
ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal", title="two standard deviations")
ax.legend()

# %%
# A bound in expectation
# ----------------------
# With one draw of z we obtain an estimate of the ELBO. The ELBO is a lower bound on log p(x), but a
# single estimate of it can be larger than log p(x). We choose q close to the posterior and count
# how often this happens.

rng = np.random.default_rng(0)
q = Gaussian.diagonal(posterior.mean + 0.3, np.log(posterior.cov) + 0.3)
z = q.transform(rng.standard_normal((100_000, 1, 1)))
draws = (model.log_joint(x, z) - q.log_pdf(z))[:, 0]
above = (draws > log_px).mean()
print(
    f"{above:.0%} of single draws exceed log p(x); their mean is {draws.mean():.4f}, "
    f"the ELBO {model.elbo_joint_form(x, q)[0]:.4f}"
)

# %%
# Exercises
# ---------
# 1. The derivation of the bound by Jensen's inequality uses w = p(x, z)/q(z|x). Show that the
#    average of w is p(x) for any q, and that the average of log w is the ELBO.

# %%
# E_q[w] = ∫ q p(x, z)/q dz = ∫ p(x, z) dz = p(x) for any q that is positive where p(x, z) is. And
# E_q[log w] = E_q[log p(x, z)] − E_q[log q] is Eq. (7), the ELBO. By Jensen's inequality E[log w] ≤
# log E[w], which is Eq. (10). The averages over the draws agree with both values within their
# noise.

assert abs(np.log(np.exp(draws).mean()) - log_px) < 0.01
assert abs(draws.mean() - model.elbo_joint_form(x, q)[0]) < 0.02

# %%
# 2. If q is the posterior itself, log w equals log p(x) for every draw. Use Eq. (4) to explain why.

# %%
# By Eq. (4), p(x, z) = p(z|x) p(x). With q(z|x) = p(z|x) the weight is p(x, z)/p(z|x) = p(x) for
# every z: it does not vary, and one draw gives log p(x) exactly. The gap of Eq. (9) is a mean of
# log p(x) − log w, so it is zero in this case.

z = posterior.transform(rng.standard_normal((1000, 1, 1)))
assert np.ptp(model.log_joint(x, z) - posterior.log_pdf(z)) < 1e-12

# %%
# 3. Appendix A derives Eq. (6) from the KL in the lines Eq. (12)–(17). Appendix B derives Eq. (11)
#    from Eq. (7) in the lines Eq. (18)–(22). Compute each line separately for a mixture with three
#    components, where the integrals are sums. All lines of one appendix have the same value.

# %%
# All lines of an appendix are one number in different forms, so that they agree to rounding. Those
# of appendix A are the KL to the posterior, those of appendix B the ELBO; their sum is log p(x) for
# each x, by Eq. (9). For a mixture z is one of three components, and each integral over z is a sum
# of three terms.

from numpyvae.equations import derivations, make_case

case = make_case("discrete", seed=1)
for lines in (range(12, 18), range(18, 23)):
    values = np.array([getattr(derivations, f"line_{n}")(case) for n in lines])  # (lines, B)
    for n, value in zip(lines, values):
        print(f"line ({n}): {value[0]:.12f} nats")
    assert np.ptp(values, axis=0).max() < 1e-12

plt.show()
