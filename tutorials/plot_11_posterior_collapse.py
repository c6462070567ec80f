"""
Posterior collapse, and what does not cause it
==============================================

A latent whose posterior is the prior has collapsed: it says nothing about x. The KL term is
usually blamed, since it is the term that pays for saying nothing. On a linear model, where everything
is known, we try the suspects one by one: the KL, σ², β, a mean over pixels. On digits we then look at
the way there: learning rate, warm-up, and whether a collapsed model is trapped.

:Aim: to predict from the data and from σ² how many latents a model will use, and to know what a
    warm-up can change.
:You need: Eq. (9) and Eq. (11); tutorial 6.
:Time: about twenty seconds.
"""

# %%
# What the data have to say
# -------------------------
# A linear model with noise σ² keeps a direction of the data only if its variance λ exceeds σ². The
# best column for it then has the length √(λ − σ²), else 0 (Tipping & Bishop 1999). That is a statement
# about log p(x): it knows nothing of an encoder.
#
# Acquit the KL
# -------------
# We maximize log p(x) itself by exact EM, with a given σ². There is no q that falls short of the
# posterior here, no bound and no gap. EM sees the data only through their covariance, so that 128 rows
# with the covariance of the digits do for all 3823. The same model is trained as a VAE, by the ELBO.

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

import numpyvae
from numpyvae import datasets
from numpyvae.core.optimizers import Adam, cosine_schedule
from numpyvae.diagnostics import active_units, rate_distortion
from numpyvae.exact import LinearGaussian, ppca_maximum_likelihood

threadpool_limits(1, "blas")  # small products: a second thread costs more than it gives
digits = datasets.load_digits()
x = digits.grays("train", dtype="float64")
x -= x.mean(axis=0)
J = 12
eigenvalues, directions = np.linalg.eigh(x.T @ x / len(x))
eigenvalues, directions = eigenvalues[::-1], directions[:, ::-1]
half = (directions * np.sqrt(64 * eigenvalues)).T
alike = np.vstack([half, -half])
assert np.allclose(alike.T @ alike / 128, x.T @ x / len(x))


def by_likelihood(sigma, steps=1000):
    """Return the singular values of W after exact EM, σ fixed."""
    W = np.random.default_rng(0).normal(0, 0.1, (64, J))
    model = LinearGaussian(W, np.zeros(64), sigma**2)
    for _ in range(steps):
        moved = model.m_step(alike, model.posterior(alike))
        model = LinearGaussian(moved.W, moved.mean, sigma**2)
    return np.linalg.svd(model.W, compute_uv=False)


def by_elbo(sigma, beta=1.0):
    """Return the singular values of W of a linear VAE after training."""
    vae = numpyvae.VAE(64, J, (), likelihood=f"gaussian:{sigma}", dtype="float64")
    numpyvae.fit(
        vae,
        x,
        epochs=60,
        batch_size=200,
        optimizer=Adam(0.03),
        schedule=cosine_schedule(60),
        beta=beta,
    )
    return np.linalg.svd(vae.parameters["decoder.W0"], compute_uv=False)


def best(sigma):
    return np.sqrt(np.maximum(eigenvalues[:J] - sigma**2, 0))


sigmas = (0.25, 0.4, 0.6)
likelihood = {sigma: by_likelihood(sigma) for sigma in sigmas}
trained = {sigma: by_elbo(sigma) for sigma in sigmas}

fig, (left, right) = plt.subplots(
    1, 2, figsize=(7, 3.6), layout="constrained", width_ratios=(1, 1.4)
)
place = np.arange(1, J + 1)
left.semilogy(place, eigenvalues[:J], "ko-", markersize=4)
left.set(xlabel="direction", ylabel="variance λ of the digits", title="data, and σ² (dashed)")
left.set(yticks=(0.1, 0.2, 0.4, 0.6), yticklabels=("0.1", "0.2", "0.4", "0.6"))
left.minorticks_off()
for sigma, color in zip(sigmas, ("C0", "C1", "C2")):
    left.axhline(sigma**2, color=color, linestyle="--")
    right.plot(place, best(sigma), color=color, label=f"σ = {sigma}")
    right.plot(place, likelihood[sigma], "x", color=color, markersize=7)
    right.plot(place, trained[sigma], "o", color=color, markerfacecolor="none")
    print(f"σ = {sigma}: {(eigenvalues[:J] > sigma**2).sum()} of {J} directions above σ²")
    assert np.abs(likelihood[sigma] - best(sigma)).max() < 0.02
    assert np.abs(trained[sigma] - best(sigma)).max() < 0.15
