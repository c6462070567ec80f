"""
Three ways to learn the same model
==================================

Auto-encoding variational Bayes (AEVB), wake-sleep and Monte-Carlo EM all learn the decoder of one
model, but they optimize different things. We write down the three objectives, show, on models with a
known solution, how their optima differ, and train the same model of the digits by all three.

:Aim: to say what each of the three methods optimizes, and what that costs.
:You need: sections 3.5 and 3.6 of the notes, Eq. (5) and Eq. (9); tutorial 5; Kingma & Welling 2013, §5.
:Time: about thirty seconds.
"""

# %%
# What each method optimizes
# --------------------------
# *AEVB* is the method of the notes: one objective, the ELBO, for both sets of parameters. By Eq. (9) it
# is
#
# .. math::
#    & \mathrm{ELBO}(\phi, \theta) \\
#    & \quad {} = \log p_\theta(x) - D_\mathrm{KL}(q_\phi(z|x) \,\|\, p_\theta(z|x)).
#
# *Wake-sleep* (Hinton et al. 1995) has two objectives, and a step for each:
#
# .. math::
#    \text{wake, for } \theta:\quad & \mathbb{E}_{q_\phi(z|x)}[\log p_\theta(x, z)] \\
#    \text{sleep, for } \phi:\quad & \mathbb{E}_{p_\theta(x, z)}[\log q_\phi(z|x)]
#
# In the wake phase x is from the data. In the sleep phase z is drawn from the prior and x from the
# decoder, so that z is known for each x; such pairs are called dreams. The wake phase has the
# gradient of the ELBO in θ. What does the sleep phase do? Subtract log p(z|x), which does not
# depend on φ, and average over z first:
#
# .. math::
#    & \mathbb{E}_{p_\theta(x, z)}[\log q_\phi(z|x) - \log p_\theta(z|x)] \\
#    & \qquad = -\mathbb{E}_{p_\theta(x)}\, D_\mathrm{KL}(p_\theta(z|x) \,\|\, q_\phi(z|x)).
#
# So it minimizes a KL, as Eq. (5) does, but with the arguments exchanged, and averaged over x that the
# *model* generates, not over the data.
#
# *Monte-Carlo EM* has no encoder. It draws z from the posterior by a Markov chain, and then moves θ:
#
# .. math::
#    \frac{\partial}{\partial\theta} \log p_\theta(x)
#    = \mathbb{E}_{p_\theta(z|x)}\Big[\frac{\partial}{\partial\theta} \log p_\theta(x, z)\Big].
#
# If the chains have converged, it maximizes log p(x) itself, without a gap.
#
# Two directions of the KL
# ------------------------
# In a linear-Gaussian model with two correlated latents, the posterior and both optima are known, where
# q is a diagonal Gaussian. The KL of Eq. (5) is smallest if q has the *conditional* variances of the
# posterior, the other direction if q has its *marginal* variances. We train one encoder by each
# objective, with the decoder fixed.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse

import numpyvae
from numpyvae import Adagrad, Adam, cosine_schedule, datasets
from numpyvae.estimators import SGVBB, WakeSleep
from numpyvae.exact import Gaussian, LinearGaussian, Quadrature
from numpyvae.inference import monte_carlo_em, noise_nodes, variational_inference

linear = numpyvae.VAE(3, 2, (), likelihood="gaussian:0.6", dtype="float64")
linear.parameters["decoder.W0"][:] = [[1.0, 0.5, -0.5], [0.9, 0.8, -0.2]]
linear.parameters.phi[:] = 0  # q(z|x) starts as the prior
model = LinearGaussian.from_vae(linear)
x = model.sample(500, seed=1)
posterior = model.posterior(x)
conditional, marginal = 1 / np.diag(np.linalg.inv(posterior.cov)), np.diag(posterior.cov)

found = {}
for name, estimator in (("ELBO", SGVBB(n_samples=4)), ("sleep", WakeSleep(n_samples=4))):
    vae = linear.with_flat(linear.parameters.flat.copy())
    numpyvae.fit(
        vae,
        x,
        epochs=300,
        batch_size=500,
        update="phi",
        estimator=estimator,
        optimizer=Adam(0.05),
        schedule=cosine_schedule(300),
    )
    found[name] = q = Gaussian.from_encoder(vae, x)
    variances = np.diagonal(q.cov, axis1=1, axis2=2).mean(axis=0)
    print(
        f"{name:5s} variances {variances.round(3)}, gap of Eq. (9) "
        f"{model.kl_to_posterior(x, q).mean():.3f}, KL(p ‖ q) {posterior.kl(q).mean():.3f} nats"
    )
    expected = conditional if name == "ELBO" else marginal
    assert np.abs(variances / expected - 1).max() < 0.1
