"""
Posterior collapse, and what does not cause it
==============================================

A latent has collapsed if its posterior equals the prior: it then carries no information about x. The
KL term is often named as the cause, since it is zero for a collapsed latent. We test the possible
causes one by one on a linear model, where the optimum is known exactly: the KL, σ², β, and a mean over
pixels. Then we study training on the digits: the learning rate, a warm-up of the KL, and whether a
collapsed model can recover.

:Aim: to predict from the data and from σ² how many latents a model will use, and to know what a
    warm-up can change.
:You need: Eq. (9) and Eq. (11); tutorial 7.
:Time: about twenty seconds.
"""

# %%
# What the data determine
# -----------------------
# The maximum-likelihood linear model with noise variance σ² uses a principal direction of the data only
# if the variance λ of the data in this direction exceeds σ². The corresponding column of W then has the
# length √(λ − σ²); otherwise its length is 0 (Tipping & Bishop 1999). This result concerns log p(x)
# only; it does not depend on an encoder.
#
# The KL is not the cause
# -----------------------
# We maximize log p(x) itself by exact EM, with a given σ². EM uses the exact posterior, so there is no
# approximate q, no bound and no gap. EM depends on the data only through their covariance, so we replace
# the 3823 digits by 128 rows with the same covariance. We also train the same model as a VAE, by the
# ELBO.

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

import numpyvae
from numpyvae import Adam, cosine_schedule, datasets
from numpyvae.core.distributions import gaussian_kl
from numpyvae.diagnostics import active_units, rate_distortion
from numpyvae.estimators import SGVBB
from numpyvae.exact import LinearGaussian, ppca_maximum_likelihood
from numpyvae.plotting import plot_active_units

threadpool_limits(1, "blas")  # the matrices are small: a second thread makes the products slower
digits = datasets.load_digits()
x = digits.grays("train", dtype="float64")
x -= x.mean(axis=0)
J = 12
eigenvalues, directions = np.linalg.eigh(x.T @ x / len(x))
eigenvalues, directions = eigenvalues[::-1], directions[:, ::-1]
# Some pixels are constant, so some eigenvalues are 0 and may be slightly negative after rounding.
half = (directions * np.sqrt(64 * np.maximum(eigenvalues, 0))).T
alike = np.vstack([half, -half])
assert np.allclose(alike.T @ alike / 128, x.T @ x / len(x))


def by_likelihood(sigma, steps=1000):
    """Return the singular values of W after exact EM with a fixed σ."""
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
        estimator=SGVBB(beta=beta),
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
left.set(xlabel="principal direction", ylabel="variance λ of the digits", xticks=(1, 4, 8, 12))
left.set_title("λ (markers) and σ² (dashed)")
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
# The crosses were computed without a KL and without an encoder, and the same columns collapse. For a
# linear model the ELBO causes no additional collapse: its optimum is also the maximum of log p(x)
# (Lucas et al. 2019). The directions that collapse are those that do not increase log p(x) at this noise
# variance. (Some circles have not fully converged: stochastic steps of finite length keep the smallest
# columns slightly above zero.)
#
# σ² is the cause
# ---------------
# A loss that does not mention σ² still contains an implicit value of it. The squared error, summed over
# pixels, corresponds to σ² = ½. A weight β on the KL, with noise variance σ², corresponds to the noise
# variance βσ²:
#
# .. math::
#    & -\frac{1}{2\sigma^2}\|x - \hat x\|^2 - \beta\,\mathrm{KL} \\
#    & = \beta \Big( -\frac{1}{2\beta\sigma^2} \|x - \hat x\|^2 - \mathrm{KL} \Big).
#
# A *mean* over D pixels together with a KL that is summed over latents corresponds to β = D. For the
# squared error the noise variance is then D/2 = 32 here, while the largest variance of the data is 0.7.

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
    print(f"{name:32s} predicted: {(eigenvalues[:J] > sigma**2).sum()} of {J} latents active")
