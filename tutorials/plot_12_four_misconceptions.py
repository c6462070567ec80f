"""
Four misconceptions
===================

"Mean or sum is only a learning rate." "Squared error has no σ." "The ELBO cannot be positive."
"Reconstruct from μ, subtract the KL, and you have the ELBO." These four statements are wrong, but they
occur in published code, in tables of papers and in answers to beginners. An experiment of a few
seconds refutes each of them.

:Aim: to read a loss function and say of which model it is the negative ELBO, if there is such a model.
:You need: Eq. (11); tutorials 1, 4 and 11.
:Time: about twenty seconds.
"""

# %%
# "Mean or sum is only a learning rate"
# -------------------------------------
# The log-likelihood of an image is the *sum* over its D pixels. If one takes the mean over pixels but
# sums the KL over latents, the reconstruction term is divided by D and the KL is not. This corresponds
# to β = D in
#
# .. math:: \mathbb{E}_q[\log p(x|z)] - \beta \, \mathrm{KL}(q(z|x) \,\|\, p(z)),
#
# which is not Eq. (11). A learning rate multiplies both terms. To show the effect of β we plot the two
# terms against each other. The *rate* R is the KL: the number of nats that the code z costs. The
# *distortion* is minus the reconstruction term: the number of nats that are needed to describe x when
# the code is known. ELBO = −(R + distortion), so models with equal ELBO lie on a line of slope −1
# (Alemi et al. 2018).

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

import numpyvae
from numpyvae import Adam, cosine_schedule, datasets, plotting
from numpyvae.diagnostics import active_units, rate_distortion
from numpyvae.estimators import SGVBB

threadpool_limits(1, "blas")  # the matrices are small: a second thread makes the products slower
digits = datasets.load_digits()
grays, test_grays = digits.grays("train"), digits.grays("test")
test = datasets.binarize(test_grays, np.random.default_rng(0))


def train(likelihood="bernoulli", epochs=20, learning_rate=5e-3, **settings):
    vae = numpyvae.VAE(64, 8, hidden=(100,), likelihood=likelihood)
    numpyvae.fit(
        vae,
        grays,
        epochs=epochs,
        transform=datasets.binarize if likelihood == "bernoulli" else None,
        optimizer=Adam(learning_rate),
        schedule=cosine_schedule(epochs),
        estimator=SGVBB(**settings),
    )
    return vae


betas = (0.1, 0.25, 0.5, 1, 2, 64)
models = {beta: train(beta=beta) for beta in betas}
points = {beta: rate_distortion(vae, test) for beta, vae in models.items()}

plotting.plot_rate_distortion(list(points.values()), [f"β = {beta}" for beta in betas])
for beta, point in points.items():
    print(f"β = {beta:5}: R {point.rate[0]:6.3f}, ELBO {point.elbo[0]:.2f} nats")
assert max(points, key=lambda beta: points[beta].elbo[0]) == 1
rate, distortion = np.array([(p.rate[0], p.distortion[0]) for p in points.values()]).T
assert (np.diff(rate) < 0).all() and (np.diff(distortion) > 0).all() and rate[-1] < 0.01

# %%
# As β increases, the models move along the curve, from a high rate with sharp reconstructions to a rate
# of zero. Training minimizes distortion + β R, so the curve has slope −β at the model that was trained
# with β. The line of slope −1 with the highest ELBO touches the curve at β = 1. The mean over the 64
# pixels (β = 64) is at the end of the curve: the KL is zero, and all digits have the same
# reconstruction. We now check that no learning rate changes this.

steps = (1e-3, 1e-2, 1e-1)
by_mean = [train(beta=64, learning_rate=step) for step in steps]
for step, vae in zip(steps, by_mean):
    print(
        f"mean over pixels, learning rate {step}: KL {rate_distortion(vae, test).rate[0]:.4f} nats"
    )
    assert rate_distortion(vae, test).rate[0] < 0.05 and active_units(vae, test).sum() == 0

fig, axes = plt.subplots(3, 1, figsize=(7, 3), layout="constrained")
for ax, images, title in (
    (axes[0], test[:12], "digits"),
    (axes[1], models[1].reconstruct(test[:12]), "sum over pixels: mean of p(x|z) at z = μ(x)"),
    (axes[2], models[64].reconstruct(test[:12]), "mean over pixels: mean of p(x|z) at z = μ(x)"),
):
    plotting.image_grid(images, digits.image_shape, ax=ax, columns=12)
    ax.set_title(title, fontsize=9)

