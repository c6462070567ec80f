"""
Diagnosis of a broken VAE
=========================

A VAE that somebody wrote by hand trains without a problem: its loss decreases, its reconstructions are
sharp, no error is raised. It has two bugs; both were in one well-known public example. We look at its
training curve, let the clinic examine its code, correct two lines, and measure what the bugs cost in nats.

:Aim: to examine a VAE that was written elsewhere, and to measure log p(x) of its decoder.
:You need: Eq. (11) and Eq. (9); tutorials 1 and 9.
:Time: about thirty seconds.
"""

# %%
# The broken model
# ----------------
# The class below is a complete VAE in NumPy: 64 binary pixels, 8 latents, one hidden layer of 100 tanh
# units on each side, and the gradient by hand. The encoder returns μ and s, and s is log σ². Two
# functions contain a bug. Before you read on, try to find both.

import matplotlib.pyplot as plt
import numpy as np
from threadpoolctl import threadpool_limits

from numpyvae import bounds, clinic, datasets, plotting
from numpyvae.support.statistics import mean_and_error

threadpool_limits(1, "blas")  # the matrices are small: a second thread makes the products slower
digits = datasets.load_digits()
grays = digits.grays("train", dtype="float64")
test = datasets.binarize(digits.grays("test", dtype="float64"), np.random.default_rng(0))


def sigmoid(a):
    return 0.5 * (1 + np.tanh(0.5 * a))


class HandMadeVAE:
    def __init__(self, D=64, J=8, H=100, seed=0):
        self.rng = np.random.default_rng(seed)
        shapes = {"1": (D, H), "m": (H, J), "s": (H, J), "2": (J, H), "3": (H, D)}
        self.p = {}
        for name, (n, k) in shapes.items():
            self.p["W" + name] = self.rng.normal(0, n**-0.5, (n, k))
            self.p["b" + name] = np.zeros(k)

    def encode(self, x):
        p = self.p
        h = np.tanh(x @ p["W1"] + p["b1"])
        return h @ p["Wm"] + p["bm"], h @ p["Ws"] + p["bs"]  # μ, s = log σ²

    def std(self, s):  # σ and ∂σ/∂s
        return np.exp(s), np.exp(s)

    def sample(self, mu, s):
        return mu + self.std(s)[0] * self.rng.standard_normal(mu.shape)

    def decode(self, z):
        p = self.p
        return np.tanh(z @ p["W2"] + p["b2"]) @ p["W3"] + p["b3"]  # logits

    def kl(self, mu, s):  # for each row
        return 0.5 * (mu**2 + np.exp(s) - s - 1).mean(axis=1)

    def kl_grad(self, mu, s):
        return mu / mu.shape[1], 0.5 * (np.exp(s) - 1) / mu.shape[1]

    def reconstruction(self, x, logits):  # −log p(x|z) for each row
        return (np.logaddexp(0, logits) - x * logits).sum(axis=1)

    def loss(self, x):
        mu, s = self.encode(x)
        logits = self.decode(self.sample(mu, s))
        return (self.reconstruction(x, logits) + self.kl(mu, s)).mean()

    def loss_and_grad(self, x):
        p, B = self.p, len(x)
        h1 = np.tanh(x @ p["W1"] + p["b1"])
        mu, s = h1 @ p["Wm"] + p["bm"], h1 @ p["Ws"] + p["bs"]
        (sigma, slope), eps = self.std(s), self.rng.standard_normal(mu.shape)
        z = mu + sigma * eps
        h2 = np.tanh(z @ p["W2"] + p["b2"])
        logits = h2 @ p["W3"] + p["b3"]
        loss = (self.reconstruction(x, logits) + self.kl(mu, s)).mean()
        d3 = (sigmoid(logits) - x) / B
        d2 = (d3 @ p["W3"].T) * (1 - h2**2)
        dz = d2 @ p["W2"].T
        kl_mu, kl_s = self.kl_grad(mu, s)
        dm, ds = dz + kl_mu / B, dz * eps * slope + kl_s / B
        d1 = (dm @ p["Wm"].T + ds @ p["Ws"].T) * (1 - h1**2)
        layers = {"1": (x, d1), "m": (h1, dm), "s": (h1, ds), "2": (z, d2), "3": (h2, d3)}
        grad = {"W" + n: a.T @ d for n, (a, d) in layers.items()}
        return loss, grad | {"b" + n: d.sum(axis=0) for n, (a, d) in layers.items()}