right.set(xlabel="column of W", ylabel="length (singular value)")
right.set_title("lines √(λ − σ²), × EM, ○ ELBO")
right.legend()

# %%
# The crosses know no KL and no encoder, and they collapse in just the same places. For a linear model
# the ELBO adds no collapse of its own: at its optimum it has the maximum of log p(x) (Lucas et al.
# 2019). What is dropped is what a model with so much noise has no use for. (The circles have not all
# arrived: stochastic steps of finite length keep the weakest columns a little above zero.)
#
# Convict σ²
# ----------
# Whoever does not choose σ² has chosen it all the same. Squared error, summed over pixels, is
# σ² = ½. A weight β on the KL, with noise σ², is βσ²:
#
# .. math::
#    & -\frac{1}{2\sigma^2}\|x - \hat x\|^2 - \beta\,\mathrm{KL} \\
#    & = \beta \Big( -\frac{1}{2\beta\sigma^2} \|x - \hat x\|^2 - \mathrm{KL} \Big).
#
# A *mean* over D pixels beside a KL that is summed over latents is β = D: squared error has then
# σ² = D/2 = 32 here, beside data whose largest variance is 0.7.

half_sigma, mean_sigma = 0.5**0.5, (64 / 2) ** 0.5
cases = {
    "σ = 0.4": by_elbo(0.4),
    "σ = 0.2, β = 4": by_elbo(0.2, beta=4),
    "squared error, summed": by_elbo(half_sigma),
    "squared error, mean over pixels": by_elbo(half_sigma, beta=64),
}
effective = (0.4, 0.4, half_sigma, mean_sigma)
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for (name, values), sigma, style in zip(cases.items(), effective, ("C1o", "kx", "C3s", "C4^")):
    ax.plot(place, values, style, label=name, markerfacecolor="none")
    ax.plot(place, best(sigma), color="0.6", linewidth=1, zorder=0)
    print(f"{name:32s} predicted {(eigenvalues[:J] > sigma**2).sum()} of {J}")
ax.set(xlabel="column of W", ylabel="length (singular value)", xticks=place)
ax.set_title("trained (markers) and predicted from βσ² (lines)")
ax.legend()
assert np.allclose(cases["σ = 0.4"], cases["σ = 0.2, β = 4"], atol=1e-3)
assert cases["squared error, mean over pixels"].max() < 0.05 < 0.4 < best(half_sigma)[0]

# %%
# β = 4 at σ = 0.2 does not resemble σ = 0.4, it *is* σ = 0.4: Adam does not feel the factor β before
# the bracket. And the mean over pixels leaves nothing alive, as predicted.
#
# On digits: is a collapsed model trapped?
# ----------------------------------------
# The non-linear model with a Bernoulli likelihood has no σ², but it has a β. We train with β = 4 until
# all latents are dead, and go on from there with β = 1.

grays = digits.grays("train")
test = datasets.binarize(digits.grays("test"), np.random.default_rng(0))


def train(vae=None, epochs=30, learning_rate=3e-3, **settings):
    """Train a model with 16 latents; return it, its history, and the active units by epoch."""
    vae = numpyvae.VAE(64, 16, hidden=(100,)) if vae is None else vae
    active = []
    history = numpyvae.fit(
        vae,
        grays,
        epochs=epochs,
        transform=datasets.binarize,
        optimizer=Adam(learning_rate),
        schedule=cosine_schedule(epochs),
        callbacks=[lambda vae, _: active.append(int(active_units(vae, test).sum()))],
        **settings,
    )
    return vae, history, active


dead, dead_history, dead_active = train(epochs=15, beta=4)
after_death = rate_distortion(dead, test)
revived, revived_history, revived_active = train(dead)
fresh, fresh_history, fresh_active = train()
print(f"β = 4: KL {after_death.rate[0]:.2f} nats, {dead_active[-1]} of 16 latents active")
outcome = {"from scratch": rate_distortion(fresh, test), "revived": rate_distortion(revived, test)}
for name, point in outcome.items():
    print(f"{name:12s} test ELBO {point.elbo[0]:.2f}, KL {point.rate[0]:.2f} nats")

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
dead_epochs, later = np.arange(1, 16), np.arange(16, 46)
for ax, dead_values, revived_values, fresh_values in (
    (left, dead_history["kl"], revived_history["kl"], fresh_history["kl"]),
    (right, dead_active, revived_active, fresh_active),
):
    ax.plot(dead_epochs, dead_values, "C3--", label="β = 4")
    ax.plot(later, revived_values, "C3-", label="then β = 1")
    ax.plot(later, fresh_values, "C0:", label="β = 1 from scratch")
    ax.set(xlabel="epoch (from scratch: shifted by 15)")