# %%
# "Squared error has no σ"
# ------------------------
# A Gaussian likelihood with one σ for all pixels is
#
# .. math:: \log p(x|z) = -\frac{1}{2\sigma^2} \|x - \hat x(z)\|^2
#    - \frac{D}{2} \log 2 \pi \sigma^2.
#
# The loss ‖x − x̂‖² + KL does not mention σ, but it implies σ² = ½. Here x is the gray value of a pixel,
# between 0 and 1. We train models with several values of σ. The dashed lines in the figure are at
# σ² = ½.

sigmas = (0.1, 0.15, 0.2, 0.3, 0.5, 0.5**0.5)
gaussian = {sigma: train(f"gaussian:{sigma}", epochs=15) for sigma in sigmas}
found = {}
for sigma, vae in gaussian.items():
    point = rate_distortion(vae, test_grays)
    residual = np.sqrt(np.square(vae.reconstruct(test_grays) - test_grays).mean())
    found[sigma] = point.elbo[0], point.rate[0], residual
    print(
        f"σ = {sigma:.2f}: ELBO {found[sigma][0]:6.2f}, KL {point.rate[0]:5.2f}, rms {residual:.3f}"
    )

fig, axes = plt.subplots(1, 3, figsize=(7, 2.8), layout="constrained")
for ax, values, label in zip(
    axes, zip(*found.values()), ("ELBO (nats)", "KL (nats)", "rms of x − x̂")
):
    ax.plot(sigmas, values, "o-")
    ax.axvline(0.5**0.5, color="C3", linestyle="--")
    ax.set(xlabel="σ", title=label)
axes[2].plot((0, 0.3), (0, 0.3), color="0.6", linewidth=1)
axes[2].annotate("σ = rms", (0.32, 0.29), fontsize=8, color="0.4")
axes[0].text(0.69, -10, "σ² = ½", color="C3", rotation=90, ha="right", fontsize=8)

elbos = {sigma: row[0] for sigma, row in found.items()}
best = max(elbos, key=elbos.get)
assert best in (0.15, 0.2) and elbos[best] > elbos[0.5**0.5] + 40
assert found[0.5**0.5][1] < 1 < 5 < found[best][1]

# %%
# The value of σ has a large effect on the model: on the KL, on the sharpness of the reconstructions,
# and on the number of active latents (tutorial 11). With σ² = ½ the model assumes noise with standard
# deviation 0.71 for pixels between 0 and 1, and the KL is only a fraction of a nat. The best σ is close
# to the root-mean-square residual of the model and can be computed from it (exercise 2).
#
# "The ELBO cannot be positive"
# -----------------------------
# The previous section contains models with a positive ELBO. For continuous data log p(x) is the
# logarithm of a *density*. A density has a unit: one over the unit of x, to the power D. Densities
# larger than 1 are common. If we express the pixels in units of one sixteenth, x′ = 16 x, every density
# is divided by :math:`16^{64}`.

vae = gaussian[best]
coarse = numpyvae.VAE(64, 8, hidden=(100,), likelihood=f"gaussian:{16 * best}")
coarse.parameters.flat[:] = vae.parameters.flat
coarse.parameters["encoder.W0"][:] /= 16  # the input is 16 x
for name in ("decoder.W1", "decoder.b1"):  # the output is 16 x̂
    coarse.parameters[name][:] *= 16

eps = np.random.default_rng(1).standard_normal((20, len(test), 8), vae.dtype)
in_fractions = numpyvae.elbo(vae, test_grays, eps)
in_sixteenths = numpyvae.elbo(coarse, 16 * test_grays, eps)
print(
    f"the same model: ELBO {in_fractions.mean():.2f} nats for x, "
    f"{in_sixteenths.mean():.2f} nats for 16 x; 64 log 16 = {64 * np.log(16):.2f}"
)
assert in_fractions.mean() > 0 > in_sixteenths.mean()
assert np.allclose(in_fractions - in_sixteenths, 64 * np.log(16), atol=1e-2)

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
bins = np.linspace(-220, 60, 100)
ax.hist(in_fractions, bins, label="x between 0 and 1", color="C0", alpha=0.8)
ax.hist(in_sixteenths, bins, label="16 x, between 0 and 16", color="C1", alpha=0.8, hatch="//")
ax.axvline(0, color="k", linewidth=1)
ax.set(xlabel="ELBO (nats per digit)", ylabel="number of test digits")
ax.set_title("the ELBO of one model in two units of x")
ax.legend()

# %%
# The two models are the same, and so are their codes and reconstructions, but their ELBOs differ by
# 64 log 16 nats for every digit. So the ELBO of continuous data has no meaning without the unit of x,
# and only differences of ELBOs in the same unit can be interpreted. For *discrete* data the statement is
# correct: a probability is at most 1, so log p(x) ≤ 0, and the ELBO is not positive either. If a
# Bernoulli ELBO is positive, there is a bug.
#
# "Reconstruct from μ, subtract the KL, and you have the ELBO"
# ------------------------------------------------------------
# Eq. (11) averages log p(x|z) over z ~ q. The value of log p(x|z) at the mean μ of q is larger than this
# average, since log p(x|z) decreases in all directions from μ. The difference is about ½ Σ_j σ_j² times
# the curvature. The result is not a bound. We compare it with the importance-weighted estimate of
# log p(x), which in expectation lies between the ELBO and log p(x).

