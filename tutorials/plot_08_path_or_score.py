"""
Path or score: the noise of a gradient (advanced)
=================================================

Several unbiased estimators of the gradient of the ELBO have the same mean, but their variances differ
by orders of magnitude. We use a model whose gradient is known exactly. On this model we measure the
bias and the variance of each estimator, measure the effect of baselines (control variates: terms with
mean zero that reduce the variance), and show the one case in which an estimator has zero variance.

:Aim: to say which estimators are unbiased, how to detect a biased one, and what the cost of noise is.
:You need: Eq. (7) and Eq. (11); tutorials 6 and 7.
:Time: about twenty seconds.
"""

# %%
# A gradient that is known exactly
# --------------------------------
# The model is probabilistic PCA of the digits, written as a VAE without hidden layers. We set the
# encoder to the exact posterior and then perturb its parameters slightly, so that the gradient is not
# zero. For this model the expectation in the ELBO has a closed form, and so has its gradient with
# respect to μ and log σ² (:meth:`numpyvae.exact.LinearGaussian.elbo_gradient`). The pullback of the
# encoder (a vector–Jacobian product) then gives the gradient with respect to φ.

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

import numpyvae
from numpyvae import datasets
from numpyvae.core.optimizers import Adam
from numpyvae.estimators import SGVBA, SGVBB, STL, ScoreFunction, make_estimator
from numpyvae.exact import LinearGaussian, ppca_maximum_likelihood

threadpool_limits(1, "blas")  # the matrices are small: a second thread makes the products slower
grays = datasets.load_digits().grays("train", dtype="float64")
x = grays[:20]


def ppca_vae(J, off=0.0):
    """Return the best linear VAE with J latents; noise N(0, off²) is added to its φ."""
    model = ppca_maximum_likelihood(grays, J)
    sigma = float(model.sigma2**0.5)
    vae = numpyvae.VAE(64, J, (), likelihood=f"gaussian:{sigma}", dtype="float64")
    p = vae.parameters
    p["decoder.W0"][:], p["decoder.b0"][:] = model.W.T, model.mean
    # The columns of W are orthogonal: 1/σ_j² = 1 + |w_j|²/σ², and μ = σ_j² w_j·(x − m)/σ².
    precision = 1 + (model.W**2).sum(axis=0) / model.sigma2
    to_mu = model.W / model.sigma2 / precision
    p["encoder.W0"][:] = np.hstack([to_mu, np.zeros_like(to_mu)])
    p["encoder.b0"][:] = np.concatenate([-model.mean @ to_mu, -np.log(precision)])
    p.phi[:] += off * np.random.default_rng(1).standard_normal(p.phi.size)
    return vae


def exact_gradient(vae, x):
    """Return ∂ELBO/∂φ in closed form; the ELBO is averaged over the batch."""
    (mu, logvar), pull = vae.encoder(x)
    known = LinearGaussian.from_vae(vae).elbo_gradient(x, mu, logvar)
    gradient = vae.parameters.zeros_like()
    pull(known.mu, known.logvar, gradient)
    return gradient.phi


def replicates(estimator, vae, n, L=1, seed=0):
    """Return n independent estimates of ∂ELBO/∂φ, (n, P), each from L draws per datapoint."""
    rng = np.random.default_rng(seed)
    shape = L, len(x), vae.latent_dim
    return np.array(
        [
            estimator(vae, x, rng.standard_normal(shape), update="phi").gradient.phi
            for _ in range(n)
        ]
    )


vae = ppca_vae(5, off=0.05)
truth = exact_gradient(vae, x)
print(f"{vae.parameters.phi.size} parameters in φ, |∂ELBO/∂φ| = {np.linalg.norm(truth):.1f} nats")
assert np.abs(exact_gradient(ppca_vae(5), grays)).max() < 1e-10  # zero if q is the posterior