print(f"conditional {conditional.round(3)}, marginal {marginal.round(3)}")

gap = {name: model.kl_to_posterior(x, q).mean() for name, q in found.items()}
other = {name: posterior.kl(q).mean() for name, q in found.items()}
assert gap["sleep"] > gap["ELBO"] + 0.3 and other["ELBO"] > other["sleep"] + 0.3

# %%
# Each method is best in its own direction. The q of the sleep phase is as wide as the posterior in
# each latent, so much of its mass lies where the posterior has none. Its ELBO is about half a nat lower.
#
# The second model has one latent and a posterior with two modes: x is nearly an even function of z, so
# z and −z explain the same x. Both optima are computed by quadrature. The KL of Eq. (5) is large
# if q has mass where the posterior has almost none, so its q covers one mode. The other direction is
# large if the posterior has mass where q has almost none: its q has the mean and the variance of the
# whole posterior, and its mean lies where the posterior density is low.

bent = numpyvae.VAE(1, 1, (2,), likelihood="gaussian:0.3", dtype="float64")
bent.parameters["decoder.W0"][:] = 2
bent.parameters["decoder.b0"][:] = -1.6, 1.6
bent.parameters["decoder.W1"][:, 0] = 1, -0.9
bent.parameters["decoder.b1"][:] = 1
bent.parameters["encoder.W1"][:] = 0  # the search for the best q starts at N(1.3, 0.14)
bent.parameters["encoder.b1"][:] = 1.3, -2
exact, x_bent = Quadrature(bent), np.array([[0.9]])
one_mode = Gaussian.diagonal(*variational_inference(bent, x_bent, nodes=noise_nodes(1, 60))[:2])
both_modes = exact.posterior(x_bent).gaussian()

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")


def ellipse(cov, **style):
    """Return the ellipse that contains 86 % of N(0, cov): two standard deviations."""
    lengths, axes = np.linalg.eigh(cov)
    angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
    return Ellipse((0, 0), *(4 * np.sqrt(lengths[::-1])), angle=angle, fill=False, **style)


left.add_patch(ellipse(posterior.cov, color="0.5", linewidth=4, label="posterior"))
for name, color, style in (("ELBO", "C0", "-"), ("sleep", "C1", "--")):
    left.add_patch(
        ellipse(found[name].cov[0], color=color, linestyle=style, linewidth=2, label=name)
    )
left.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal", xlabel="z[0] − mean", ylabel="z[1] − mean")
left.set_title("correlated posterior")
z = np.linspace(-5, 5, 801)
density = np.exp(exact.log_posterior(x_bent, z[:, None, None]))
right.plot(z, density, color="0.5", linewidth=4, label="posterior")
for q, label, style in (
    (one_mode, "best ELBO", "C0-"),
    (both_modes, "end of the sleep phase", "C1--"),
):
    right.plot(z, np.exp(q.log_pdf(z[:, None, None])), style, linewidth=2, label=label)
right.set(xlabel="z", ylabel="density", title="posterior with two modes")
right.legend(loc="upper left", fontsize=8)
fig.suptitle("the best q of the ELBO, and that of the sleep phase")

kl = {"one": exact.kl_to_posterior(x_bent, one_mode)[0]}
kl["both"] = exact.kl_to_posterior(x_bent, both_modes)[0]
print(f"gap of Eq. (9): one mode {kl['one']:.2f} nats, both modes {kl['both']:.2f} nats")
at_mean = [
    np.exp(exact.log_posterior(x_bent, q.mean[None])).item() for q in (one_mode, both_modes)
]
assert kl["both"] > kl["one"] + 1
assert at_mean[1] < 0.2 * at_mean[0]

# %%
# Three trainings of one model
# ----------------------------
# Now the digits: the same decoder with two latents and the same initial parameters, the optimizer of
# Kingma & Welling's experiments (Adagrad), and 20 passes over the training set. With two latents
# log p(x) is an integral over a plane, Eq. (2), so we can compute it for the three models, and see what
# they have learned apart from the quality of their q. We use a grid on [−5, 5]², as in tutorial 2.

digits, rng = datasets.load_digits(), np.random.default_rng(0)
x_train = datasets.binarize(digits.grays("train"), rng)
x_test = datasets.binarize(rng.permutation(digits.grays("test"))[:500], rng)
N, epochs, marks = len(x_train), 20, (1, 2, 5, 10, 20)

