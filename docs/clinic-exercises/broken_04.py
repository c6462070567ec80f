import numpy as np

rng = np.random.default_rng(0)
x = (rng.random((40, 8)) < 0.4).astype(float)
W1, Wm, Ws = rng.normal(0, 0.8, (8, 6)), rng.normal(0, 0.8, (6, 2)), rng.normal(0, 0.5, (6, 2))
W2, W3 = rng.normal(0, 1, (2, 6)), rng.normal(0, 1, (6, 8))


def seed(number):
    global rng
    rng = np.random.default_rng(number)


def encode(x):  # μ and σ
    h = np.tanh(x @ W1)
    return h @ Wm, np.exp(h @ Ws)


def sample_z(mu, sigma):
    return mu + sigma * rng.standard_normal(mu.shape)


def decode(z):  # logits
    return np.tanh(z @ W2) @ W3


def kl(mu, sigma):
    return (0.5 * (mu**2 + sigma**2 - 1) - np.log(sigma)).sum(axis=1)


def reconstruction(x, logits):
    p = np.clip(1 / (1 + np.exp(-logits)), 0.001, 0.999)
    return -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1)


def loss(x):
    mu, sigma = encode(x)
    return (reconstruction(x, decode(sample_z(mu, sigma))) + kl(mu, sigma)).sum()
