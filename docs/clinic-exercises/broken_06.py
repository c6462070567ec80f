import numpy as np

rng = np.random.default_rng(0)
x = (rng.random((40, 8)) < 0.4).astype(float)
W1, Wm, Ws = rng.normal(0, 0.8, (8, 6)), rng.normal(0, 0.8, (6, 2)), rng.normal(0, 0.5, (6, 2))
W2, W3 = rng.normal(0, 1, (2, 6)), rng.normal(0, 1, (6, 8))


def seed(number):
    global rng
    rng = np.random.default_rng(number)


def encode(x):  # μ and log σ²
    h = np.tanh(x @ W1)
    return h @ Wm, h @ Ws


def sample_z(mu, logvar):
    return mu + np.exp(0.5 * logvar) * rng.standard_normal(mu.shape)


def decode(z):  # probabilities
    return 1 / (1 + np.exp(-np.tanh(z @ W2) @ W3))


def kl(mu, logvar):
    return 0.5 * (mu**2 + np.exp(logvar) - logvar - 1).sum(axis=1)


def reconstruction(x, out):  # the stable form of the cross-entropy
    return (np.logaddexp(0, out) - x * out).sum(axis=1)


def loss(x):
    mu, logvar = encode(x)
    return (reconstruction(x, decode(sample_z(mu, logvar))) + kl(mu, logvar)).mean()