ax.set(xlabel="column of W", ylabel="length (singular value)", xticks=place)
ax.set_title("trained (markers) and predicted from βσ² (lines)")
ax.legend()
assert np.allclose(cases["σ = 0.4"], cases["σ = 0.2, β = 4"], atol=1e-3)
assert cases["squared error, mean over pixels"].max() < 0.05 < 0.4 < best(half_sigma)[0]

# %%
# β = 4 with σ = 0.2 gives the same model as σ = 0.4: the steps of Adam do not change when the objective
# is multiplied by a constant such as the factor β in front of the bracket. With the mean over pixels
# all latents collapse, as predicted. (The squares have not fully converged: the second and the third are
# below their line. With ten times as many epochs, the second reaches it.)
#
# On digits: can a collapsed model recover?
# -----------------------------------------
# The nonlinear model with a Bernoulli likelihood has no σ², but the KL can have a weight β. We train
# with β = 4 until almost all latents have collapsed, and then continue with β = 1.

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
        estimator=SGVBB(**settings),
    )
    return vae, history, active


collapsed, collapsed_history, collapsed_active = train(epochs=15, beta=4)
at_collapse = rate_distortion(collapsed, test)
recovered, recovered_history, recovered_active = train(collapsed)  # changes `collapsed` in place
fresh, fresh_history, fresh_active = train()
print(f"β = 4: KL {at_collapse.rate[0]:.2f} nats, {collapsed_active[-1]} of 16 latents active")
outcome = {
    "from scratch": rate_distortion(fresh, test),
    "recovered": rate_distortion(recovered, test),
}
for name, point in outcome.items():
    print(f"{name:12s} test ELBO {point.elbo[0]:.2f}, KL {point.rate[0]:.2f} nats")

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
collapsed_epochs, later = np.arange(1, 16), np.arange(16, 46)
for ax, collapsed_values, recovered_values, fresh_values in (
    (left, collapsed_history["kl"], recovered_history["kl"], fresh_history["kl"]),
    (right, collapsed_active, recovered_active, fresh_active),
):
    ax.plot(collapsed_epochs, collapsed_values, "C3--", label="β = 4")
    ax.plot(later, recovered_values, "C3-", label="then β = 1")
    ax.plot(later, fresh_values, "C0:", label="β = 1 from scratch")
    ax.set(xlabel="epoch (from scratch: shifted by 15)")
left.set(ylabel="KL (nats per digit)", title="KL")
right.set(ylabel="number of active latents (of 16)", title="active latents", ylim=(-0.5, 16.5))
right.legend(loc="center right")
assert at_collapse.rate[0] < 0.1 and collapsed_active[-1] <= 2 and min(recovered_active) >= 14
assert abs(outcome["recovered"].elbo[0] - outcome["from scratch"].elbo[0]) < 0.3

# %%
# The latents become active again within one epoch, and the final ELBO is as high as after training from
# scratch. So the model was not trapped: the latents were inactive because this was optimal for β = 4,
# and they become active as soon as the objective changes. (This result does not extend to deeper and
# especially autoregressive decoders, which can model x without z.)
#
# The number of active latents does not show how much each of them is used. The KL of Eq. (11) is a sum
# over latents; :func:`numpyvae.plotting.plot_active_units` plots the term of each latent. We compare
# the model after training with β = 1 with a model that is trained with β = 2:

between, _, _ = train(beta=2)
fig, axes = plt.subplots(2, 1, figsize=(7, 5.4), layout="constrained", sharey=True)
for ax, name, vae in zip(axes, ("β = 2", "β = 1"), (between, recovered)):
    plot_active_units(vae, test, ax=ax)
    ax.set_title(f"{name}: {ax.get_title(loc='left')}", loc="left", fontsize=11)
    mu, logvar = vae.encode(test)
    kl, _ = gaussian_kl(mu[..., None], logvar[..., None])  # (N, J): the KL of each latent
    print(f"{name}: {(kl.mean(axis=0) > 0.05).sum()} latents have a KL above 0.05 nats")