# %%
# Unbiased estimators have the same mean
# --------------------------------------
# Let log w = log p(x, z) − log q(z|x). There are two ways to estimate the gradient for φ:
#
# - by the *path* z = μ + σ ε: ``SGVBB`` uses the KL of Eq. (11) in closed form; ``SGVBA`` samples every
#   term of Eq. (7); ``STL`` is SGVBA without the score term ∂ log q/∂φ, whose mean is zero;
# - by the *score*: (log w − b) ∂ log q/∂φ. The baseline b is zero, or a constant, or the mean of
#   log w over the other draws (leave-one-out).
#
# We average n estimates and increase n. The error of an unbiased estimate decreases as 1/√n. We also
# include one biased estimate: its baseline is the mean over *all* L draws, including the draw itself.
# This multiplies the expected gradient by (L − 1)/L, so for L = 4 the relative error does not fall
# below one quarter.

L = 4
eps = np.random.default_rng(2).standard_normal((500, len(x), 5))
level = SGVBA()(vae, x, eps).objective  # a constant baseline: the current ELBO
rules = {
    "SGVB-B": SGVBB(),
    "SGVB-A": SGVBA(),
    "STL": STL(),
    "score": ScoreFunction(),
    "score, b constant": ScoreFunction(level),
    "score, leave-one-out": ScoreFunction("leave-one-out", n_samples=2),
}
drawn = {name: replicates(rule, vae, 2000, L) for name, rule in rules.items()}
drawn["baseline with itself"] = drawn["score, leave-one-out"] * (L - 1) / L

counts = np.unique(np.geomspace(1, 2000, 30).astype(int))
styles = dict(zip(drawn, ("C0-", "C0--", "C0:", "C1-", "C1--", "C1:", "k-")))
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for name, draws in drawn.items():
    running = np.cumsum(draws, axis=0)[counts - 1] / counts[:, None]
    error = np.linalg.norm(running - truth, axis=1) / np.linalg.norm(truth)
    ax.loglog(counts * L, error, styles[name], label=name)
ax.set(xlabel="draws of z per datapoint", ylabel="relative error of the mean")
ax.set_title("the error of unbiased estimates falls as $1/\\sqrt{n}$")
ax.legend(fontsize=8, ncols=2)

for name, draws in drawn.items():
    deviation = np.linalg.norm(draws.mean(axis=0) - truth)
    expected = np.sqrt(draws.var(axis=0, ddof=1).sum() / len(draws))  # if the estimate is unbiased
    print(f"{name:21s} error of the mean {deviation:7.3f}, expected from noise {expected:7.3f}")
    assert (deviation < 2 * expected) == (name != "baseline with itself")

# %%
# The cost of noise
# -----------------
# The figure shows the variance of one draw, summed over the components of φ. The number of draws that
# is needed for a given error is proportional to the variance: a hundred times the variance needs a
# hundred times the work.

total = {n: L * d.var(axis=0).sum() for n, d in drawn.items() if n != "baseline with itself"}
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
bars = ax.barh(list(total), list(total.values()), color=["C0"] * 3 + ["C1"] * 3)
ax.bar_label(bars, [f"{v:.0f}" for v in total.values()], padding=3)
ax.set(xscale="log", xlim=(1, 6e4), xlabel="variance of one draw, summed over φ (nats²)")
ax.set_title("variance of path (blue) and score (orange) estimators")
ax.invert_yaxis()
assert total["score"] > 100 * total["SGVB-B"]
assert total["SGVB-B"] < total["SGVB-A"] < total["score, leave-one-out"] < total["score"] / 5
assert total["STL"] < total["SGVB-B"] / 5

# %%
# What a control variate can do
# -----------------------------
# The term b ∂ log q/∂φ has mean zero for every b that does not depend on the same draw: it is a control
# variate, and b is the baseline. The variance is a quadratic function of b. With one constant b for all
# datapoints, the smallest variance is still about half of that with b = 0, because log w differs more
# between datapoints than between draws.
# Leave-one-out gives each datapoint its own b. As L grows, its variance per draw approaches that of the
# best b for each datapoint; most of this reduction is reached at L = 4.

