"""
Why more importance samples can hurt the encoder (advanced)
===========================================================

As K grows, L_K becomes tighter, and the signal-to-noise ratio of its gradient for the decoder
increases. For the encoder the ratio decreases: the mean gradient vanishes faster than its noise. The
doubly reparameterized gradient (DReG) solves this problem if the importance weights have light tails.
We show for which models they do and for which they do not, and why the estimator with the highest
signal-to-noise ratio is biased.

:Aim: to choose an estimator of the gradient of L_K, and to know under which condition its
    signal-to-noise ratio grows with K.
:You need: Eq. (7); tutorials 8 and 9.
:Time: about thirty seconds.
"""

# %%
# Three estimators of one gradient
# --------------------------------
# With the weights w_k = p(x, z_k)/q(z_k|x) and the normalized weights w̃_k = w_k/Σ w, there are three
# estimators of the gradient of L_K for φ (:mod:`numpyvae.estimators`):
#
# .. math::
#    \mathrm{IWAE:}\quad & \sum_k \tilde w_k \Big(\frac{\partial \log w_k}{\partial z_k}
#    \frac{\partial z_k}{\partial \phi} - \frac{\partial \log q}{\partial \phi}\Big) \\
#    \mathrm{STL:}\quad & \sum_k \tilde w_k \frac{\partial \log w_k}{\partial z_k}
#    \frac{\partial z_k}{\partial \phi} \\
#    \mathrm{DReG:}\quad & \sum_k \tilde w_k^2 \frac{\partial \log w_k}{\partial z_k}
#    \frac{\partial z_k}{\partial \phi}
#
# For θ all three are the same.
#
# Which of them are unbiased?
# ---------------------------
# We use a model with one latent and binary data, and K = 2. Each estimate then depends on only two
# noise values, so we can compute its mean as an integral by Gauss-Hermite quadrature instead of
# averaging over draws. The reference is the derivative of L_2, where L_2 is computed by the same
# quadrature rule and differentiated by the complex-step method.

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

import numpyvae
from numpyvae import Adam, cosine_schedule, datasets
from numpyvae.clinic.gradcheck import complex_step, relative_error
from numpyvae.core.distributions import gaussian_logpdf, reparameterize
from numpyvae.core.elbo import log_joint
from numpyvae.estimators import IWAE, STLIWAE, DReG, make_estimator

threadpool_limits(1, "blas")  # the matrices are small: a second thread makes the products slower
RULES = {"IWAE": IWAE, "STL": STLIWAE, "DReG": DReG}
STYLES = {"IWAE": "C1s--", "STL": "C2^:", "DReG": "C0o-"}

small = numpyvae.VAE(3, 1, (3,), dtype="float64")
small.parameters.flat[:] = np.random.default_rng([1, 11]).normal(
    0, 0.5, small.parameters.flat.size
)
x_small = np.array([[1.0, 0, 1], [0, 1, 1]])
nodes, weights = np.polynomial.hermite_e.hermegauss(24)
weights /= weights.sum()
pairs = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)  # (24², K)
pair_weights = np.outer(weights, weights).ravel()


def bound(vae):
    """Return L_2, averaged over the rows of x, as an integral over both noise values."""
    noise = pairs.reshape(-1, 1, 1)  # (24²·K, 1, 1): the same nodes for each row of x
    (mu, logvar), _ = vae.encoder(x_small)
    z, _ = reparameterize(mu, logvar, noise)
    log_q, _ = gaussian_logpdf(z, mu, logvar)
    log_w = (log_joint(vae, x_small, z) - log_q).reshape(-1, 2, len(x_small))
    return (pair_weights @ np.log(np.exp(log_w).mean(axis=1))).mean()


def mean_gradient(estimator):
    """Return E[estimate of ∂L_2/∂φ] as an integral."""
    gradients = [
        estimator(small, x_small, np.repeat(pair, 2).reshape(2, 2, 1)).gradient.phi
        for pair in pairs
    ]
    return pair_weights @ np.array(gradients)


n_phi = small.parameters.phi.size
truth = complex_step(lambda flat: bound(small.with_flat(flat)), small.parameters.flat)[:n_phi]
error = {name: relative_error(mean_gradient(rule(2)), truth) for name, rule in RULES.items()}
for name, value in error.items():
    print(f"{name:5s} relative error of the mean gradient {value:.1e}")