at_mean, elbo_of, log_p = [], [], []
kept = (0.25, 0.5, 1, 2)
for beta in kept:
    vae = models[beta]
    mu, _ = vae.encode(test)
    log_px, _ = vae.log_likelihood(test, mu[None])
    at_mean.append(log_px.mean() - points[beta].rate[0])
    elbo_of.append(points[beta].elbo[0])
    log_p.append(numpyvae.importance_log_likelihood(vae, test, 300).mean())
    print(
        f"β = {beta:4}: ELBO {elbo_of[-1]:.2f} ≤ log p(x) ≈ {log_p[-1]:.2f}, "
        f"'ELBO' from μ {at_mean[-1]:.2f} nats"
    )

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
place = np.arange(len(kept))
ax.plot(place, at_mean, "C3^--", label="log p(x | z = μ) − KL")
ax.plot(place, log_p, "ks-", label="log p(x), by $L_{300}$")
ax.plot(place, elbo_of, "C0o-", label="ELBO")
ax.set(xticks=place, xticklabels=[f"β = {beta}" for beta in kept], ylabel="nats per digit")
ax.set_title("log p(x | z = μ) − KL is not a lower bound")
ax.legend()
assert (np.array(elbo_of) < log_p).all() and (np.array(at_mean) > np.array(elbo_of) + 0.5).all()
assert (np.array(at_mean) > log_p)[1:].all() and at_mean[2] > log_p[2] + 2

# %%
# At β = 1 the incorrect value lies about two and a half nats above log p(x). This is twice the
# difference between β = 1 and β = 2. The incorrect value favors a wide q: a large variance reduces the
# KL and does not reduce the reconstruction term at μ. (At β = 0.25 the ELBO is so loose that the
# incorrect value is also below log p(x). That a value is below log p(x) for one model does
# not make it a bound.)
#
# Exercises
# ---------

# %%
# 1. If *both* terms are divided by D, only the effective learning rate changes. Does this change the
#    steps of Adam?

# %%
# No. Adam divides the mean of the gradients by the root of the mean of their squares: a constant
# factor cancels, except for the small constant in the denominator. So dividing *both* terms by D
# changes nothing; dividing only one of them changes the objective.

gradient = np.random.default_rng(0).standard_normal(10)
adam = Adam(1e-3)
whole, share = (adam.step(g, adam.init(g)) for g in (gradient.copy(), gradient / 64))
assert np.allclose(whole, share, rtol=1e-5)  # no: Adam's steps do not depend on this factor

# %%
# 2. The best single σ for given reconstructions has a closed form. Derive it: set the derivative of the
#    expected log-likelihood with respect to σ² to zero. Compare the result with the best of the values
#    of σ above.

# %%
# For one pixel, the expected log-likelihood is −½ log 2πσ² − E[(x − x̂)²]/(2σ²). Its derivative in
# σ² is −1/(2σ²) + E[(x − x̂)²]/(2σ⁴), which vanishes at σ² = E[(x − x̂)²]: the mean squared error
# over pixels, datapoints and draws of z. It is close to the best of the values that were tried.

vae = gaussian[best]
mu, logvar = vae.encode(test_grays)
z = mu + np.exp(0.5 * logvar) * eps
closed = np.sqrt(
    np.square(vae.decode(z.reshape(-1, 8)).reshape(*z.shape[:2], 64) - test_grays).mean()
)
print(f"closed form: σ = {closed:.3f}; best of the values tried: {best}")
assert abs(closed - best) < 0.05

# %%
# 3. Is the negative cross-entropy a log density if the pixels x are gray values between 0 and 1? For one
#    pixel, integrate its exponential, exp(x log p + (1 − x) log(1 − p)), over x from 0 to 1.

# %%
# No: the integral over [0, 1] is 0.36 for p = 0.9 and not 1. A function whose integral is below 1
# could be normalized, but its constant depends on p and so on z, and it would enter the gradient
# (this is the continuous Bernoulli). Without it the objective is no bound on the log density of the
# grays.

p = 0.9
grid = np.linspace(0, 1, 100_001)
density = np.exp(grid * np.log(p) + (1 - grid) * np.log(1 - p))
assert abs(density.mean() - 0.364) < 1e-3  # not 1: not a density, so the objective is not an ELBO

plt.show()
