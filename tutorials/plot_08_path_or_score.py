"""
Path or score: the noise of a gradient
======================================

Every estimator of the ELBO's gradient has the right mean. They differ in their noise, and by
orders of magnitude. On a model whose gradient is known exactly we measure both, see what control
variates mend, and find the one place where an estimator has no noise at all.

:Aim: to say which estimators are unbiased, how to see that one is not, and what noise costs.
:You need: Eq. (7) and Eq. (11); tutorials 6 and 7.
:Time: about twenty seconds.
"""

# %%
# A gradient that is known
# ------------------------
# Probabilistic PCA of the digits, written as a VAE without hidden layers. The encoder is given the
# exact posterior and then pushed off it a little, so that there is something to learn. For this
# model the ELBO's expectation is a closed form, and so is its gradient in μ and log σ²
# (:meth:`numpyvae.exact.LinearGaussian.elbo_gradient`); the encoder's pullback takes it to φ.

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

import numpyvae
from numpyvae import datasets
from numpyvae.core.optimizers import Adam
from numpyvae.estimators import SGVBA, SGVBB, STL, ScoreFunction
from numpyvae.exact import LinearGaussian, ppca_maximum_likelihood

threadpool_limits(1, "blas")  # small products: a second thread costs more than it gives
grays = datasets.load_digits().grays("train", dtype="float64")
x = grays[:20]


def ppca_vae(J, off=0.0):
    """Return the best linear VAE with J latents, its φ moved by N(0, off²) from the posterior."""
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
    """Return ∂ELBO/∂φ of the batch mean, in closed form."""
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
        [estimator(vae, x, rng.standard_normal(shape), wrt="phi").gradient.phi for _ in range(n)]
    )


vae = ppca_vae(5, off=0.05)
truth = exact_gradient(vae, x)
print(f"{vae.parameters.phi.size} parameters in φ, |∂ELBO/∂φ| = {np.linalg.norm(truth):.1f} nats")
assert np.abs(exact_gradient(ppca_vae(5), grays)).max() < 1e-10  # at the posterior it is zero

# %%
# Five rules, one mean
# --------------------
# With log w = log p(x, z) − log q(z|x) the gradient for φ can be estimated
#
# - along the *path* z = μ + σ ε: ``SGVBB`` with the KL of Eq. (11) in closed form, ``SGVBA`` with
#   every term of Eq. (7) sampled, ``STL`` as SGVBA without the score ∂ log q/∂φ, whose mean is zero;
# - by the *score*: (log w − b) ∂ log q/∂φ, with b = 0, with b a constant, or with b the mean of
#   log w over the other draws (leave-one-out).
#
# We average more and more of them. An unbiased estimate comes closer to the truth as 1/√n, for
# ever. Among them is a wrong one: its baseline is the mean over *all* draws, its own included. That
# shrinks the gradient by (L − 1)/L, so that with L = 4 it stops at a quarter.