# %%
# We train it with Adam; the pixels are binarized again in each epoch.


def train(vae, epochs=30, rate=3e-3, batch=100):
    """Return the loss of each epoch, as the code of the model computes it."""
    rng, curve, step = np.random.default_rng(1), [], 0
    mean = {k: np.zeros_like(a) for k, a in vae.p.items()}
    square = {k: np.zeros_like(a) for k, a in vae.p.items()}
    for epoch in range(epochs):
        x = datasets.binarize(grays, rng)[rng.permutation(len(grays))]
        losses = []
        for start in range(0, len(x), batch):
            loss, grad = vae.loss_and_grad(x[start : start + batch])
            losses.append(loss)
            step += 1
            for k, g in grad.items():
                mean[k] += 0.1 * (g - mean[k])
                square[k] += 0.001 * (g**2 - square[k])
                m, v = mean[k] / (1 - 0.9**step), square[k] / (1 - 0.999**step)
                vae.p[k] -= rate * (1 - epoch / epochs) * m / (np.sqrt(v) + 1e-8)
        curve.append(np.mean(losses))
    return curve


broken = HandMadeVAE()
broken_curve = train(broken)
epochs = np.arange(1, len(broken_curve) + 1)

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(epochs, broken_curve, "C3-")
ax.set(
    xlabel="epoch", ylabel="loss (nats per digit)", title="the broken model: its training curve"
)
print(f"last loss {broken_curve[-1]:.2f} nats per digit")
assert np.diff(broken_curve).max() < 0.5 and broken_curve[-1] < 23

# %%
# The curve decreases and then hardly changes. We also look at some reconstructions of test digits.

few = test[:12]
fig, axes = plt.subplots(2, 1, figsize=(7, 2.1), layout="constrained")
plotting.image_grid(few, digits.image_shape, ax=axes[0], columns=12)
axes[0].set_title("digits", fontsize=9)
mu, _ = broken.encode(few)
plotting.image_grid(sigmoid(broken.decode(mu)), digits.image_shape, ax=axes[1], columns=12)
axes[1].set_title("the broken model: mean of p(x|z) at z = μ(x)", fontsize=9)

# %%
# The reconstructions resemble the digits. Nothing in these pictures shows that something is wrong.
#
# The examination
# ---------------
# A :class:`numpyvae.clinic.Subject` takes the functions of a model as they are. It must know how the
# random numbers are seeded, because most tests repeat a call with the same noise.


def subject_of(vae, name, **more):
    """Hand over a model to the clinic."""

    def seed(number):
        vae.rng = np.random.default_rng(number)

    return clinic.Subject(
        name=name,
        encode=vae.encode,
        decode=vae.decode,
        loss=vae.loss,
        seed=seed,
        scale="logvar",
        x=test[:40],
        **more,
    )


def pieces(vae):
    return {"sample_z": vae.sample, "kl": vae.kl, "reconstruction": vae.reconstruction}


report = clinic.examine(subject_of(broken, "broken model", **pieces(broken)))
print(report)
assert set(report.names) == {"log σ² read as log σ in the sampler", "KL averaged over latents"}

# %%
# The report begins with what the clinic assumed or found: the meaning of s, of the output of the decoder,
# and whether the loss is a sum or a mean over the rows of a batch. Check these lines first. Then each
# line is one test. Two tests found something wrong:
#
# - *log σ² read as log σ in the sampler.* The draw is z = μ + exp(s) ε. But s is log σ² in the KL, so it
#   must be exp(½ s). The clinic does not judge by names such as ``std`` or ``logvar``. It calls ``sample``
#   with the same noise and several values of s. The ratios of the draws are those of exp(s).
# - *KL averaged over latents.* In Eq. (11) the KL is the sum over the 8 latents. A mean is a KL with the
#   weight β = 1/8.
#
# Both bugs leave the loss a smooth function with a correct gradient. A check of the gradient finds
# neither of them.
#
# The corrected model
# -------------------
# Each bug is corrected in one line. The derivatives change with their functions.


