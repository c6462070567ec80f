"""
Uncertain weights
=================

So far the decoder has had one value of θ. Appendix F of Kingma & Welling treats θ as the latent z is
treated: it has a prior, and an approximate posterior q(θ). We derive the bound, compare q(θ) with the
exact posterior of the weights of a small model, and measure how the spread of the weights depends on
the number of datapoints N.

:Aim: to learn a Gaussian q over the weights of the decoder, and to say what its width means.
:You need: sections 3.4 and 3.5 of the notes, Eq. (10) and Eq. (11); tutorial 5; Kingma & Welling 2013,
    appendix F.
:Time: about thirty seconds.
"""

# %%
# The bound
# ---------
# The data X = {x_1, …, x_N} have one θ, and each x_n has its own z_n. By Eq. (10), each log p_θ(x_n) is
# at least ELBO_n(φ, θ). The argument that leads to Eq. (10) works for θ too, with the prior p(θ) and
# with q(θ):
#
# .. math::
#    \log p(X) \ge {} & \mathbb{E}_{q(\theta)}\big[\log p_\theta(X)\big] \\
#    & - D_\mathrm{KL}(q(\theta) \,\|\, p(\theta)) \\
#    \ge {} & \mathbb{E}_{q(\theta)}\Big[\sum_{n=1}^N \mathrm{ELBO}_n(\phi, \theta)\Big] \\
#    & - D_\mathrm{KL}(q(\theta) \,\|\, p(\theta)).
#
# Let p(θ) = N(0, v I) and q(θ) = N(μ, diag σ²), with a μ_i and a σ_i for each weight. Their KL is that of
# appendix B with θ/√v in place of z:
#
# .. math::
#    & D_\mathrm{KL}(q(\theta) \,\|\, p(\theta)) \\
#    & \quad {} = \tfrac12 \sum_i \Big(\frac{\mu_i^2 + \sigma_i^2}{v} - 1 - \log \frac{\sigma_i^2}{v}\Big).
#
# The expectation is reparameterized twice, z = μ(x) + σ(x) ε and θ = μ + σ ζ. A minibatch of B rows gives
# an unbiased estimate of the bound in nats per datapoint:
#
# .. math::
#    & \frac1B \sum_{b=1}^B \mathrm{ELBO}_b(\phi, \mu + \sigma\zeta) \\
#    & \quad {} - \frac1N D_\mathrm{KL}(q(\theta) \,\|\, p(\theta)).
#
# The KL is divided by N and not by B: there is one θ for the whole data set.
#
# A posterior of weights that is known
# ------------------------------------
# The smallest linear-Gaussian model is x = w z + b + noise with z ~ N(0, 1) and noise of standard
# deviation s. It has two weights, w and b, and log p(x|w, b) = log N(x; b, w² + s²). So the posterior
# p(w, b|X) and log p(X) can be computed on a grid.

import matplotlib.pyplot as plt
import numpy as np

import numpyvae
from numpyvae import Adam, cosine_schedule, datasets
from numpyvae.inference import full_bound, full_variational_bayes, noise_nodes

s, v = 0.5, 1.0
# A grid with one column for each b, and one row for each w
w, b = np.linspace(-3, 3, 601)[:, None], np.linspace(-3, 3, 601)[None]
cell = 0.01**2


def exact_posterior(x):
    """Return log p(X), and the density of p(w, b|X) on the grid."""
    variance = w**2 + s**2
    square = (x**2).sum() - 2 * b * x.sum() + len(x) * b**2  # Σ (x_n − b)²
    log_joint = -0.5 * (len(x) * np.log(2 * np.pi * variance) + square / variance)
    log_joint = log_joint - 0.5 * (w**2 + b**2) / v - np.log(2 * np.pi * v)
    top = log_joint.max()
    total = np.exp(log_joint - top).sum() * cell
    return top + np.log(total), np.exp(log_joint - top) / total


def learned(x, steps=1500, **settings):
    """Return the VAE and the q(w, b) of full variational Bayes; w starts above 0."""
    N = len(x)
    vae = numpyvae.VAE(1, 1, (), likelihood=f"gaussian:{s}", dtype="float64")
    vae.parameters.phi[:] = 1, 0, 0, 0
    vae.parameters.theta[:] = 0.5, 0
    q, _ = full_variational_bayes(
        vae,
        x,
        epochs=steps,
        batch_size=N,
        n_samples=4,
        prior_variance=v,
        start_sigma=0.1,
        optimizer=Adam(0.02),
        schedule=cosine_schedule(steps),
        **settings,
    )
    return vae, q