assert max(error["IWAE"], error["DReG"]) < 1e-7 and error["STL"] > 0.05

# %%
# IWAE and DReG are unbiased, up to the accuracy of the quadrature. STL, which omits the score term, is
# biased: for K > 1 the normalized weights depend on the draws, so the weighted mean of the score is no
# longer zero. Remember this bias when you read the next figure.
#
# Signal and noise
# ----------------
# How many estimates must be averaged before the direction of the gradient is visible? The higher the
# signal-to-noise ratio, the fewer are needed. This ratio is the length of the mean gradient divided by
# the standard deviation of a single estimate. We measure it with 20 test digits on a model with eight
# latents that was trained by the ELBO.

digits = datasets.load_digits()
grays = digits.grays("train")
vae = numpyvae.VAE(data_dim=64, latent_dim=8, hidden=(100,))
numpyvae.fit(
    vae,
    grays,
    epochs=20,
    transform=datasets.binarize,
    optimizer=Adam(3e-3),
    schedule=cosine_schedule(20),
)
x = datasets.binarize(digits.grays("test"), np.random.default_rng(0))[:20]
counts = (1, 4, 16, 64, 256)


def signal_to_noise(vae, estimator, update="phi", n=150):
    """Return |E g|/σ_g from n estimates g, and E g; |E g|² is corrected for its own noise.

    The ratio is NaN if the corrected |E g|² is not positive: n estimates are too few to measure it.
    """
    rng = np.random.default_rng(0)
    shape = estimator.n_importance, len(x), vae.latent_dim
    total, square = 0.0, 0.0
    for _ in range(n):
        estimate = estimator(vae, x, rng.standard_normal(shape, vae.dtype), update)
        g = estimate.gradient.part(update).astype(float)
        total, square = total + g, square + g @ g
    mean = total / n
    variance = (square / n - mean @ mean) * n / (n - 1)
    signal = mean @ mean - variance / n
    return np.sqrt(signal / variance) if signal > 0 else np.nan, mean


trained = {
    name: [signal_to_noise(vae, rule(K))[0] for K in counts] for name, rule in RULES.items()
}
for_theta = [signal_to_noise(vae, IWAE(K), "theta")[0] for K in counts]

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained", sharey=True)
for name, values in trained.items():
    left.loglog(counts, values, STYLES[name], label=name)
left.set(xlabel="importance samples K", ylabel="signal-to-noise ratio", title="φ, the encoder")
left.legend()
right.loglog(counts, for_theta, "ko-", label="any of the three")
right.loglog(counts, for_theta[0] * np.sqrt(counts), color="0.6", label=r"$\propto \sqrt{K}$")
right.set(xlabel="importance samples K", title="θ, the decoder")
right.legend()
for ax in (left, right):
    ax.set(xticks=counts, xticklabels=counts)
    ax.minorticks_off()
for name, values in trained.items():
    print(f"{name:5s} φ:", np.round(values, 3))
assert for_theta[-1] > 8 * for_theta[0]  # √256 = 16
assert trained["IWAE"][-1] < 0.6 * trained["IWAE"][0]
assert trained["STL"][-1] > 3 * trained["STL"][0]
assert 0.3 < trained["DReG"][-1] / trained["DReG"][0] < 3
assert min(np.divide(trained["DReG"], trained["IWAE"])) > 3

