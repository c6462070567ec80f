import numpy as np

rng = np.random.default_rng(0)
x = (rng.random((40, 8)) < 0.4).astype(float)
W1, Wm, Ws = rng.normal(0, 0.8, (8, 6)), rng.normal(0, 0.8, (6, 2)), rng.normal(0, 0.5, (6, 2))
W2, W3 = rng.normal(0, 1, (2, 6)), rng.normal(0, 1, (6, 8))


def seed(number):
    global rng
    rng = np.random.default_rng(number)


def encode(x):  # μ and log σ
    h = np.tanh(x @ W1)
    return h @ Wm, h @ Ws


def sample_z(mu, log_sigma):
    return mu + np.exp(log_sigma) * rng.standard_normal(mu.shape)


def decode(z):  # logits
    return np.tanh(z @ W2) @ W3


def kl(mu, log_sigma):
    return -0.5 * np.sum(1 + log_sigma - mu**2 - np.exp(log_sigma), axis=1)


def reconstruction(x, logits):
    return np.sum(np.maximum(logits, 0) - x * logits + np.log1p(np.exp(-np.abs(logits))), axis=1)


def loss(x):
    mu, log_sigma = encode(x)
    return np.mean(reconstruction(x, decode(sample_z(mu, log_sigma))) + kl(mu, log_sigma))