left.set(ylabel="KL (nats per digit)", title="the KL")
right.set(ylabel="active of 16 latents", title="active units", ylim=(-0.5, 16.5))
left.legend()
assert after_death.rate[0] < 0.1 and dead_active[-1] <= 2 and min(revived_active) >= 14
assert abs(outcome["revived"].elbo[0] - outcome["from scratch"].elbo[0]) < 0.3

# %%
# Within an epoch the latents are back, and at the end the bound is as good as from scratch. Nothing was
# trapped: the latents were dead because the objective preferred them so, and they live as soon as it
# does not. (Deeper decoders, above all autoregressive ones, can explain x without z, and are another
# story.)
#
# The way there: learning rate and warm-up
# ----------------------------------------
# ``kl_warmup`` raises β in a straight line from 0. With β near 0 the encoder is free to say much, and
# it does. Beside it we lower the learning rate, which is a suspect of its own.

ways = {
    "as above": (fresh, fresh_history, fresh_active),
    "warm-up, 15 epochs": train(kl_warmup=15),
    "learning rate / 10": train(learning_rate=3e-4),
}
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
epochs = np.arange(1, 31)
results = {}
for (name, (vae, history, active)), style in zip(ways.items(), ("C0-", "C1--", "C2:")):
    left.semilogy(epochs, history["kl"], style, label=name)
    right.plot(epochs, history["elbo"], style, label=name)
    results[name] = point = rate_distortion(vae, test)
    print(f"{name:19s} test ELBO {point.elbo[0]:.2f}, KL {point.rate[0]:.2f}, {active[-1]} active")
left.set(xlabel="epoch", ylabel="KL (nats per digit)", title="the way of the KL")
left.set(yticks=(3, 5, 10, 20, 30), yticklabels=(3, 5, 10, 20, 30))
left.minorticks_off()
right.set(xlabel="epoch", ylabel="ELBO (nats per digit)", title="the true ELBO, unweighted")
right.set_ylim(-40, -22)
right.legend()

plain, warm, slow = results.values()
assert ways["warm-up, 15 epochs"][1]["kl"][0] > 5 * fresh_history["kl"].max()
assert abs(ways["warm-up, 15 epochs"][2][-1] - fresh_active[-1]) <= 1
assert abs(warm.elbo[0] - plain.elbo[0]) < 0.5 and slow.elbo[0] < plain.elbo[0] - 3

# %%
# The warm-up changes the way entirely: the KL begins tens of nats too high and comes down, instead of
# rising from low values. At the end the same number of latents is active. They carry a little more,
# and the ELBO has not gained by it: it is the ELBO of β = 1 all the same, and half of the epochs were
# spent on another objective. A warm-up helps where the way matters, that is where early training
# would settle in a poor region and not come back. And before one blames collapse for a low KL, one
# should see whether the model has just not been trained enough: a tenth of the learning rate leaves
# a low KL, all latents active, and an ELBO some four nats short.
#
# Exercises
# ---------

# %%
# 1. If σ² is learned, how many of J ≤ 12 latents does the best linear model drop? (What is the best σ²,
#    beside the eigenvalues that are kept?)

for latents in range(1, 13):
    assert eigenvalues[latents - 1] > ppca_maximum_likelihood(x, latents).sigma2

# %%
# 2. ``free_bits=0.5`` lets each latent carry half a nat for nothing. What happens to the KL, and what to
#    the ELBO?

free, free_history, _ = train(free_bits=0.5)
assert free_history["kl"][-1] > 6 and free_history["kl"][-1] > fresh_history["kl"][-1] + 2
assert rate_distortion(free, test).elbo[0] < plain.elbo[0] - 0.5

# %%
# 3. At which β does a linear model of the digits with σ² = ½ lose its last latent?

last = eigenvalues[0] / 0.5
assert best((0.99 * last * 0.5) ** 0.5).any() and not best((1.01 * last * 0.5) ** 0.5).any()

plt.show()