# %%
# The signal-to-noise ratio behaves as follows:
#
# - for θ it is nearly ∝ √K, as the theory predicts: from K = 1 to K = 256 it grows by a factor of ten,
#   and √K by 16. More samples improve the gradient of the decoder.
# - for φ by IWAE it decreases with K (Rainforth et al. 2018). As L_K approaches log p(x), it depends
#   less and less on q. The gradient vanishes like 1/K, but its noise only like 1/√K (for weights with
#   finite moments).
# - for φ by STL it grows with K, more slowly than √K. But STL is biased: it estimates another
#   quantity precisely. As K → ∞ its mean is −∂KL(p(z|x) ‖ q)/∂φ (exercise 3). This is the KL of
#   Eq. (8) with its arguments exchanged, and its gradient does not vanish, while ∇L_K does.
# - for φ by DReG it is several times higher than for IWAE at every K, and DReG is unbiased. But it
#   does not grow like √K, as Tucker et al. (2018) derive: on this model it stays between 0.4 and 0.7.
#
# Why? The derivation assumes that certain moments of the weights are finite.
#
# Tails of the weights
# --------------------
# Let the posterior be N(0, 1) and q = N(m, s²). Then log w grows as ½ (1 − s²) ε², so the probability
# that a weight exceeds t is ∝ :math:`t^{-a}`, a power law with exponent
#
# .. math:: a = \frac{1}{1 - s^2} \quad (s < 1),
#
# and the weights are bounded for s > 1.
# The wider the posterior is relative to q, the heavier is the tail. The terms of DReG contain w², so
# its variance contains w⁴, whose mean is finite only for a > 4, that is s² > ¾. For smaller a the
# largest normalized weight dominates the sum. If we truncate the moments at w ≈ K, above which w̃ ≈ 1,
# we find for the signal-to-noise ratio (SNR) that SNR ∝ :math:`K^\gamma` with
#
# .. math::
#    \gamma = {} & \tfrac12 \quad (a > 4), \\
#    & \tfrac12 (a - 3) \quad (2 < a < 4), \\
#    & \tfrac12 (1 - a) \quad (1 < a < 2).
#
# So the SNR does not grow for a = 3 (s² = ⅔), and it decreases for a < 3. We now measure the SNR of the
# estimators for this posterior.