L = 4
eps = np.random.default_rng(2).standard_normal((500, len(x), 5))
level = SGVBA()(vae, x, eps).objective  # a constant: the ELBO as it is
rules = {
    "SGVB-B": SGVBB(),
    "SGVB-A": SGVBA(),
    "STL": STL(),
    "score": ScoreFunction(),
    "score, b constant": ScoreFunction(level),
    "score, leave-one-out": ScoreFunction("leave-one-out"),
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
ax.set_title("unbiased estimates fall as $1/\\sqrt{n}$; a biased one stops")
ax.legend(fontsize=8, ncols=2)

for name, draws in drawn.items():
    deviation = np.linalg.norm(draws.mean(axis=0) - truth)
    expected = np.sqrt(draws.var(axis=0).sum() / len(draws))  # if the mean is right
    print(f"{name:21s} error of the mean {deviation:7.3f}, expected of noise {expected:7.3f}")
    assert (deviation < 2 * expected) == (name != "baseline with itself")

# %%
# The price of noise
# ------------------
# The variance of one draw, summed over φ. To reach the same error, n must be larger by the ratio
# of the variances: a hundred times the variance is a hundred times the work.

total = {n: L * d.var(axis=0).sum() for n, d in drawn.items() if n != "baseline with itself"}
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
bars = ax.barh(list(total), list(total.values()), color=["C0"] * 3 + ["C1"] * 3)
ax.bar_label(bars, [f"{v:.0f}" for v in total.values()], padding=3)
ax.set(xscale="log", xlim=(1, 6e4), xlabel="variance of one draw, summed over φ (nats²)")
ax.set_title("path (blue) and score (orange)")
ax.invert_yaxis()
assert total["score"] > 100 * total["SGVB-B"]
assert total["SGVB-B"] < total["SGVB-A"] < total["score, leave-one-out"] < total["score"] / 5
assert total["STL"] < total["SGVB-B"] / 5

# %%
# What a control variate can do
# -----------------------------
# b ∂ log q/∂φ has mean zero whatever b is, as long as b does not depend on its own draw. The
# variance is a parabola in b, and its lowest point for a single constant is not far down: log w
# differs more between datapoints than between draws, and one number cannot follow. Leave-one-out
# gives each datapoint its own b. With L draws its noise per draw falls to that of the best b per
# datapoint as L grows; most of the gain is there at L = 4.

constants = np.linspace(-60, 50, 12)
by_constant = [replicates(ScoreFunction(b), vae, 500).var(axis=0).sum() for b in constants]
many = (2, 4, 8, 16, 32)
by_others = [
    L * replicates(ScoreFunction("leave-one-out"), vae, 500, L).var(axis=0).sum() for L in many
]

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained", sharey=True)
left.semilogy(constants, by_constant, "C1o--")
left.axvline(level, color="0.5", linestyle=":", label="the ELBO")
left.set(xlabel="constant b (nats)", ylabel="variance of one draw (nats²)", title="one b for all")
left.legend()
right.semilogy(many, by_others, "C1s:")
right.axhline(total["SGVB-B"], color="C0", label="path, SGVB-B")
right.set(xlabel="draws L", title="leave-one-out", xscale="log", xticks=many, xticklabels=many)
right.minorticks_off()
right.legend()
assert min(by_constant) > 3 * max(by_others[1:])
assert by_others[0] > by_others[1] > 3 * total["SGVB-B"]

# %%
# The dimension
# -------------
# The score weighs every direction of noise with the whole of log w, so its variance outruns that of
# the path as latents are added. A baseline takes most of log w away, but what is left grows faster
# too: with one or two latents, this close to the posterior, leave-one-out has less noise than
# SGVB-B (the next section says why), and with forty ten times as much.

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
ax.set(xlabel="latents J", ylabel="variance of one draw (nats²)", xticks=sizes, xticklabels=sizes)
ax.set_title("noise against the number of latents")
ax.minorticks_off()
ax.legend()
ratio = np.divide(growth["score"], growth["SGVB-B"])
print("score/path, by J:", ", ".join(f"{J}: {r:.0f}" for J, r in zip(sizes, ratio)))
assert ratio[-1] > 10 * ratio[0] and ratio.min() > 10
others = np.divide(growth["score, leave-one-out"], growth["SGVB-B"])
assert others[0] < 0.5 and others[-1] > 5

# %%
# Where the noise vanishes
# ------------------------
# If q is the posterior then log w = log p(x) for every z: it is flat in z. So ∂ log w/∂z = 0, and
# STL, which is nothing but that slope along the path, has no noise at all; nor has leave-one-out,
# since all log w are equal. SGVB-A adds the score, of mean zero and variance not zero, and SGVB-B
# has noise of the same size from the reconstruction. We let φ slide into the posterior.

at_posterior = ppca_vae(5)
home = at_posterior.parameters.phi.copy()
away = np.random.default_rng(1).standard_normal(home.size)
distances = np.array([0, 1e-4, 1e-3, 1e-2, 1e-1])
landing = {name: [] for name in ("SGVB-B", "SGVB-A", "STL", "score, leave-one-out")}
for t in distances:
    at_posterior.parameters.phi[:] = home + t * away
    for name in landing:
        draws = replicates(rules[name], at_posterior, 100, L)
        landing[name].append(L * draws.var(axis=0).sum())

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, values in landing.items():
    ax.loglog(distances[1:], values[1:], styles[name], marker="o", markersize=4, label=name)
ax.set(xlabel="distance of φ from the posterior", ylabel="variance of one draw (nats²)")
ax.set_title("sticking the landing")
ax.legend()
for name, values in landing.items():
    print(f"{name:21s} at the posterior: variance {values[0]:.1e}")
assert landing["STL"][0] < 1e-20 and landing["score, leave-one-out"][0] < 1e-20
assert min(landing["SGVB-A"][0], landing["SGVB-B"][0]) > 10
assert np.allclose(np.diff(np.log10(landing["STL"][1:])), 2, atol=0.1)  # noise ∝ distance

# %%
# What it means for training
# --------------------------
# The same digits model and learning rate, four estimators, two draws each (leave-one-out needs
# them). ``fit`` records the ELBO, whatever it ascends. Without a baseline the score learns little.
# With leave-one-out it nearly keeps up with the path: the average over a hundred datapoints and many
# steps takes most of the noise away that is left at J = 8. A noisy gradient is not a wrong one. The
# path needs no second draw, and its lead grows with J.

curves = {}
for name in ("sgvb-b", "stl", "score-loo", "score"):
    model = numpyvae.VAE(64, 8, hidden=(100,))
    history = numpyvae.fit(
        model,
        grays,
        epochs=15,
        transform=datasets.binarize,
        optimizer=Adam(2e-3),
        estimator=name,
        n_samples=2,
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
# 1. The score needs no ∂ log p(x|z)/∂z. Where must one use it all the same? (A discrete z.) Here z
#    is continuous: how many draws of the score, without a baseline, are worth one of SGVB-B?

assert 50 < total["score"] / total["SGVB-B"] < 500

# %%
# 2. For θ all rules are one: show that score and path give the same ∂ELBO/∂θ from the same noise.

noise = np.random.default_rng(5).standard_normal((L, len(x), 5))
by_path, by_score = (rules[name](vae, x, noise).gradient.theta for name in ("SGVB-A", "score"))
assert np.array_equal(by_path, by_score)

# %%
# 3. With the posterior as q, log w has no variance. Is the gradient for θ without noise too?

at_posterior.parameters.phi[:] = home
draws = [
    STL()(at_posterior, x, np.random.default_rng(i).standard_normal((1, 20, 5))).gradient.theta
    for i in range(100)
]
assert np.var(draws, axis=0).sum() > 1

plt.show()
