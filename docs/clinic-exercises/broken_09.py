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


def decode(z):  # logits
    return np.tanh(z @ W2) @ W3


def log_normal(z, mu, logvar):
    return -0.5 * ((z - mu) ** 2 / np.exp(logvar) + logvar + np.log(2 * np.pi)).sum(axis=-1)


def log_p(x, n_importance):
    mu, logvar = encode(x)
    log_w = []
    for _ in range(n_importance):
        z = mu + np.exp(0.5 * logvar) * rng.standard_normal(mu.shape)
        logits = decode(z)
        log_x = (x * logits - np.logaddexp(0, logits)).sum(axis=1)
        log_w.append(log_x + log_normal(z, 0.0, 0.0) - log_normal(z, mu, logvar))
    return np.mean(log_w, axis=0)