constants = np.linspace(-60, 50, 12)
by_constant = [replicates(ScoreFunction(b), vae, 500).var(axis=0).sum() for b in constants]
many = (2, 4, 8, 16, 32)
by_others = [
    L * replicates(ScoreFunction("leave-one-out", n_samples=2), vae, 500, L).var(axis=0).sum()
    for L in many
]

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained", sharey=True)
left.semilogy(constants, by_constant, "C1o--")
left.axvline(level, color="0.5", linestyle=":", label="b = ELBO")
left.set(xlabel="constant b (nats)", ylabel="variance of one draw (nats²)", title="one constant b")
left.legend()
right.semilogy(many, by_others, "C1s:")
right.axhline(total["SGVB-B"], color="C0", label="path, SGVB-B")
right.set(xlabel="number of draws L", title="leave-one-out", xscale="log")
right.set(xticks=many, xticklabels=many)
right.minorticks_off()
right.legend()
assert min(by_constant) > 3 * max(by_others[1:])
assert by_others[0] > by_others[1] > 3 * total["SGVB-B"]

# %%
# The effect of the dimension
# ---------------------------
# The score estimator multiplies the score of each component of z by the whole value log w, so its
# variance grows faster with J than the variance of the path estimator. A baseline removes most of
# log w, but the variance of the remainder also grows faster than that of the path. With one or two
# latents and q this close to the posterior, leave-one-out has a smaller variance than SGVB-B (the next
# section explains why). With forty latents its variance is ten times as large.

sizes = (1, 2, 5, 10, 20, 40)
compared = ("SGVB-B", "STL", "score", "score, leave-one-out")
growth = {name: [] for name in compared}
for J in sizes:
    model = ppca_vae(J, off=0.02)
    for name in compared:
        growth[name].append(L * replicates(rules[name], model, 200, L).var(axis=0).sum())

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, values in growth.items():
    ax.loglog(sizes, values, styles[name], marker="o", markersize=4, label=name)
ax.set(xlabel="number of latents J", ylabel="variance of one draw (nats²)")
ax.set(xticks=sizes, xticklabels=sizes)
ax.set_title("noise of the gradient against the number of latents")
ax.minorticks_off()
ax.legend()
ratio = np.divide(growth["score"], growth["SGVB-B"])
print("variance of score/path, by J:", ", ".join(f"{J}: {r:.0f}" for J, r in zip(sizes, ratio)))
assert ratio[-1] > 10 * ratio[0] and ratio.min() > 10
others = np.divide(growth["score, leave-one-out"], growth["SGVB-B"])
assert others[0] < 0.5 and others[-1] > 5

# %%
# Where the noise vanishes
# ------------------------
# If q is the posterior, then log w = log p(x) for every z: log w does not depend on z. So
# ∂ log w/∂z = 0, and the STL estimate, which contains only this derivative, has zero variance.
# Leave-one-out also has zero variance, since all values of log w are equal. SGVB-A adds the score term,
# whose mean is zero and whose variance is not. SGVB-B has noise of the same size, from the
# reconstruction term. We decrease the distance of φ from the posterior to zero and measure the
# variances.

at_posterior = ppca_vae(5)
phi_posterior = at_posterior.parameters.phi.copy()
direction = np.random.default_rng(1).standard_normal(phi_posterior.size)
distances = np.array([0, 1e-4, 1e-3, 1e-2, 1e-1])
landing = {name: [] for name in ("SGVB-B", "SGVB-A", "STL", "score, leave-one-out")}
for t in distances:
    at_posterior.parameters.phi[:] = phi_posterior + t * direction
    for name in landing:
        draws = replicates(rules[name], at_posterior, 100, L)
        landing[name].append(L * draws.var(axis=0).sum())

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, values in landing.items():
    ax.loglog(distances[1:], values[1:], styles[name], marker="o", markersize=4, label=name)