def estimates(name, s2, K, n, rng, m=0.3):
    """Return n estimates of ∂L_K/∂μ for q = N(m, s²) and the posterior N(0, 1)."""
    s = np.sqrt(s2)
    e = rng.standard_normal((n, K))
    z = m + s * e
    log_w = np.log(s) + 0.5 * (e * e - z * z)
    share = np.exp(log_w - log_w.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    slope = e / s - z  # ∂log w/∂z, and ∂z/∂μ = 1
    if name == "DReG":
        return (share**2 * slope).sum(axis=1)
    if name == "STL":
        return (share * slope).sum(axis=1)
    return (share * (slope - e / s)).sum(axis=1)  # ∂log q/∂μ = ε/s


def growth(s2):
    """Return the exponent γ."""
    a = round(1 / (1 - s2), 6) if s2 < 1 else np.inf
    return 0.5 if a > 4 else (a - 3) / 2 if a > 2 else (1 - a) / 2


widths = {0.5: "v", 2 / 3: "D", 0.8: "s", 1.3: "o"}
doubled = 2 ** np.arange(0, 11, 2)
fig, axes = plt.subplots(1, 2, figsize=(7, 3.8), layout="constrained", sharey=True)
curves = {}
for ax, name in zip(axes, ("IWAE", "DReG")):
    for s2, marker in widths.items():
        rng = np.random.default_rng(0)
        ratios = []
        for K in doubled:
            parts = [estimates(name, s2, K, 1000, rng) for _ in range(20 if K > 100 else 10)]
            ratios.append(np.abs(np.mean(parts)) / np.std(parts))
        curves[name, s2] = ratios = np.array(ratios)
        (line,) = ax.loglog(doubled, ratios, marker, label=f"s² = {s2:.2f}")
        if name == "DReG":
            late = doubled[2:]
            anchor = np.exp(np.log(ratios[-2:]).mean()) / np.sqrt(late[-1] * late[-2]) ** growth(
                s2
            )
            ax.loglog(late, anchor * late ** growth(s2), "-", color=line.get_color(), linewidth=1)
    ax.set(title=name, xlabel="importance samples K", xticks=doubled, xticklabels=doubled)
    ax.minorticks_off()
axes[0].set_ylabel("signal-to-noise ratio for μ")
axes[1].legend()
axes[1].set_title(r"DReG (lines: $K^\gamma$)")
slope = {
    key: np.log(v[-1] / v[-3]) / np.log(doubled[-1] / doubled[-3]) for key, v in curves.items()
}
for s2 in widths:
    print(
        f"s² = {s2:.2f}: DReG grows as K^{slope['DReG', s2]:+.2f}, "
        f"predicted K^{growth(s2):+.2f}; IWAE K^{slope['IWAE', s2]:+.2f}"
    )
    assert abs(slope["DReG", s2] - growth(s2)) < 0.3
    assert curves["IWAE", s2][-1] < 0.2 * curves["IWAE", s2][0]

# %%
# For s² = 1.3 and 0.8 the SNR of DReG grows like √K for large K; for s² = ⅔ it is constant; for s² = ½
# it decreases, but more slowly than the power law, because at this boundary (a = 2) the power law has a
# logarithmic factor. The SNR of IWAE decreases for all s² (the last circle is at the smallest value
# that 20,000 estimates can resolve).

# %%
# Does the trained model have heavy tails?
# ----------------------------------------
# The q(z|x) of a trained encoder is usually narrower than the posterior: KL(q ‖ p) is large if q has
# mass where the posterior has little, but not if q misses some of the posterior's mass. In several
# dimensions a diagonal q is narrower than the posterior in every direction along which the latents are
# correlated. We estimate the exponent a for each of the 20 digits from its largest weights: the excess
# of log w over a high threshold has an exponential distribution with mean 1/a (Hill's estimator).


def tail_exponents(vae, n=20_000, top=200, widen=0.0):
    """Return the exponent a for each row of x, from the `top` largest of n weights."""
    rng = np.random.default_rng(1)
    mu, logvar = vae.encode(x)
    log_w = np.concatenate(
        [
            numpyvae.bounds.log_weights(
                vae, x, mu, logvar, rng.standard_normal((1000, *mu.shape), vae.dtype)
            )
            for _ in range(n // 1000)
        ]
    )
    largest = np.sort(log_w, axis=0)[-top:].astype(float)
    return 1 / (largest[1:] - largest[0]).mean(axis=0)


wider = vae.with_flat(vae.parameters.flat.copy())
last = max(name for name in wider.parameters if name.startswith("encoder.b"))
wider.parameters[last][8:] += np.log(1.5)  # the biases of log σ²
as_trained, widened = tail_exponents(vae), tail_exponents(wider)

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(np.sort(as_trained), "C1s", label="q as trained")
ax.plot(np.sort(widened), "C0o", label="q with 1.5 times the variance")
for a, text in ((4, "SNR ∝ √K above"), (3, "SNR does not grow below")):
    ax.axhline(a, color="0.6", linestyle="--" if a == 4 else ":", label=f"a = {a}: {text}")
ax.set(xlabel="test digits, sorted by a", ylabel="exponent a of the weights")
ax.set(xticks=range(0, 20, 5))
ax.set_title("tails of the importance weights")
ax.legend(fontsize=8)
print(
    f"median of a over digits: {np.median(as_trained):.1f} as trained, "
    f"{np.median(widened):.1f} with widened q"
)

assert np.median(as_trained) < 3 and (widened > as_trained + 0.5).mean() > 0.9

# %%
# With q as trained, very few digits have a > 3, so the SNR of DReG cannot grow. The estimate of a is
# rough, and it describes only the part of the tail that 20,000 draws reach. But it is sufficient for a
# prediction: if we multiply the variances of q by 1.5 and change nothing else, the SNR of DReG should
# grow with K.

wide = {name: [signal_to_noise(wider, rule(K))[0] for K in counts] for name, rule in RULES.items()}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained", sharey=True)
for ax, values, title in ((axes[0], trained, "q as trained"), (axes[1], wide, "q widened")):
    for name in ("IWAE", "DReG"):
        ax.loglog(counts, values[name], STYLES[name], label=name)
    anchor = values["DReG"][0]
    ax.loglog(counts, anchor * np.sqrt(counts), color="0.6", label=r"$\propto \sqrt{K}$")
    ax.set(title=title, xlabel="importance samples K", xticks=counts, xticklabels=counts)
    ax.minorticks_off()
axes[1].legend()
axes[0].set_ylabel("signal-to-noise ratio for φ")
for name, values in wide.items():
    print(f"{name:5s} φ, widened q:", np.round(values, 3))
late = np.log(wide["DReG"][-1] / wide["DReG"][-3]) / np.log(counts[-1] / counts[-3])
print(f"DReG, widened q: SNR ∝ K^{late:+.2f} for K ≥ {counts[-3]}")
assert late > 0.25 and trained["DReG"][-1] < 1.2 * trained["DReG"][-3]

# %%
# The measurement confirms this. (Some points of IWAE are missing, because 150 estimates are too few to
# measure its signal.) So the SNR of DReG grows with K if q covers the posterior. If it does not, DReG
# is still the better estimator: it is unbiased like IWAE and has much less noise.
#
# Does it matter for training?
# ----------------------------
# We train two models by L_20 for fifteen epochs from the same initial parameters, one with the IWAE
# estimator and one with DReG.

outcome = {}
for name in ("iwae", "dreg"):
    model = numpyvae.VAE(data_dim=64, latent_dim=8, hidden=(100,))
    numpyvae.fit(
        model,
        grays,
        epochs=15,
        transform=datasets.binarize,
        optimizer=Adam(3e-3),
        schedule=cosine_schedule(15),
        estimator=make_estimator(name, n_importance=20),
    )
    test = datasets.binarize(digits.grays("test"), np.random.default_rng(0))
    eps = np.random.default_rng(1).standard_normal((50, len(test), 8), model.dtype)
    outcome[name] = (
        numpyvae.elbo(model, test, eps).mean(),
        numpyvae.importance_log_likelihood(model, test, 200).mean(),
    )
    print(f"{name}: test ELBO {outcome[name][0]:.3f}, L_200 {outcome[name][1]:.3f} nats")

assert outcome["dreg"][0] > outcome["iwae"][0] + 0.2
assert abs(outcome["dreg"][1] - outcome["iwae"][1]) < 0.1

# %%
# The log-likelihoods of the two models are about equal. The encoder that was trained with DReG is
# closer to the posterior: its ELBO is higher. So quantities that are computed from q, such as
# reconstructions and codes, are more accurate too.
#
# Exercises
# ---------

# %%
# 1. For K = 1 two of the three estimators are equal, and the third is SGVB-A. Which two are equal?

# %%
# With one sample w̃ = w̃² = 1, so STL and DReG are the same path derivative. IWAE also has the
# score term −∂ log q/∂φ, and this sum is the derivative of log p(x, z) − log q(z|x) at one draw,
# Eq. (7), which is SGVB-A.

noise = np.random.default_rng(0).standard_normal((1, len(x), 8), vae.dtype)
of_one = {name: rule(1)(vae, x, noise).gradient.phi for name, rule in RULES.items()}
assert np.array_equal(of_one["STL"], of_one["DReG"])
assert np.array_equal(of_one["IWAE"], numpyvae.estimators.SGVBA()(vae, x, noise).gradient.phi)

# %%
# 2. How does the *length* of the mean gradient for φ change with K, for STL and for DReG? The answer
#    explains how their signal-to-noise ratios depend on K.

# %%
# The mean of DReG is ∇L_K, which vanishes as L_K approaches log p(x), since log p(x) does not
# depend on φ. The mean of STL approaches another gradient that does not vanish (exercise 3). So the
# ratio of STL grows because its noise falls while its signal stays, and that of DReG depends on
# which of both falls faster.

lengths = {
    name: [np.linalg.norm(signal_to_noise(vae, RULES[name](K))[1]) for K in (1, 64)]
    for name in ("STL", "DReG")
}
assert lengths["DReG"][1] < 0.2 * lengths["DReG"][0]  # ∇L_K vanishes
assert lengths["STL"][1] > 0.5 * lengths["STL"][0]  # the mean of STL does not vanish

# %%
# 3. Let E_p be the mean over z ~ p(z|x). Integrate by parts to show that E_p[∂ log w/∂z ∂z/∂φ] =
#    E_p[∂ log q/∂φ], which is −∂KL(p(z|x) ‖ q)/∂φ. For the posterior N(0, 1) and q = N(m, s²) its
#    component for μ is −m/s². Is this the mean of STL at large K?

# %%
# Yes. Write p for p(z|x) and q for q(z|x). Since ∂ log w/∂z = ∂ log(p/q)/∂z, the mean under p is ∫
# (∂p/∂z − p ∂ log q/∂z) v dz with v = ∂z/∂φ. Integrating the first term by parts gives −∫ p (∂v/∂z
# + v ∂ log q/∂z) dz, and by the continuity equation ∂q/∂φ = −∂(q v)/∂z the bracket is −∂ log q/∂φ.
# For the example E_p[∂ log q/∂m] = E_p[(z − m)/s²] = −m/s².

rng = np.random.default_rng(0)
means = [estimates("STL", 0.8, 1000, 500, rng).mean() for _ in range(4)]
assert abs(np.mean(means) + 0.3 / 0.8) < 0.01

plt.show()