axis = np.linspace(-5, 5, 121, dtype="float32")
grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
log_cell = -0.5 * (grid**2).sum(axis=1) - np.log(2 * np.pi) + 2 * np.log(axis[1] - axis[0])


def log_evidence(vae, x):
    """Return log p(x) by the trapezoidal rule; log p(x|z) is linear in x."""
    p = np.clip(vae.decode(grid), 1e-7, 1 - 1e-7)
    log_joint = x @ np.log(p / (1 - p)).T + np.log1p(-p).sum(axis=1) + log_cell
    top = log_joint.max(axis=1, keepdims=True)
    return top[:, 0] + np.log(np.exp(log_joint - top).sum(axis=1))


def train(method):
    """Train from the same start; return the model, the test ELBOs, and log p(x) at the marks."""
    vae, evidence = numpyvae.VAE(64, 2, (50,)), []

    def record(vae, history):
        if len(history) in marks:
            evidence.append(log_evidence(vae, x_test).mean())

    settings = {"epochs": epochs, "optimizer": Adagrad(0.1), "callbacks": [record]}
    if method == "Monte-Carlo EM":
        monte_carlo_em(vae, x_train, **settings)
        return vae, None, np.array(evidence)
    estimator = WakeSleep() if method == "wake-sleep" else SGVBB()
    history = numpyvae.fit(vae, x_train, x_valid=x_test, estimator=estimator, **settings)
    return vae, history["valid_elbo"], np.array(evidence)


results = {method: train(method) for method in ("AEVB", "wake-sleep", "Monte-Carlo EM")}
few = x_test[:3]
by_rule = Quadrature(results["AEVB"][0], tolerance=1e-6).log_evidence(few)
assert np.abs(log_evidence(results["AEVB"][0], few) - by_rule).max() < 1e-3

# %%
# The bound against the number of training samples
# ------------------------------------------------
# This is the picture of Kingma & Welling, Figure 2, on the embedded digits. Monte-Carlo EM has no q and
# no bound.

samples = N * np.arange(1, epochs + 1)
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained", sharey=True)
styles = {"AEVB": "C0o-", "wake-sleep": "C1s--", "Monte-Carlo EM": "C2^:"}
for method in ("AEVB", "wake-sleep"):
    left.semilogx(
        samples, results[method][1], styles[method][:2] + styles[method][3:], label=method
    )
left.set(xlabel="training samples evaluated", ylabel="nats per test digit", title="ELBO")
for method, (_, _, evidence) in results.items():
    right.semilogx(N * np.array(marks), evidence, styles[method], label=method)
right.set(xlabel="training samples evaluated", title="log p(x), exact")
right.legend()
for ax in (left, right):
    ax.minorticks_off()
    ax.set(xticks=[5000, 20_000, 50_000], xticklabels=["5,000", "20,000", "50,000"])

bound = {method: results[method][1] for method in ("AEVB", "wake-sleep")}
evidence = {method: result[2] for method, result in results.items()}
for method in results:
    elbo = f"ELBO {bound[method][-1]:.2f}, " if method in bound else ""
    print(f"{method}: {elbo}log p(x) {evidence[method][-1]:.2f} nats per test digit")

# The mean over the passes: how high is the curve of AEVB above that of wake-sleep?
assert bound["AEVB"].mean() > bound["wake-sleep"].mean() + 0.1
assert evidence["Monte-Carlo EM"][-1] > max(evidence[m][-1] for m in bound) + 0.4
assert all((bound[m][np.array(marks) - 1] < evidence[m] + 0.05).all() for m in bound)

# %%
# From the third pass on, wake-sleep needs more samples than AEVB for the same bound, as in the paper.
# From the second pass on, Monte-Carlo EM has the highest log p(x) for the same number of *samples*: it
# has no gap, so the posterior of its decoder may be far from a Gaussian.
#
# What a sample costs
# -------------------
# But it does much more work for each sample. A move of its chain consists of ten leapfrog steps, each
# with a gradient of the decoder, and five updates of θ follow. AEVB has one gradient of the decoder
# for each sample. Wake-sleep has one too, and draws a dream in addition. After a single pass of
# Monte-Carlo EM, AEVB has made fifteen for the same number of gradients:

cost = {"AEVB": 1, "wake-sleep": 1, "Monte-Carlo EM": 10 + 5}
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for method, per_sample in cost.items():
    ax.semilogx(per_sample * N * np.array(marks), evidence[method], styles[method], label=method)