ax.set(xlabel="distance of φ from the posterior", ylabel="variance of one draw (nats²)")
ax.set_title("noise of the gradient as q approaches the posterior")
ax.legend()
for name, values in landing.items():
    print(f"{name:21s} at the posterior: variance {values[0]:.1e}")
assert landing["STL"][0] < 1e-20 and landing["score, leave-one-out"][0] < 1e-20
assert min(landing["SGVB-A"][0], landing["SGVB-B"][0]) > 10
assert np.allclose(np.diff(np.log10(landing["STL"][1:])), 2, atol=0.1)  # noise ∝ distance

# %%
# What this means for training
# ----------------------------
# We train the same model of the digits with the same learning rate by four estimators, with two draws
# each (leave-one-out needs at least two). ``fit`` records the ELBO for every estimator. With the score
# and no baseline, the ELBO improves more slowly: after 15 epochs it is two nats lower. With
# leave-one-out, the result is almost as good as with the path: the average over a hundred datapoints
# and many steps removes most of the noise that is left at J = 8. A noisy gradient can still be
# unbiased. The path estimator needs only one draw, and its advantage grows with J.

curves = {}
for name in ("sgvb-b", "stl", "score-loo", "score"):
    model = numpyvae.VAE(64, 8, hidden=(100,))
    history = numpyvae.fit(
        model,
        grays,
        epochs=15,
        transform=datasets.binarize,
        optimizer=Adam(2e-3),
        estimator=make_estimator(name, n_samples=2),
    )
    curves[name] = history["elbo"]
    print(f"{name:9s} ELBO {history['elbo'][-1]:.2f} nats per digit after 15 epochs")

fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for (name, elbo), style in zip(curves.items(), ("C0-", "C0:", "C1-.", "C1--")):
    ax.plot(range(1, 16), elbo, style, label=name)
ax.set(xlabel="epoch", ylabel="ELBO (nats per digit)", title="training with each estimator")
ax.legend()
assert curves["sgvb-b"][-1] > curves["score"][-1] + 2
assert abs(curves["sgvb-b"][-1] - curves["score-loo"][-1]) < 0.5

# %%
# Exercises
# ---------

# %%
# 1. The score estimator does not need ∂ log p(x|z)/∂z. For which z is the path estimator impossible,
#    so that one must use the score? (For a discrete z.) Here z is continuous: how many draws of the
#    score estimator without a baseline give the same variance as one draw of SGVB-B?

# %%
# A discrete z is not a differentiable function of its parameters and of noise, so that there is no
# path; the score needs only log q. Without a baseline one draw of SGVB-B is worth some hundred
# draws of the score: the number of draws for the same variance is the ratio of the two variances of
# one draw.

assert 50 < total["score"] / total["SGVB-B"] < 500

# %%
# 2. For θ all estimators are the same: show that score and path give the same ∂ELBO/∂θ for the same
#    noise.

# %%
# θ does not change the distribution from which z is drawn, so nothing has to be differentiated
# through the draw: ∂/∂θ E_q[log p_θ(x, z)] = E_q[∂ log p_θ(x, z)/∂θ]. All estimators are this
# average at the same draws, and agree to the last bit.

noise = np.random.default_rng(5).standard_normal((L, len(x), 5))
by_path, by_score = (rules[name](vae, x, noise).gradient.theta for name in ("SGVB-A", "score"))
assert np.array_equal(by_path, by_score)

# %%
# 3. If q is the posterior, log w has zero variance. Does the gradient for θ also have zero variance?

# %%
# No. log w does not depend on z then, but its derivative in θ does: ∂ log p_θ(x, z)/∂θ is another
# number for each z. Its mean over the posterior is ∂ log p_θ(x)/∂θ (Fisher's identity), and the
# variance around this mean remains.

at_posterior.parameters.phi[:] = phi_posterior
draws = [
    STL()(at_posterior, x, np.random.default_rng(i).standard_normal((1, 20, 5))).gradient.theta
    for i in range(100)
]
assert np.var(draws, axis=0).sum() > 1

plt.show()
