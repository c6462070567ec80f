# %% [markdown]
# # Sheet 2: a variational auto-encoder by hand
#
# You write the pieces of a VAE for the embedded digits: the KL, the draw, the likelihood, one
# layer and its pullback. Each derivative is compared with the complex step, Im f(x + ih)/h,
# which has no rounding error, since nothing is subtracted. At the end your pieces compute the
# ELBO of a model of the package, and its gradient.

# %%
import numpy as np

import numpyvae
from numpyvae import datasets


def complex_step(f, a, h=1e-30):
    """Return the gradient of f, a function with a real value, at the array a."""
    gradient = np.empty(a.shape)
    for i in np.ndindex(a.shape):
        moved = a.astype(complex)
        moved[i] += 1j * h
        gradient[i] = f(moved).imag / h
    return gradient


rng = np.random.default_rng(0)
mu, logvar = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))  # B = 5 datapoints, J = 2 latents

# %% [markdown]
# **1 (2 points).** Write KL(N(μ, σ²) ‖ N(0, I)) for each datapoint, and its derivatives with
# respect to μ and to log σ² (Kingma & Welling 2013, appendix B).


# %%
# blank: a sum over the latents; two arrays of shape (5, 2)
def kl(mu, logvar):
    return 0.5 * (mu**2 + np.exp(logvar) - logvar - 1).sum(axis=1)


dmu = mu
dlogvar = 0.5 * (np.exp(logvar) - 1)
# end

assert (kl(np.zeros((1, 2)), np.zeros((1, 2))) == 0).all()
assert np.allclose(dmu, complex_step(lambda a: kl(a, logvar).sum(), mu))
assert np.allclose(dlogvar, complex_step(lambda a: kl(mu, a).sum(), logvar))

# %% [markdown]
# **2 (2 points).** Write the draw z = μ + σ ε, and its pullback: for a given derivative dz of a
# function of z, return the derivatives with respect to μ and log σ². The encoder returns log σ²,
# not σ.


# %%
# blank: first find σ from log σ²
def draw(mu, logvar, eps):
    return mu + np.exp(0.5 * logvar) * eps


def pull_draw(dz, logvar, eps):
    return dz, dz * 0.5 * np.exp(0.5 * logvar) * eps


# end

eps, dz = rng.standard_normal((5, 2)), rng.normal(size=(5, 2))
by_hand = pull_draw(dz, logvar, eps)
assert np.isclose(draw(np.zeros(1), np.log([4.0]), np.ones(1))[0], 2)  # σ² = 4, so σ = 2
assert np.allclose(by_hand[0], complex_step(lambda a: (dz * draw(a, logvar, eps)).sum(), mu))
assert np.allclose(by_hand[1], complex_step(lambda a: (dz * draw(mu, a, eps)).sum(), logvar))

# %% [markdown]
# **3 (2 points).** Write log p(x|z) of a Bernoulli from its logits, summed over the pixels, and
# its derivative with respect to the logits. It must not overflow at a logit of 1000.


# %%
# blank: np.logaddexp(0, l) is log(1 + exp(l)) without overflow
def log_prob(x, logits):
    return (x * logits - np.logaddexp(0, logits)).sum(axis=-1)


def dlogits(x, logits):
    return x - 1 / (1 + np.exp(-logits))


# end

pixels, logits = np.array([1.0, 0.0, 1.0]), np.array([0.3, -2.0, 1.0])
assert np.isclose(log_prob(np.ones(1), np.array([-1000.0])), -1000)
assert np.isclose(log_prob(np.zeros(64), np.zeros(64)), -64 * np.log(2))
assert np.allclose(dlogits(pixels, logits), [0.426, -0.119, 0.269], atol=1e-3)

# %% [markdown]
# **4 (3 points).** Write one dense layer with tanh, y = tanh(x W + b), and its pullback: for a
# given dy, return dx, dW and db. (Hint: with a = x W + b, da = dy (1 − y²).)


# %%
# blank: three products
def layer(x, W, b):
    return np.tanh(x @ W + b)


def pull_layer(dy, x, W, b):
    da = dy * (1 - layer(x, W, b) ** 2)
    return da @ W.T, x.T @ da, da.sum(axis=0)


# end

inputs, W, b = rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
dy = rng.normal(size=(5, 4))
dx, dW, db = pull_layer(dy, inputs, W, b)
assert np.allclose(dx, complex_step(lambda a: (dy * layer(a, W, b)).sum(), inputs))
assert np.allclose(dW, complex_step(lambda a: (dy * layer(inputs, a, b)).sum(), W))
assert np.allclose(db, complex_step(lambda a: (dy * layer(inputs, W, a)).sum(), b))

# %% [markdown]
# **5 (3 points).** Put the pieces together: the ELBO of Eq. (11), averaged over the datapoints,
# with one draw. Use the encoder and the decoder of the model below. The assertion compares your
# number with that of `elbo_and_grad`, for the same noise.

# %%
vae = numpyvae.VAE(data_dim=64, latent_dim=2, hidden=(20,), dtype="float64")
x = datasets.binarize(datasets.load_digits().grays("train")[:100], rng).astype(float)
noise = rng.standard_normal((100, 2))

(found_mu, found_logvar), _ = vae.encoder(x)
# blank: draw z, decode it with vae.decoder(z[None])[0][0], which has an axis for L draws, then
# reconstruction − KL
latents = draw(found_mu, found_logvar, noise)
reconstruction = log_prob(x, vae.decoder(latents[None])[0][0])
value = (reconstruction - kl(found_mu, found_logvar)).mean()
# end

assert np.isclose(value, numpyvae.elbo_and_grad(vae, x, noise[None])[0])

# %% [markdown]
# **6 (3 points).** Train the model: 200 steps of gradient *ascent* with the rate 0.02, each on
# the same 100 digits with new noise. `elbo_and_grad` returns the value and the gradient;
# `vae.parameters.flat` is the vector of all parameters, and is changed in place.

# %%
values = []
for _ in range(200):
    noise = rng.standard_normal((1, 100, 2))
    # blank: value and gradient, then a step
    value, gradient = numpyvae.elbo_and_grad(vae, x, noise)
    vae.parameters.flat += 0.02 * gradient
    # end
    values.append(value)

assert np.mean(values[-10:]) > values[0] + 10

# %% [markdown]
# **7 (2 points).** In words: why does the sum of the gradient over draws of ε estimate the
# derivative of an expectation, and what would go wrong if z were drawn by `rng.normal(mu,
# sigma)` without ε?
#
# <!-- teacher -->
# **Answer to 7.** ε has a distribution without parameters, so the derivative may be taken inside
# the expectation: ∂ E_ε[f(μ + σ ε)] = E_ε[f′(z) ∂z/∂μ]. The draws of ε are then a Monte-Carlo
# estimate of the right-hand side. `rng.normal(mu, sigma)` gives the same distribution of z, but
# as a number: how z changes with μ and σ is lost, and no derivative passes through it.
