"""
A first variational auto-encoder
================================

We train a VAE on 3823 scanned digits and look at what came out. Each picture is read with
sections 3.5 to 3.7 of the notes: what is learned, what is inferred, and how the two terms of the
evidence lower bound pull against each other.

:Aim: train a VAE, and read what its curves and pictures say.
:You need: sections 1 and 3.4 of the notes, for the ELBO of Eq. (11).
:Time: about ten seconds.
"""

# %%
# The data
# --------
# Each digit is an 8×8 image. Every pixel counts the ink in a 4×4 block of the scan, 0 to 16, so
# x/16 is the fraction of ink. We read that fraction as the probability of a black pixel and draw a
# black-and-white image from it, a fresh one in each epoch: a Bernoulli likelihood is about zeros
# and ones, not about grays.

import matplotlib.pyplot as plt
import numpy as np

import numpyvae
from numpyvae import datasets, plotting
from numpyvae.core.optimizers import Adam, cosine_schedule

digits = datasets.load_digits()
grays = digits.grays("train")
rng = np.random.default_rng(0)
x_test = datasets.binarize(digits.grays("test"), rng)

fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
plotting.image_grid(grays[:25], digits.image_shape, ax=left, columns=5)
left.set_title("fraction of ink")
plotting.image_grid(datasets.binarize(grays[:25], rng), digits.image_shape, ax=right, columns=5)
right.set_title("one draw from it")

# %%
# The model
# ---------
# The decoder p(x|z) turns a point z of a plane into 64 pixel probabilities. The encoder q(z|x)
# turns an image into a Gaussian on that plane. With two latent dimensions everything can be drawn.

vae = numpyvae.VAE(data_dim=64, latent_dim=2, hidden=(200,), likelihood="bernoulli")
print(vae)

# %%
# Training: one bound, two searches
# ---------------------------------
# Section 3.5 of the notes maximizes one function of both sets of parameters,
#
# .. math::
#    \mathrm{ELBO}(\phi, \theta) = & \ \mathbb{E}_{q_\phi(z|x)}[\log p_\theta(x|z)] \\
#    & - D_\mathrm{KL}(q_\phi(z|x) \,\|\, p(z)),
#
# which is Eq. (11). Moving φ makes the bound tighter: variational inference. Moving θ makes the data
# more probable: learning. ``fit`` moves both at each step (``update="phi"`` or ``update="theta"``
# would move one, as in section 3.6).

history = numpyvae.fit(
    vae,
    grays,
    epochs=60,
    transform=datasets.binarize,
    x_valid=x_test,
    optimizer=Adam(3e-3),
    schedule=cosine_schedule(60),
)
plotting.plot_history(history)

# %%
# Read the curves together. In the first epochs the KL is near zero: the encoder ignores x and
# returns the prior. It then *rises*, since information about x has to be paid for in nats of KL, and
# the reconstruction term rises by more than the price. The ELBO is their difference.

elbo, kl = history["valid_elbo"][-1], history["valid_kl"][-1]
print(f"test ELBO {elbo:.2f} nats per digit, of which the KL costs {kl:.2f}")

# %%
# How far is the bound from log p(x)?
# -----------------------------------
# Eq. (9) says that the gap is the KL between q(z|x) and the true posterior. An importance-weighted
# average of many draws gives log p(x) almost without a gap.

log_p = numpyvae.importance_log_likelihood(vae, x_test, n_importance=500)
print(f"log p(x) = {log_p.mean():.2f} nats, so the gap is {log_p.mean() - elbo:.2f} nats")

# %%
# What the code keeps
# -------------------
# Section 3.7 puts both halves together: an image is encoded, and decoded again. Two numbers per
# digit keep which digit it is and its slant, and lose the rest. These are means of p(x|z) at the
# mean of q(z|x): a picture of the model, not a term of the ELBO.

plotting.plot_reconstructions(vae, x_test[:20], digits.image_shape)

# %%
# The latent plane
# ----------------
# Each test digit at the mean of its q(z|x). No label was used in training: digits that look alike
# lie together because neighbors in z have similar p(x|z).

plotting.plot_latent_space(vae, x_test, digits.y_test)

# %%
# The generative model
# --------------------
# The decoder on a grid of z, spaced so that each cell holds the same share of the prior: the
# picture of Kingma & Welling 2013, Figure 4. Move across it and one digit becomes another.

plotting.plot_manifold(vae, digits.image_shape)

# %%
# Exercises
# ---------
# 1. With ten latent dimensions, how much better is the test ELBO? Each part of this assertion is
#    yours to predict before you run it.

deeper = numpyvae.VAE(data_dim=64, latent_dim=10, hidden=(200,))
history_10 = numpyvae.fit(
    deeper,
    grays,
    epochs=60,
    transform=datasets.binarize,
    x_valid=x_test,
    optimizer=Adam(3e-3),
    schedule=cosine_schedule(60),
)
assert history_10["valid_elbo"][-1] > elbo + 1.5
assert history_10["valid_kl"][-1] > kl

# %%
# 2. The reconstruction of Eq. (11) averages over z ~ q(z|x). Using the mean of q instead gives a
#    larger number, and calling it the ELBO is a classic mistake. By how much would it flatter us?

mu, logvar = vae.encode(x_test)
at_mean, _ = vae.log_likelihood(x_test, mu[None])
assert at_mean.mean() > history["valid_reconstruction"][-1] + 0.5

plt.show()