class CorrectedVAE(HandMadeVAE):
    def std(self, s):
        return np.exp(0.5 * s), 0.5 * np.exp(0.5 * s)

    def kl(self, mu, s):
        return 0.5 * (mu**2 + np.exp(s) - s - 1).sum(axis=1)

    def kl_grad(self, mu, s):
        return mu, 0.5 * (np.exp(s) - 1)


corrected = CorrectedVAE()
corrected_curve = train(corrected)
report = clinic.examine(subject_of(corrected, "corrected", **pieces(corrected)))
print(str(report).splitlines()[0], report.counts)
assert report.ok and not report.names

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(epochs, broken_curve, "C3-", label="broken: its own loss")
ax.plot(epochs, corrected_curve, "C0--", label="corrected: −ELBO")
ax.set(xlabel="epoch", ylabel="loss (nats per digit)", title="the training curves of both models")
ax.legend()
print(
    f"last loss: broken {broken_curve[-1]:.2f}, corrected {corrected_curve[-1]:.2f} nats per digit"
)
assert broken_curve[-1] < corrected_curve[-1] - 1

# %%
# The loss of the broken model is *lower*. This does not mean that the model is better: the two curves are
# different functions. The broken loss counts only an eighth of the KL, so it is not an upper bound of
# −log p(x), and it must not be compared with any ELBO. To compare the models we need one quantity that
# both have: log p(x) of the decoder, with z drawn from the prior.
#
# log p(x) of a model from elsewhere
# ----------------------------------
# A :class:`numpyvae.clinic.ForeignVAE` needs a decoder, and for annealing the gradient of its outputs with
# respect to z. Two lower bounds on log p(x) are then available (tutorial 9): L_K, the importance-weighted
# bound, and annealed importance sampling (AIS). L_K depends on an encoder. We take the q with which each
# decoder was trained: the broken sampler has σ = exp(s), so its log σ² is 2s. AIS that starts from the
# prior needs no encoder.


def foreign(vae, encode=None):
    def decode(z):
        h = np.tanh(z @ vae.p["W2"] + vae.p["b2"])
        back = vae.p["W2"].T, vae.p["W3"].T
        return h @ vae.p["W3"] + vae.p["b3"], lambda d: ((d @ back[1]) * (1 - h**2)) @ back[0]

    return clinic.ForeignVAE(
        decode, latent_dim=8, data_dim=64, likelihood="bernoulli", encode=encode
    )


def as_drawn(x):
    mu, s = broken.encode(x)
    return mu, 2 * s


rows = test[:100]
setting = {"n_temperatures": 300, "n_chains": 8, "initial": "prior"}
models = {"broken": foreign(broken, as_drawn), "corrected": foreign(corrected, corrected.encode)}
importance, annealed, gap = {}, {}, {}
for name, model in models.items():
    importance[name] = bounds.importance_log_likelihood(model, rows, 1000)
    annealed[name] = bounds.annealed_log_likelihood(model, rows, **setting).log_lower
    both = bounds.sandwich(model, 40, **setting)
    gap[name] = mean_and_error(both.log_upper - both.log_lower)
    for title, (mean, error) in (
        ("L_1000", mean_and_error(importance[name])),
        ("AIS", mean_and_error(annealed[name])),
        ("reverse AIS − AIS, simulated digits", gap[name]),
    ):
        print(f"{name}: {title} {mean:.2f} ± {error:.2f} nats per digit")

difference = annealed["corrected"] - annealed["broken"]
gain, error = mean_and_error(difference)
print(f"AIS, corrected − broken: {gain:.2f} ± {error:.2f} nats per digit")

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
for name, color, style in (("broken", "C3", "s-"), ("corrected", "C0", "o--")):
    means, errors = zip(*(mean_and_error(b[name]) for b in (importance, annealed)))
    left.errorbar((0, 1), means, errors, fmt=style, color=color, capsize=4, label=name)