everything = 0.5 + np.random.default_rng(0).normal(0, np.hypot(1, s), (320, 1))
x_few = everything[:20]
vae_b, q = learned(x_few)
log_p, density = exact_posterior(x_few)

# %%
# q against the posterior
# -----------------------
# The signs of w and z can be changed together without a change of x, so the posterior has two modes, at
# w and −w. The Gaussian q covers one of them, as in tutorial 14.

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
left.contour(w.ravel(), b.ravel(), density.T, levels=6, colors="0.5")
sigma_w, sigma_b = np.exp(0.5 * q.logvar)
turn = np.linspace(0, 2 * np.pi, 100)
for k in (1, 2):
    label = "q: 1 and 2 standard deviations" if k == 1 else None
    ring = q.mu[:, None] + k * np.array([sigma_w * np.cos(turn), sigma_b * np.sin(turn)])
    left.plot(*ring, "C0", label=label)
left.plot([], [], color="0.5", label="exact posterior")
left.set(xlim=(-1.8, 1.8), ylim=(-0.4, 1.3), xlabel="w", ylabel="b", title="N = 20")
left.legend(loc="upper center", fontsize=8)
over_b = density.sum(axis=0) * 0.01
right.plot(b.ravel(), over_b, color="0.5", linewidth=4, label="exact posterior")
height = np.exp(-0.5 * ((b - q.mu[1]) / sigma_b) ** 2).ravel() / sigma_b / np.sqrt(2 * np.pi)
right.plot(b.ravel(), height, "C0", label="q")
right.set(xlim=(-0.6, 1.6), xlabel="b", ylabel="density", title="the weight b")
right.legend(loc="upper right", fontsize=8)

mean_b = (over_b * b).sum() * 0.01
exact_b = np.sqrt((over_b * (b - mean_b) ** 2).sum() * 0.01)
print(f"b: exact {mean_b:.3f} ± {exact_b:.3f}, q {q.mu[1]:.3f} ± {sigma_b:.3f}")
assert abs(q.mu[1] - mean_b) < 0.3 * exact_b
assert 0.35 < sigma_b / exact_b < 0.75

# %%
# The mean of q is right, and its width is about half of the exact one. The cause is the family: in q, θ
# and z are independent. For given z, the posterior of b has the precision N/s² + 1/v. This is the
# precision that q finds, since the ELBO sees b only through the z of q. The exact posterior does not
# know z, and has about the variance (w² + s²)/N. We compare with the first formula:

as_if_known = (len(x_few) / s**2 + 1 / v) ** -0.5
print(f"b: σ of q {sigma_b:.3f}, and with known z {as_if_known:.3f}")
assert abs(sigma_b / as_if_known - 1) < 0.15

# %%
# Is the bound below log p(X)? For this model the bound is quadratic in θ and in z, so that two nodes for
# each weight and for each z give its exact value.

noise_z, noise_theta = noise_nodes(1, 2)[0], noise_nodes(2, 2)[0]


def total_bound(vae, q, x):
    """Return the bound on log p(X), for all N datapoints together."""
    eps = np.repeat(noise_z[:, None], len(x), axis=1)  # (2, N, 1)
    return len(x) * full_bound(vae, q, x, eps, noise_theta, len(x), v)[0].value


gap = log_p - total_bound(vae_b, q, x_few)
print(f"log p(X) = {log_p:.2f} nats for {len(x_few)} points, gap of the bound {gap:.2f} nats")
assert gap > np.log(2)

# %%
# The gap is larger than log 2 ≈ 0.69 nats, which the second mode costs (exercise 2).
#
# What N does to the spread
# -------------------------
# With more data the weights are known better: both widths fall like 1/√N, and the factor of about two
# between them remains.

sizes, widths = (20, 80, 320), {"exact posterior": [], "q": []}
for N in sizes:
    _, over = exact_posterior(everything[:N])
    over = over.sum(axis=0) * 0.01
    mean = (over * b).sum() * 0.01
    widths["exact posterior"].append(np.sqrt((over * (b - mean) ** 2).sum() * 0.01))
    widths["q"].append(np.exp(0.5 * learned(everything[:N])[1].logvar[1]))

fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for (name, values), style in zip(widths.items(), ("ko-", "C0s--")):
    ax.loglog(sizes, values, style, label=name)
    slope = np.log(values[-1] / values[0]) / np.log(sizes[-1] / sizes[0])
    print(f"standard deviation of b, {name}: {np.round(values, 3)}, ∝ N^{slope:.2f}")
    assert abs(slope + 0.5) < 0.1
ax.set(xlabel="number of datapoints N", ylabel="standard deviation of b", xticks=sizes)
ax.set(xticklabels=sizes, yticks=[0.03, 0.05, 0.1, 0.2], yticklabels=[0.03, 0.05, 0.1, 0.2])
ax.minorticks_off()
ax.set_title("the spread of a weight")
ax.legend()

# %%
# The weights of a decoder of digits
# ----------------------------------
# Now a decoder with 3414 weights and 100 digits. We train it for a long time, once with a single θ and
# once with q(θ), and compute log p(x) of new digits on the way, by an integral over the plane of the two
# latents. For q(θ) the decoder is that at its mean.

digits, rng = datasets.load_digits(), np.random.default_rng(0)
# The digits are sorted by class, so we shuffle them
x_train = datasets.binarize(rng.permutation(digits.grays("train")), rng)
x_test = datasets.binarize(rng.permutation(digits.grays("test"))[:500], rng)
axis = np.linspace(-5, 5, 81, dtype="float32")
points = rng.standard_normal((50, 2))
grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
log_cell = -0.5 * (grid**2).sum(axis=1) - np.log(2 * np.pi) + 2 * np.log(axis[1] - axis[0])


def log_evidence(vae, x):
    """Return log p(x) by the trapezoidal rule; log p(x|z) is linear in x."""
    p = np.clip(vae.decode(grid), 1e-7, 1 - 1e-7)
    log_joint = x @ np.log(p / (1 - p)).T + np.log1p(-p).sum(axis=1) + log_cell
    top = log_joint.max(axis=1, keepdims=True)
    return top[:, 0] + np.log(np.exp(log_joint - top).sum(axis=1))


def train(N, epochs, uncertain):
    """Return the model, q(θ) and its history (or None), and log p(x) at the marks."""
    vae, at = numpyvae.VAE(64, 2, (50,)), []

    def record(vae, history):
        if N == 100 and len(history) in marks:
            at.append(log_evidence(vae, x_test).mean())

    settings = {"epochs": epochs, "optimizer": Adam(0.02), "callbacks": [record]}
    settings["schedule"] = cosine_schedule(epochs)
    if not uncertain:
        numpyvae.fit(vae, x_train[:N], **settings)
        return vae, None, None, at
    prior = {"start_sigma": 0.1, "prior_variance": 0.1}
    q, history = full_variational_bayes(vae, x_train[:N], **prior, **settings)
    return vae, q, history, at


marks = (100, 200, 400, 800, 1600)
*_, single = train(100, 1600, uncertain=False)
trained = {100: train(100, 1600, uncertain=True)}
at_mean = trained[100][-1]

fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.semilogx(marks, single, "C1s--", label="one θ")
ax.semilogx(marks, at_mean, "C0o-", label="the mean of q(θ)")
ax.set(xlabel="passes over 100 digits", ylabel="log p(x) (nats per new digit)", xticks=marks)
ax.set_xticklabels(marks)
ax.minorticks_off()
ax.set_title("long training with few digits")
ax.legend()
print("one θ:          ", np.round(single, 1), "nats per new digit")
print("the mean of q(θ):", np.round(at_mean, 1), "nats per new digit")
assert single[-1] < max(single) - 2
assert at_mean[-1] > max(at_mean) - 1
assert single[-1] + 0.8 < at_mean[-1] < max(single) - 0.5

# %%
# A single θ overfits: after its best pass it becomes worse on new digits by several nats, and one must
# know when to stop. The bound with q(θ) has no such maximum. But its best value is not higher than that
# of a single θ that is stopped in time. The last figure of this tutorial shows the reason.
#
# With more digits the weights are known better. We draw 20 decoders from q(θ), decode 50 points z with
# each, and compute how much the probability of a pixel varies between the decoders.

spread, kl = [], []
for N, epochs in ((100, None), (400, 400), (1600, 100)):
    trained.setdefault(N, epochs and train(N, epochs, uncertain=True))
    vae, q_digits, history, _ = trained[N]
    images = np.array([decoder.decode(points) for decoder in q_digits.draw(vae, 20)])
    spread.append(images.std(axis=0).mean())
    kl.append(history["kl_theta"][-1])
    print(f"N = {N}: spread of a pixel {spread[-1]:.3f}, KL(q(θ) ‖ p(θ))/N = {kl[-1]:.2f} nats")
