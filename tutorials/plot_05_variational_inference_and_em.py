"""
Variational inference and variational EM
========================================

Section 3.6 of the notes distinguishes two optimizations. *Variational inference* optimizes q with
the decoder fixed; the *M-step* optimizes the decoder with q fixed. (The notes call the second one
variational EM; EM alternates the two.) We first run variational inference alone, and then alternate
it with the M-step.

:Aim: to distinguish variational inference from EM, and to run both.
:You need: sections 3.5 and 3.6 of the notes, Eq. (5) and Eq. (10); tutorial 4.
:Time: a few seconds.
"""

# %%
# Variational inference: maximize the lower bound over q
# ------------------------------------------------------
# The model is linear and Gaussian. With one latent variable its posterior is a Gaussian that the
# family of q contains, so the best q has no gap.

import matplotlib.pyplot as plt
import numpy as np

import numpyvae
from numpyvae import Adam, cosine_schedule
from numpyvae.exact import Gaussian, LinearGaussian, ppca_maximum_likelihood
from numpyvae.inference import variational_em, variational_inference


def linear_vae(J, D=6, sigma=0.6, seed=0):
    vae = numpyvae.VAE(D, J, (), likelihood=f"gaussian:{sigma}", dtype="float64", seed=seed)
    vae.parameters.flat[:] = np.random.default_rng(seed).normal(0, 0.7, vae.parameters.flat.size)
    return vae


for J in (1, 3):
    vae = linear_vae(J)
    model = LinearGaussian.from_vae(vae)
    x = model.sample(50, seed=1)
    found = variational_inference(vae, x)
    q = Gaussian.diagonal(found.mu, found.logvar)
    gap = (model.log_evidence(x) - model.elbo_kl_form(x, q)).mean()
    smallest = model.kl_to_posterior(x, model.best_diagonal(x)).mean()
    gap = max(gap, 0)  # a gap of zero can be negative after rounding
    print(f"J = {J}: gap {gap:.2e} nats after inference; smallest for a diagonal q {smallest:.2e}")
    assert abs(gap - smallest) < 1e-6

# %%
# With three latent variables the posterior is correlated. The optimization finds the best diagonal
# q. The remaining gap is caused by the family of q, and not by the optimization.
#
# Amortized or free
# -----------------
# An *amortized* q comes from an encoder, which computes q for every x from one set of parameters φ.
# A *free* q has its own μ and σ² for each datapoint. The ELBO of the best free q is never lower
# than that of the best amortized q. The difference is the amortization gap; for a nonlinear decoder
# it is in general not zero.

decoder = numpyvae.VAE(8, 1, (6,), dtype="float64", seed=2)
decoder.parameters.flat[:] = np.random.default_rng(2).normal(0, 1.2, decoder.parameters.flat.size)
binary = decoder.sample(60, seed=0)
amortized = variational_inference(decoder, binary, q="amortized", max_iterations=300)
free = variational_inference(decoder, binary, q="free", max_iterations=300)
print(f"ELBO: amortized {amortized.elbo:.4f}, free {free.elbo:.4f} nats per datapoint")
assert free.elbo >= amortized.elbo - 1e-6

# %%
# Variational EM: alternate the two steps
# ---------------------------------------
# We draw data from one linear model and fit another linear model, which starts from other
# parameters. A round has two half-steps: first optimize q, then the decoder. No half-step decreases
# the ELBO. (The first half-step lies below the figure.)

truth = linear_vae(1, seed=5)
x = LinearGaussian.from_vae(truth).sample(200, seed=7)
best = ppca_maximum_likelihood(x, 1)
sigma = float(np.sqrt(best.sigma2))
student = linear_vae(1, sigma=sigma, seed=6)
_, steps = variational_em(student, x, rounds=30)
bound = np.array([step.elbo for step in steps])
assert (np.diff(bound) > -1e-9).all()

# %%
# For the linear-Gaussian model, the maximum of the likelihood is known in closed form: it is the
# probabilistic PCA of Tipping and Bishop. Variational EM converges to this maximum.

best_log_p = best.log_evidence(x).mean()
evidence = LinearGaussian.from_vae(student).log_evidence(x).mean()
print(f"log p(x): EM {evidence:.6f}, closed form {best_log_p:.6f} nats per datapoint")
assert best_log_p - evidence < 1e-3

fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.step(np.arange(1, len(bound) + 1) / 2, bound, where="mid", color="0.7")
ax.plot(np.arange(1, len(bound), 2) / 2, bound[0::2], "o", label="after variational inference")
ax.plot(np.arange(2, len(bound) + 1, 2) / 2, bound[1::2], "s", label="after the M-step")
ax.axhline(best_log_p, color="k", linestyle="--", label="maximum of log p(x), closed form")
ax.set(xlabel="round", ylabel="ELBO (nats per datapoint)", ylim=(bound[1] - 0.5, best_log_p + 0.2))
ax.set_title("no half-step decreases the ELBO")
ax.legend()

# %%
# A VAE updates both at once
# --------------------------
# ``fit(update="both")`` takes small steps in φ and θ together, as in section 3.5. ``update="phi"``
# and ``update="theta"`` are stochastic versions of the two half-steps; they also work for large
# data sets.

vae = linear_vae(1, sigma=sigma, seed=6)
numpyvae.fit(
    vae, x, epochs=600, batch_size=50, optimizer=Adam(0.02), schedule=cosine_schedule(600)
)
together = LinearGaussian.from_vae(vae).elbo_kl_form(x, Gaussian.from_encoder(vae, x)).mean()
print(f"ELBO of fit(update='both') {together:.3f}, maximum {best_log_p:.3f} nats per datapoint")
assert 0 < best_log_p - together < 0.02

# %%
# The result is the same maximum. For this model the encoder can represent the posterior of every x, so
# amortization causes no gap.

# %%
# Exercises
# ---------
# 1. If the E-step sets q to the exact posterior, the gap is zero. The M-step also has a closed
#    form. Write exact EM with ``LinearGaussian.posterior`` and ``LinearGaussian.m_step``.

# %%
# The E-step sets q = p(z|x), so that the ELBO equals log p(x). The M-step increases the ELBO, and
# log p(x) is at least that: no round decreases log p(x). Its limit is the maximum of the
# likelihood, probabilistic PCA.

model = LinearGaussian.from_vae(linear_vae(1, seed=8))
for _ in range(500):
    model = model.m_step(x, model.posterior(x))
exact_em = model.log_evidence(x).mean()
assert abs(exact_em - best_log_p) < 1e-6

# %%
# 2. If q is far from the posterior, an M-step can decrease log p(x) although it increases the ELBO.
#    Find such a q.

# %%
# By Eq. (9), the ELBO is log p(x) minus the gap. If the gap is large, an M-step can increase the
# ELBO by making the gap smaller, at the expense of log p(x): it changes the model so that its
# posterior is closer to the bad q. Here q says z ≈ 3 for each datapoint, and the M-step learns a
# model in which this is plausible.

bad_q = Gaussian.diagonal(np.full((len(x), 1), 3.0), np.full((len(x), 1), 2.0))
moved = best.m_step(x, bad_q)
assert moved.elbo_joint_form(x, bad_q).mean() > best.elbo_joint_form(x, bad_q).mean()
assert moved.log_evidence(x).mean() < best_log_p

plt.show()
