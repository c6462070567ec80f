# %% [markdown]
# # Sheet 3: how good is a VAE?
#
# You measure a trained model: the importance-weighted bound, the gap, the latents that it uses,
# and the error that a wrong evaluation makes. The model has two latents, so log p(x) can also be
# computed exactly.

# %%
import numpy as np

import numpyvae
from numpyvae import datasets
from numpyvae.core.distributions import gaussian_kl
from numpyvae.core.elbo import log_joint
from numpyvae.exact import Quadrature

digits = datasets.load_digits()
vae = numpyvae.VAE(data_dim=64, latent_dim=2, hidden=(50,), dtype="float64")
settings = {"epochs": 40, "optimizer": numpyvae.Adam(3e-3), "transform": datasets.binarize}
numpyvae.fit(vae, digits.grays("train"), **settings)
rng = np.random.default_rng(1)
x = datasets.binarize(digits.grays("test")[:50], rng).astype(float)  # B = 50 test digits

# %% [markdown]
# **1 (2 points).** Draw K = 200 values of z from q(z|x) for each digit, and compute the log
# weights log w = log p(x, z) − log q(z|x). `log_joint(vae, x, z)` takes z of the shape (K, B,
# J).

# %%
mu, logvar = vae.encode(x)
K = 200
eps = rng.standard_normal((K, 50, 2))
z = mu + np.exp(0.5 * logvar) * eps
# blank: log q is a sum over the two latents; log w has the shape (200, 50)
log_q = (-0.5 * eps**2 - 0.5 * logvar - 0.5 * np.log(2 * np.pi)).sum(axis=-1)
log_w = log_joint(vae, x, z) - log_q
# end

assert log_w.shape == (K, 50)

# %% [markdown]
# **2 (2 points).** The mean of log w estimates the ELBO, Eq. (7). The logarithm of the mean of w
# is the bound L_K of Burda et al. (2015). Compute both for each digit. `np.logaddexp.reduce`
# avoids an overflow.

# %%
# blank: two arrays of shape (50,)
elbo = log_w.mean(axis=0)
bound = np.logaddexp.reduce(log_w, axis=0) - np.log(K)
# end

assert (bound >= elbo).all()  # Jensen's inequality

# %% [markdown]
# **3 (1 point).** The model has two latents, so quadrature gives log p(x). Compute the mean gap
# of the ELBO and of L_200.

# %%
log_p = Quadrature(vae).log_evidence(x)
# blank: two numbers, in nats
gap_elbo = (log_p - elbo).mean()
gap_bound = (log_p - bound).mean()
# end

assert abs(gap_bound) < gap_elbo / 3

# %% [markdown]
# **4 (2 points).** A frequent error averages log w in place of w when it reports "the log-
# likelihood with K samples". By how many nats is the reported number wrong, averaged over the
# digits?

# %%
# blank: the difference of two of your numbers
error = bound.mean() - elbo.mean()
# end

assert np.isclose(error, gap_elbo - gap_bound)

# %% [markdown]
# **5 (2 points).** A latent is *active* if Var_x(E_q[z]) > 0.01 (Burda et al. 2015). Count the
# active latents, and compute the mean KL in nats, the information about x that z carries at
# most.

# %%
# blank: a count of the columns of mu, and a mean of gaussian_kl(mu, logvar)[0]
active = int((mu.var(axis=0, ddof=1) > 0.01).sum())
rate = gaussian_kl(mu, logvar)[0].mean()
# end

sampled = (log_q + 0.5 * z**2 @ np.ones(2) + np.log(2 * np.pi)).mean()  # the same by the draws
assert active == 2
assert np.isclose(rate, sampled, atol=0.05)

# %% [markdown]
# **6 (3 points).** In words: (a) can L_200 of a single digit be larger than its log p(x)? (b)
# Two papers report −90.1 for L_50 and −89.8 for L_5000 on the same data. Which model is better?
# (c) Why is the mean squared error of the reconstructions no substitute for log p(x)?
#
# <!-- teacher -->
# **Answer to 6.** (a) Yes. L_K is a lower bound in expectation; a single estimate has noise, and
# can be above. (b) This cannot be said: L_5000 is tighter than L_50 for the same model, and the
# difference of 0.3 nats is of the usual size. (c) It does not contain the KL, so a model that
# copies x through a wide code has a small error, and samples from the prior that look like
# nothing. It also fixes σ² without saying so.
