"""
A first variational auto-encoder
================================

We train a VAE on 3823 scanned digits and examine the result. Sections 3.5 to 3.7 of the notes
explain each figure: what is learned, what is inferred, and how one of the two terms of the evidence
lower bound rises while the other falls.

:Aim: to train a VAE, and to interpret its learning curves and figures.
:You need: sections 1 and 3.4 of the notes, for the ELBO of Eq. (11).
:Time: about ten seconds.
"""

# %%
# The data
# --------
# Each digit is an 8×8 image. A pixel is the number of black points in a 4×4 block of the scan, from
# 0 to 16, so x/16 is the fraction of black points. We use this fraction as the probability of a
# black pixel, and draw a new binary image from it in each epoch, because a Bernoulli variable is
# 0 or 1 and not gray.

import matplotlib.pyplot as plt
import numpy as np

import numpyvae
from numpyvae import Adam, cosine_schedule, datasets, plotting

digits = datasets.load_digits()
grays = digits.grays("train")
rng = np.random.default_rng(0)
x_test = datasets.binarize(digits.grays("test"), rng)

one_of_each = grays[[np.flatnonzero(digits.y_train == label)[0] for label in range(10)]]
fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 2.2), layout="constrained")
plotting.image_grid(one_of_each, digits.image_shape, ax=top, columns=10)
top.set_title("fraction of black points, one digit of each class")
plotting.image_grid(datasets.binarize(one_of_each, rng), digits.image_shape, ax=bottom, columns=10)
bottom.set_title("one binary draw of each")

# %%
# The model
# ---------
# The decoder p(x|z) maps a point z of the plane to 64 pixel probabilities. The encoder q(z|x) maps
# an image to a Gaussian distribution on this plane. We use two latent variables, because the plane
# can then be plotted.

vae = numpyvae.VAE(data_dim=64, latent_dim=2, hidden=(200,), likelihood="bernoulli")
print(vae)

# %%
# Training: one objective, two sets of parameters
# -----------------------------------------------
# Section 3.5 of the notes maximizes one function of the two sets of parameters φ and θ,
#
# .. math::
#    \mathrm{ELBO}(\phi, \theta) = & \ \mathbb{E}_{q_\phi(z|x)}[\log p_\theta(x|z)] \\
#    & - D_\mathrm{KL}(q_\phi(z|x) \,\|\, p(z)),
#
# which is Eq. (11). Maximizing over φ makes the bound tighter; this is variational inference.
# Maximizing over θ makes the data more probable; this is learning. ``fit`` updates both at each
# step. With ``update="phi"`` or ``update="theta"`` it updates only one of them, as in section 3.6.

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
# Compare the curves. The KL is positive from the first epoch on, because q(z|x) can contain
# information about x only if it differs from the prior. After the first epoch it is about 1.9 nats. In
# the next epochs it *falls*, while the reconstruction term rises: the encoder learns to use fewer nats,
# and the decoder to use them better. Later both rise slowly. The ELBO is their difference.

kl_curve, reconstruction = history["valid_kl"], history["valid_reconstruction"]
assert kl_curve[0] > 1.5 and kl_curve[:10].min() < kl_curve[0] - 0.2
assert kl_curve[-1] > kl_curve[:10].min() + 0.1
assert reconstruction[-1] > reconstruction[9] + 0.3 > reconstruction[0] + 1

elbo, kl = history["valid_elbo"][-1], history["valid_kl"][-1]
print(f"test ELBO {elbo:.2f} nats per digit; its KL term is {kl:.2f} nats")

# %%
# How far is the bound from log p(x)?
# -----------------------------------
# By Eq. (9), the gap is the KL between q(z|x) and the true posterior. An importance-weighted
# average of many draws is a much tighter bound, and we use it as an estimate of log p(x).

log_p = numpyvae.importance_log_likelihood(vae, x_test, n_importance=500)
print(f"log p(x) = {log_p.mean():.2f} nats, so the gap is {log_p.mean() - elbo:.2f} nats")

# %%
# What the latent variables encode
# --------------------------------
# Section 3.7 combines encoder and decoder: an image is encoded and then decoded. Two latent variables
# keep only a part of an image: some digits come back as themselves, others as a mixture of similar
# digits. The figure shows the mean of p(x|z) at the mean of q(z|x). It illustrates the model, but it is
# not a term of the ELBO.

of_each = np.concatenate([np.flatnonzero(digits.y_test == label)[:2] for label in range(10)])
plotting.plot_reconstructions(vae, x_test[of_each], digits.image_shape)

# %%
# The latent plane
# ----------------
# The figure shows each test digit at the mean of its q(z|x). Training did not use the labels.
# Similar digits are close together because p(x|z) is similar for neighboring points z.

plotting.plot_latent_space(vae, x_test, digits.y_test)

# %%
# Can one tell from the two numbers which digit it is? Only in part, since the classes overlap. We take
# the class of the nearest training digit as a guess. In the plane this is right for less than half of
# the test digits (a random guess is right for a tenth of them), and for about three quarters if the
# distance is measured between the 64 pixels.


def nearest_class(train, test):
    """Return the class of the nearest training row for each test row."""
    squares = (train**2).sum(axis=1) - 2 * test @ train.T  # without |test|², the same for all
    return digits.y_train[squares.argmin(axis=1)]


x_train = datasets.binarize(grays, rng)
codes_train, codes_test = (vae.encode(x)[0] for x in (x_train, x_test))
in_plane = (nearest_class(codes_train, codes_test) == digits.y_test).mean()
in_pixels = (nearest_class(x_train, x_test) == digits.y_test).mean()
print(
    f"class of the nearest digit is right: {in_plane:.0%} in the plane, {in_pixels:.0%} in pixels"
)
assert 0.3 < in_plane < 0.55 and in_pixels > 0.7

# %%
# The generative model
# --------------------
# We decode a grid of points z. The grid is spaced so that each cell has the same prior probability,
# as in Kingma & Welling 2013, Figure 4. Across the figure, the digits change gradually into one
# another.

plotting.plot_manifold(vae, digits.image_shape)

# %%
# Exercises
# ---------
# 1. How much better is the test ELBO with ten latent variables? Before you run the code, predict
#    whether each assertion is true.

# %%
# Both assertions are true. The test ELBO rises by more than 1.5 nats, because ten latents keep more
# of each image: the reconstruction term gains more than the KL costs. The KL is larger for the same
# reason: information about x in z makes the KL larger. So a larger KL is no sign of a worse model.

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
# 2. The reconstruction term of Eq. (11) is an average over z ~ q(z|x). If the mean of q is used
#    instead, the value is larger, and it is a common mistake to report it as part of the ELBO. How
#    large is the difference?

# %%
# The difference is several tenths of a nat or more. log p(x|z) is highest near the mean of q and
# falls on both sides of it, so that its value at the mean is above its average over q (nearly the
# case of Jensen's inequality for a concave function). A value at the mean is therefore no bound on
# log p(x): the ELBO would be too high by the same amount.

mu, logvar = vae.encode(x_test)
at_mean, _ = vae.log_likelihood(x_test, mu[None])
assert at_mean.mean() > history["valid_reconstruction"][-1] + 0.5

plt.show()