# %%
# A latent counts as active if the variance of its posterior mean exceeds 0.01. With β = 2 eight latents
# are active by this definition, but three of them have almost all of the KL. With β = 1 all 16 are
# active, and five of them have a KL below 0.05 nats. A latent with a small KL contributes little
# information about x, whether it counts as active or as collapsed. So report the KL of each latent, and
# not only their number.
#
# The course of training: learning rate and warm-up
# -------------------------------------------------
# ``kl_warmup`` increases β linearly from 0. While β is close to 0, a large KL costs almost nothing, so
# the KL becomes large. For comparison we also train with a lower learning rate, which is another
# possible cause of a low KL.

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
left.set(xlabel="epoch", ylabel="KL (nats per digit)", title="KL during training")
left.set(yticks=(3, 5, 10, 20, 30), yticklabels=(3, 5, 10, 20, 30))
left.minorticks_off()
right.set(xlabel="epoch", ylabel="ELBO (nats per digit)", title="ELBO with β = 1")
right.set_ylim(-40, -22)
right.legend()

plain, warm, slow = results.values()
assert ways["warm-up, 15 epochs"][1]["kl"][0] > 5 * fresh_history["kl"].max()
assert abs(ways["warm-up, 15 epochs"][2][-1] - fresh_active[-1]) <= 1
assert abs(warm.elbo[0] - plain.elbo[0]) < 0.5 and slow.elbo[0] < plain.elbo[0] - 3

# %%
# The warm-up changes the course of training completely: the KL starts tens of nats too high and
# decreases, instead of increasing from low values. At the end the same number of latents is active.
# Their KL is larger (6.4 and 4.7 nats), but the ELBO is not higher: the final objective is the ELBO
# with β = 1 in both cases, and with the warm-up half of the epochs maximized another objective. A
# warm-up helps if the result depends on the course of training, that is, if early training would
# otherwise reach a poor local optimum and stay there. A low KL does not prove collapse. First check
# whether the model has been trained long enough: with a tenth of the learning rate the KL is low, all
# latents are active, and the ELBO is about four and a half nats lower.
#
# Exercises
# ---------

# %%
# 1. If σ² is learned, how many of J ≤ 12 latents collapse in the best linear model? (Compare the best
#    σ² with the J largest eigenvalues.)

# %%
# None. The best σ² is the mean of the D − J smallest eigenvalues, and a mean of smaller numbers is
# below each of the J largest. So every column has λ > σ², and all J latents are used. Collapse
# needs a σ² that is fixed, or implied by the loss, at a larger value.

for latents in range(1, 13):
    assert eigenvalues[latents - 1] > ppca_maximum_likelihood(x, latents).sigma2

# %%
# 2. With ``free_bits=0.5`` the objective does not penalize the first half nat of KL of each latent. How
#    do the KL and the ELBO change?

# %%
# The KL rises by more than two nats, since up to half a nat in each of 16 latents is free; the
# ELBO, in which every nat counts, falls by more than half a nat. Free bits keep latents active, but
# they do not make the model better in nats: the objective is another one.

free, free_history, _ = train(free_bits=0.5)
assert free_history["kl"][-1] > 6 and free_history["kl"][-1] > fresh_history["kl"][-1] + 2
assert rate_distortion(free, test).elbo[0] < plain.elbo[0] - 0.5

# %%
# 3. At which β does the last latent of a linear model of the digits with σ² = ½ collapse?

# %%
# A weight β with noise variance σ² acts as the noise variance βσ². A latent collapses if λ ≤ βσ²,
# and the last one if the largest eigenvalue does: β = λ₁/σ² = 2 λ₁, about 1.4.

last = eigenvalues[0] / 0.5
assert best((0.99 * last * 0.5) ** 0.5).any() and not best((1.01 * last * 0.5) ** 0.5).any()

plt.show()