assert spread[0] > 1.3 * spread[1] > 1.3 * 1.2 * spread[2]
assert kl[0] > kl[1] > kl[2]

# %%
# The spread falls as N grows, and so does the part of the bound that the weights cost, since one θ
# serves more datapoints.
#
# Each row of the last figure is one decoder from q(θ), each column one of five points z.

from numpyvae import plotting

fig, axes = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained")
for ax, N in zip(axes, (100, 1600)):
    vae, q_digits, history, _ = trained[N]
    shown = [decoder.decode(points[:5]) for decoder in q_digits.draw(vae, 3)]
    plotting.image_grid(np.concatenate(shown), digits.image_shape, ax=ax, columns=5)
    ax.set_title(f"N = {N}: KL of z {history['kl'][-1]:.2f} nats", fontsize=11)
fig.suptitle("three decoders from q(θ) (rows) at five points z")
kl_z = {N: trained[N][2]["kl"][-1] for N in trained}
print("KL of z:", {N: f"{value:.2f} nats" for N, value in kl_z.items()})
assert kl_z[100] < 0.7 * kl_z[1600]

# %%
# With 100 digits the columns differ less, and q(z|x) contains less information about x: most weights
# that carry z would cost more KL than they bring for 100 digits, and stay close to their prior. With
# 1600 digits each weight serves more datapoints, and the columns are different digits.
#
# Exercises
# ---------
# 1. A common bug divides the KL of θ by the size B of the minibatch. Which posterior does q(θ) then
#    approximate, and how wide is it?

# %%
# The bug multiplies the KL by N/B. The bound divided by this factor has the log-likelihood of B/N of
# the data: q(θ) approximates the posterior of a data set with B points instead of N, so its variances
# are about N/B times too large. We check it for N = 80 and B = 20: the function divides the KL by its
# argument ``n_data``, and the gradient for log σ² of b vanishes at σ² = 1/(``n_data``/s² + 1/v).

x_80, eps = everything[:80], np.repeat(noise_z[:, None], 80, axis=1)
for n_data in (80, 20):
    guess = q._replace(logvar=np.array([q.logvar[0], -np.log(n_data / s**2 + 1 / v)]))
    _, pull = full_bound(vae_b, guess, x_80, eps, noise_theta, n_data, v)
    assert abs(pull("theta").logvar[1]) < 1e-12

# %%
# 2. Why is the gap of the bound at least log 2, for every q that covers one of two equal modes?

# %%
# The gap is at least KL(q(θ) ‖ p(θ|X)), Eq. (9) for θ. Near one mode, the posterior is half of the
# density p₊ that is normalized for this mode alone: p(θ|X) = ½ p₊(θ) where q has its mass. So
# KL(q ‖ p(θ|X)) = KL(q ‖ p₊) + log 2 ≥ log 2. The sign of w costs log 2 in total, and not for each
# datapoint: in nats per datapoint it vanishes as N grows.

assert abs(density[w.ravel() > 0].sum() * cell - 0.5) < 1e-3

# %%
# 3. Maximum a posteriori (MAP) maximizes the mean ELBO + log p(θ)/N over one θ
#    (:class:`numpyvae.estimators.WithWeightPrior`). Is it the mean of q(θ) in the example with N = 20, and
#    what does it not give?

# %%
# It is close to it: for a fixed q(z|x) the bound is quadratic in θ, and the mean of a Gaussian is its
# maximum. But the best q(z|x) differs. With uncertain weights w² has the mean μ_w² + σ_w² in the ELBO,
# so that q(z|x) is narrower. MAP gives no σ: it does not say how well N points determine the weights.

from numpyvae.estimators import SGVBB, WithWeightPrior

point = numpyvae.VAE(1, 1, (), likelihood=f"gaussian:{s}", dtype="float64")
point.parameters.phi[:] = 1, 0, 0, 0
point.parameters.theta[:] = 0.5, 0
numpyvae.fit(
    point,
    x_few,
    epochs=1500,
    batch_size=20,
    estimator=WithWeightPrior(SGVBB(n_samples=4), 20, v),
    optimizer=Adam(0.02),
    schedule=cosine_schedule(1500),
)
print(f"MAP w, b: {point.parameters.theta.round(3)}, mean of q {q.mu.round(3)}")
assert np.abs(point.parameters.theta - q.mu).max() < 0.1

plt.show()
