import numpy as np

rng = np.random.default_rng(0)
x = (rng.random((40, 8)) < 0.4).astype(float)
W1, Wm, Ws = rng.normal(0, 0.8, (8, 6)), rng.normal(0, 0.8, (6, 2)), rng.normal(0, 0.5, (6, 2))
W2, W3 = rng.normal(0, 1, (2, 6)), rng.normal(0, 1, (6, 8))


def seed(number):
    global rng
    rng = np.random.default_rng(number)


prior_log_sigma = 1.0


def encode(x):  # μ and log σ²
    h = np.tanh(x @ W1)
    return h @ Wm, h @ Ws


def sample_z(mu, logvar):
    return mu + np.exp(0.5 * logvar) * rng.random(mu.shape)


def decode(z):  # logits
    return np.tanh(z @ W2) @ W3


def kl(mu, logvar):
    v = np.exp(2 * prior_log_sigma)
    return 0.5 * ((mu**2 + np.exp(logvar)) / v - logvar + np.log(v) - 1).sum(axis=1)


def reconstruction(x, logits):
    return (np.logaddexp(0, logits) - x * logits).sum(axis=1)


def loss(x):
    mu, logvar = encode(x)
    return (reconstruction(x, decode(sample_z(mu, logvar))) + kl(mu, logvar)).mean()