ax.set(
    xlabel="gradients of log p(x, z), one for each sample", ylabel="log p(x) (nats per test digit)"
)
ax.set_title("the same trainings against their cost")
ax.legend()
assert evidence["AEVB"][3] > evidence["Monte-Carlo EM"][0] + 0.5  # 10 against 15 gradients

# %%
# With the same number of gradients, AEVB is ahead of Monte-Carlo EM, and its lead is larger on large
# data sets, where even one pass takes long. And after the training, Monte-Carlo EM has no encoder: to
# find the z of a new image, one must run a chain, while AEVB and wake-sleep evaluate q(z|x) once.
#
# Exercises
# ---------
# 1. In the linear-Gaussian model the gap of the best ELBO and the KL(p ‖ q) at the end of the sleep
#    phase are the same number. Show that both are −½ log(1 − ρ²), where ρ is the correlation of the two
#    latents under the posterior.

# %%
# Write the posterior covariance with variances s₀², s₁² and correlation ρ. Its determinant is
# s₀² s₁² (1 − ρ²), and the conditional variances are s_j² (1 − ρ²). With equal means,
# KL(N(0, A) ‖ N(0, B)) = ½ (tr B⁻¹A − J + log det B/det A). For A = diag of the conditional variances and
# B = the posterior, and for A = the posterior and B = diag of the marginal variances, the trace is 2.
# What remains is ½ log det B/det A = −½ log(1 − ρ²) in both cases. It is the mutual information of the two
# latents: what a diagonal q cannot represent.

rho2 = posterior.cov[0, 1] ** 2 / marginal.prod()
best = model.kl_to_posterior(x, model.best_diagonal(x))
wide = Gaussian.diagonal(posterior.mean, np.broadcast_to(np.log(marginal), posterior.mean.shape))
assert np.allclose(best, -0.5 * np.log(1 - rho2)) and np.allclose(posterior.kl(wide), best)

# %%
# 2. Which of the three methods still work, unchanged, if z is discrete?

# %%
# Wake-sleep: its gradients are those of log p(x, z) in θ and of log q(z|x) in φ, at values of z that
# are constants, so that nothing is differentiated through z. AEVB needs the reparameterization
# z = μ + σ ε, which a discrete z does not have (the score function works, with more noise: tutorial 8).
# Hamiltonian moves need ∂ log p(x, z)/∂z, so that Monte-Carlo EM needs another Markov chain. In the
# code: the pullback of the sleep phase returns nothing for z.

from numpyvae.estimators import dream_log_q

_, pull = dream_log_q(linear, x[:4], np.zeros((4, 2)))
assert pull(np.ones(4), linear.parameters.zeros_like()) is None

# %%
# 3. The sleep phase sees only x that the model generates. Train a model on the digits 0 and 1 alone, and
#    its encoder by the sleep phase. How large is the gap of Eq. (9) on dreams, and on the digits 2 to 9?

# %%
# The model generates zeros and ones, so the sleep phase trains q for such x, and not for the other
# digits. The ELBO, with the same decoder, trains q for all digits of the data, and not for what the
# model generates. Each encoder has the smaller gap where it was trained. As long as the data are not
# what the model generates, as in the first passes of wake-sleep, the sleep phase trains q at other x
# than those on which it is used.

two = np.isin(digits.y_train, (0, 1))
narrow = numpyvae.VAE(64, 2, (50,))
numpyvae.fit(narrow, x_train[two], epochs=40, optimizer="adam")
others = digits.grays("test")[~np.isin(digits.y_test, (0, 1))]
others = datasets.binarize(rng.permutation(others)[:500], rng)
gaps = {}
for name, estimator in (("sleep", WakeSleep()), ("ELBO", SGVBB())):
    vae = narrow.with_flat(narrow.parameters.flat.copy())
    numpyvae.fit(vae, x_train, epochs=10, update="phi", estimator=estimator, optimizer="adam")
    for rows, x_rows in (("dreams", narrow.sample(500, seed=2)), ("2 to 9", others)):
        eps = np.random.default_rng(0).standard_normal((20, 500, 2), vae.dtype)
        gaps[name, rows] = (log_evidence(vae, x_rows) - numpyvae.elbo(vae, x_rows, eps)).mean()
        print(f"{name:5s} {rows}: gap {gaps[name, rows]:.2f} nats")
assert gaps["sleep", "dreams"] < gaps["ELBO", "dreams"] - 0.2
assert gaps["ELBO", "2 to 9"] < gaps["sleep", "2 to 9"] - 0.05

plt.show()