left.set(xticks=(0, 1), xticklabels=("$L_{1000}$", "AIS"), xlim=(-0.4, 1.4))
left.set(ylabel="bound on log p(x) (nats per digit)", title="two lower bounds, 100 test digits")
left.legend(loc="lower right")
right.hist(difference, bins=20, color="0.75")
right.axvline(0, color="black", linewidth=1)
right.axvline(gain, color="C0", linestyle="--")
right.set(xlabel="AIS: corrected − broken (nats)", ylabel="number of digits")
right.set(yticks=range(0, 16, 5))
right.set_title(f"mean {gain:.2f} ± {error:.2f} (dashed)")
assert gain > 1 and gain > 8 * error
assert all(abs(g) < 0.5 for g, _ in gap.values())
assert importance["broken"].mean() < annealed["broken"].mean() - 2
assert abs(importance["corrected"].mean() - annealed["corrected"].mean()) < 0.2

# %%
# All bars are standard errors over the digits. Consider first the broken model in the left picture. Its
# two bounds differ by several nats. Both are valid, but L_1000 is loose: the q of the broken encoder is much
# too narrow, so that 1000 draws from it miss most of the posterior. Which one is close to log p(x)? Data
# that the model itself simulates answer this question, because reverse AIS gives an upper bound for them.
# The gap between the two is a few tenths of a nat or less for both models, so AIS is tight and we use it.
#
# The right picture compares the models digit by digit. The standard error of the mean *difference* is
# small, because the digits are the same. Correcting two lines raises log p(x) by more than a nat per
# digit, although the loss is seven nats higher.
#
# Samples from the prior show the same defect. With the weight 1/8 the KL hardly keeps the codes of the
# digits near the prior, so that many draws from N(0, I) lie where the decoder was never trained.

z = np.random.default_rng(3).standard_normal((24, 8))
fig, axes = plt.subplots(2, 1, figsize=(7, 2.9), layout="constrained")
for ax, name, vae in ((axes[0], "broken", broken), (axes[1], "corrected", corrected)):
    plotting.image_grid(sigmoid(vae.decode(z)), digits.image_shape, ax=ax, columns=12)
    ax.set_title(f"{name}: mean of p(x|z) at z drawn from the prior", fontsize=9)

# %%
# Exercises
# ---------

# %%
# 1. Give the clinic only ``loss``, ``encode``, ``decode`` and ``seed``, without the pieces. Does it find
#    the same two bugs?

# %%
# Yes. Both are found from the values of the loss alone, at inputs that the clinic chooses; the
# pieces are not needed for these two.

report = clinic.examine(subject_of(broken, "without its pieces"))
print(report.names)
assert set(report.names) == {"log σ² read as log σ in the sampler", "KL averaged over latents"}

# %%
# 2. Correct only the sampler, or only the KL. Does each of the two bugs cost something on its own?

# %%
# Both do: with only one of them corrected, the model is a few tenths of a nat or more below the
# corrected one. The two bugs do not compensate each other, since they act in different places: one changes
# the draws of z, the other the weight of the KL.


class OnlySampler(HandMadeVAE):
    std = CorrectedVAE.std


class OnlyKL(HandMadeVAE):
    kl, kl_grad = CorrectedVAE.kl, CorrectedVAE.kl_grad


lost = {}
for name, vae in (
    ("only the sampler corrected", OnlySampler()),
    ("only the KL corrected", OnlyKL()),
):
    train(vae)
    values = bounds.annealed_log_likelihood(foreign(vae), rows, **setting).log_lower
    lost[name], error = mean_and_error(annealed["corrected"] - values)
    print(f"{name}: {lost[name]:.2f} ± {error:.2f} nats below the corrected model")
assert all(0.2 < loss < gain + 0.2 for loss in lost.values())

# %%
# 3. A reader says: "The KL has the weight 1/8 by intention." Declare ``beta=1/8``. What does the clinic say
#    now?

# %%
# It names one bug in place of two. A weight that was declared is an objective of its own and no
# mistake, and the report treats it as such; that the sampler reads log σ² as log σ is wrong with
# any weight. (The objective is then no bound on log p(x), and its value should not be reported as
# an ELBO.)

report = clinic.examine(subject_of(broken, "β = 1/8 declared", beta=1 / 8, **pieces(broken)))
print(report.names)
assert report.names == ("log σ² read as log σ in the sampler",)

plt.show()
