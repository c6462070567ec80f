import numpy as np

rng = np.random.default_rng(0)
x = (rng.random((40, 8)) < 0.4).astype(float)
shapes = {"W1": (8, 6), "Wm": (6, 2), "Ws": (6, 2), "W2": (2, 6), "W3": (6, 8)}
p = {name: rng.normal(0, 0.8, shape) for name, shape in shapes.items()}


def seed(number):
    global rng
    rng = np.random.default_rng(number)


def encode(x):  # μ and log σ²
    h = np.tanh(x @ p["W1"])
    return h @ p["Wm"], h @ p["Ws"]


def sample_z(mu, logvar):
    return mu + np.exp(0.5 * logvar) * rng.standard_normal(mu.shape)


def decode(z):  # logits
    return np.tanh(z @ p["W2"]) @ p["W3"]


def loss(x):
    mu, logvar = encode(x)
    logits = decode(sample_z(mu, logvar))
    rec = (np.logaddexp(0, logits) - x * logits).sum(axis=1)
    return (rec + 0.5 * (mu**2 + np.exp(logvar) - logvar - 1).sum(axis=1)).mean()


def gradient(x):
    h1 = np.tanh(x @ p["W1"])
    mu, logvar = encode(x)
    sigma = np.exp(0.5 * logvar)
    z = sample_z(mu, logvar)
    eps = (z - mu) / sigma
    h2 = np.tanh(z @ p["W2"])
    d_out = (1 / (1 + np.exp(-h2 @ p["W3"])) - x) / len(x)
    d_h2 = (d_out @ p["W3"].T) * (1 - h2**2)
    d_z = d_h2 @ p["W2"].T
    d_mu = d_z + mu / len(x)
    d_logvar = d_z * eps * sigma + 0.5 * (np.exp(logvar) - 1) / len(x)
    d_h1 = (d_mu @ p["Wm"].T + d_logvar @ p["Ws"].T) * (1 - h1**2)
    grads = (x.T @ d_h1, h1.T @ d_mu, h1.T @ d_logvar, z.T @ d_h2, h2.T @ d_out)
    return dict(zip(shapes, grads))
