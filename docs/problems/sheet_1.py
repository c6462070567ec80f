# %% [markdown]
# # Sheet 1: the evidence, the posterior and the ELBO
#
# A model of four binary pixels with one latent variable: z ~ N(0, 1), and each pixel is 1 with
# the probability sigmoid(w z + b). One latent is few enough to compute every integral as a sum
# over a grid, so each equation of the notes, (1) to (11), becomes a line of code. Logarithms are
# natural: the unit is nats.
#
# Replace each `...`. The line with `assert` below it tells you whether it is right.

# %%
import numpy as np

w = np.array([2.0, -1.0, 1.5, 0.5])
b = np.array([0.0, 0.5, -0.5, 0.0])
x = np.array([1.0, 0.0, 1.0, 1.0])
z = np.linspace(-8, 8, 2001)  # the grid
dz = z[1] - z[0]

# %% [markdown]
# **1 (2 points).** Eq. (1): compute log p(x, z) = log p(x|z) + log p(z) at each point of the
# grid. With the logit l, log p(x_i|z) is x_i l − log(1 + exp(l)); `np.logaddexp(0, l)` is the
# logarithm without overflow.

# %%
logits = z[:, None] * w + b  # (2001, 4)
# blank: two terms, each an array of shape (2001,); the sum of them
log_likelihood = (x * logits - np.logaddexp(0, logits)).sum(axis=1)
log_prior = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
log_joint = log_likelihood + log_prior
# end

assert log_joint.shape == z.shape
assert np.isclose(log_joint[1000], -4.2534, atol=1e-4)  # at z = 0

# %% [markdown]
# **2 (1 point).** Eq. (2): compute the log-evidence log p(x). The integral is a sum over the
# grid, times dz.

# %%
# blank: the logarithm of a sum
log_evidence = np.log(np.exp(log_joint).sum() * dz)
# end

assert np.isclose(log_evidence, -2.2300, atol=1e-4)

# %% [markdown]
# **3 (2 points).** Eq. (3): compute the posterior density p(z|x) on the grid, its mean and its
# variance.

# %%
# blank: Bayes' rule, then two sums
posterior = np.exp(log_joint - log_evidence)
mean = (posterior * z).sum() * dz
variance = (posterior * (z - mean) ** 2).sum() * dz
# end

assert np.isclose(posterior.sum() * dz, 1)
assert np.isclose(mean, 1.1977, atol=1e-4)
assert np.isclose(variance, 0.5091, atol=1e-4)

# %% [markdown]
# **4 (2 points).** Eq. (7): write a function for the ELBO of q(z) = N(m, s²).


# %%
def log_q(m, s):
    return -0.5 * ((z - m) / s) ** 2 - np.log(s) - 0.5 * np.log(2 * np.pi)


# blank: E_q[log p(x, z) − log q(z)]
def elbo(m, s):
    return (np.exp(log_q(m, s)) * (log_joint - log_q(m, s))).sum() * dz


# end

assert np.isclose(elbo(0.0, 1.0), -4.0700, atol=1e-4)
assert elbo(1.0, 0.7) < log_evidence  # Eq. (10)

# %% [markdown]
# **5 (2 points).** Eq. (5) and Eq. (9): write a function for KL(q ‖ p(z|x)). The assertion
# checks that the ELBO and the KL add up to the same number for every q.


# %%
# blank: E_q[log q(z) − log p(z|x)]; the log posterior is log_joint − log_evidence
def kl_to_posterior(m, s):
    return (np.exp(log_q(m, s)) * (log_q(m, s) - (log_joint - log_evidence))).sum() * dz


# end

for m, s in [(0.0, 1.0), (1.0, 0.5), (-2.0, 0.3)]:
    assert np.isclose(elbo(m, s) + kl_to_posterior(m, s), log_evidence)

# %% [markdown]
# **6 (2 points).** Eq. (11): compute the same ELBO as reconstruction − KL(q ‖ p(z)). The KL
# between N(m, s²) and N(0, 1) has a closed form; derive it on paper, then write it down.


# %%
# blank: a closed form, and E_q[log p(x|z)] minus it
def kl_to_prior(m, s):
    return 0.5 * (m**2 + s**2 - np.log(s**2) - 1)


def elbo_kl_form(m, s):
    return (np.exp(log_q(m, s)) * log_likelihood).sum() * dz - kl_to_prior(m, s)


# end

assert kl_to_prior(0.0, 1.0) == 0
assert np.isclose(elbo_kl_form(1.0, 0.5), elbo(1.0, 0.5))

# %% [markdown]
# **7 (2 points).** Section 3.4: find the best q, with a search over the grid of m and s below.
# How large is the gap that remains, and why is it not 0? Compare m and s² with the mean and the
# variance of problem 3.

# %%
grid = [(m, s) for m in np.arange(0.5, 1.5, 0.01) for s in np.arange(0.5, 1.0, 0.01)]
# blank: the pair with the largest ELBO, and log p(x) minus this ELBO
best = max(grid, key=lambda pair: elbo(*pair))
gap = log_evidence - elbo(*best)
# end

assert 0 < gap < 0.01

# %% [markdown]
# <!-- teacher -->
# **Answer to 7.** The gap is 0.005 nats. The posterior is not a Gaussian, since the logarithm of
# the likelihood is not quadratic in z, so no q of this family equals it, and the KL of Eq. (8)
# stays positive. The best q is close to the mean and the variance of the posterior, but not
# equal to them: it minimizes KL(q ‖ p), while the moments minimize KL(p ‖ q).
