"""VAEs in PyTorch, in the styles that people write: right ones, and one with a switch for bugs."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from torch.nn import functional as F

D, J, H = 6, 2, 5


def kl_rows(mu, logvar):
    return 0.5 * (mu.pow(2) + logvar.exp() - logvar - 1).sum(1)


def larger(module):
    """Weights of a larger scale, so that outputs and rows differ."""
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(2.0)
    return module


class Dense(nn.Module):
    """encode, reparameterize, decode; `forward` returns (recon, mu, logvar)."""

    def __init__(self, bug=""):
        super().__init__()
        self.bug = bug
        self.fc1, self.fc21, self.fc22 = nn.Linear(D, H), nn.Linear(H, J), nn.Linear(H, J)
        self.fc3, self.fc4 = nn.Linear(J, H), nn.Linear(H, D)

    def encode(self, x):
        h = torch.tanh(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def noise(self, std):
        bug = self.bug
        if bug == "uniform":
            return torch.rand_like(std)
        if bug == "one eps per batch":
            return torch.randn_like(std[:1])
        if bug == "first eps for all":
            return torch.randn_like(std)[:1]
        if bug == "one eps for latents":
            return torch.randn_like(std)[:, :1]
        if bug == "fixed eps":
            return torch.randn(std.shape, generator=torch.Generator().manual_seed(1))
        return torch.randn_like(std) * (0.01 if bug == "small noise" else 1)

    def reparameterize(self, mu, logvar):
        bug = self.bug
        std = torch.exp({"std = exp(s)": 1.0, "std = exp(s/4)": 0.25}.get(bug, 0.5) * logvar)
        if bug == "mean decoded" or (bug == "mean in evaluation" and not self.training):
            return mu
        if bug == "mu + sigma":
            return mu + std
        if bug == "sigma detached":
            std = std.detach()
        z = mu + std * self.noise(std)
        return z.detach() if bug == "z detached" else z * (0.18215 if bug == "z scaled" else 1)

    def decode(self, z):
        return torch.sigmoid(self.fc4(torch.tanh(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def loss_function(bug=""):
    """The loss of `Dense`: the sum over a batch of cross-entropy and KL, or with a bug."""

    def loss(recon_x, x, mu, logvar):
        rec = entropy(recon_x, x)
        s = 2 * logvar if bug == "KL reads log sigma" else logvar
        one = 0 if bug == "KL without -1" else 1
        m2 = 0 if bug == "mu missing" else mu.pow(2)
        terms = 0.5 * (m2 + s.exp() - (0 if bug == "log missing" else s) - one)
        if bug == "prior e^2":
            terms = 0.5 * ((mu.pow(2) + logvar.exp()) / 7.389056098930650 - logvar + 2 - 1)
        kl = terms.mean(1) if bug == "KL mean over latents" else terms.sum(1)
        kl = kl * {"KL without half": 2, "KL sign": -1}.get(bug, 1)
        kl = kl.detach() if bug == "KL detached" else kl
        if bug == "KL sum, BCE mean":
            return rec.sum() / len(x) + kl.sum()
        if bug == "BCE mean, KL sum":
            return rec.mean() + kl.sum()
        if bug == "BCE mean":
            return rec.mean() + kl.mean()
        if bug == "rec /B twice":
            return rec.sum() / len(x) ** 2 + kl.mean()
        return (rec.sum() + kl.sum()) / (16 if bug == "nominal batch" else 1)

    def entropy(p, x):
        if bug == "clipped":
            p = p.clamp(1e-3, 1 - 1e-3)
        if bug == "one term":
            return -x * torch.log(p)
        if bug == "sigmoid twice":
            return F.binary_cross_entropy_with_logits(p, x, reduction="none")
        if bug == "swapped":
            return F.binary_cross_entropy(x, p, reduction="none")
        return F.binary_cross_entropy(p, x, reduction="none")

    return loss


class Several(Dense):
    """`forward` returns the input, too; the loss takes *args and returns a dict."""

    def forward(self, x, **kwargs):
        mu, logvar = self.encode(x)
        return [self.decode(self.reparameterize(mu, logvar)), x, mu, logvar]

    def loss_function(self, *args, **kwargs):
        recons, x, mu, log_var = args
        rec = F.binary_cross_entropy(recons, x, reduction="none").sum(1).mean()
        kld = kl_rows(mu, log_var).mean()
        return {"loss": rec + kld, "kld": kld.detach()}


class Step(Dense):
    """A step of training on (x, labels), with a record of figures."""

    def training_step(self, batch, batch_idx):
        x, _ = batch
        recon, mu, logvar = self(x)
        rec = F.binary_cross_entropy(recon, x, reduction="sum") / len(x)
        self.recorded = rec.item()
        return rec + kl_rows(mu, logvar).mean()


class Halves(nn.Module):
    """Networks `encoder` and `decoder`; logits; log σ; nested outputs; `torch.normal`."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, 2 * J))
        self.decoder = nn.Sequential(nn.Linear(J, H), nn.Tanh(), nn.Linear(H, D))

    def forward(self, x):
        log_sigma, mu = self.encoder(x).chunk(2, -1)
        z = torch.normal(torch.zeros_like(mu), torch.ones_like(mu)) * log_sigma.exp() + mu
        return self.decoder(z), (log_sigma, mu), z


def logits_loss(x, logits, log_sigma, mu):
    rec = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    return (rec + kl_rows(mu, 2 * log_sigma)).mean() / D


class Distributions(nn.Module):
    """torch.distributions throughout; `elbo` is maximized."""

    def __init__(self):
        super().__init__()
        self.q, self.heads = nn.Linear(D, H), nn.Linear(H, 2 * J)
        self.p = nn.Sequential(nn.Linear(J, H), nn.Tanh(), nn.Linear(H, D))

    def encode(self, x):
        mu, s = self.heads(torch.tanh(self.q(x))).chunk(2, -1)
        return Independent(Normal(mu, F.softplus(s) + 1e-4), 1)

    def decode(self, z):
        return Independent(Bernoulli(logits=self.p(z)), 1)

    def elbo(self, x):
        q = self.encode(x)
        prior = Independent(Normal(torch.zeros(J), torch.ones(J)), 1)
        return (self.decode(q.rsample()).log_prob(x) - kl_divergence(q, prior)).mean()


class Sampled(Distributions):
    """The KL at the draw, as in Eq. (7)."""

    def elbo(self, x):
        q = self.encode(x)
        z = q.rsample()
        prior = Independent(Normal(torch.zeros(J), torch.ones(J)), 1)
        return self.decode(z).log_prob(x) + prior.log_prob(z) - q.log_prob(z)


class Positive(Dense):
    """log σ² is positive, and the KL is at the draw."""

    def encode(self, x):
        mu, s = super().encode(x)
        return mu, F.softplus(s)

    def loss(self, x):
        mu, logvar = self.encode(x)
        z = self.draw(mu, logvar)
        rec = F.binary_cross_entropy(self.decode(z), x, reduction="none").sum(1)
        log_q = -0.5 * (logvar + (z - mu) ** 2 / logvar.exp()).sum(1)
        return (rec + log_q + 0.5 * z.pow(2).sum(1)).mean()

    def draw(self, mu, logvar):
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    reparameterize = None


class Gaussian(Dense):
    """A decoder with two outputs, mean and log σ², or the squared error alone."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(H, D)

    def decode(self, z):
        h = torch.tanh(self.fc3(z))
        return self.fc4(h), 0.3 * self.head(h)

    def loss(self, x):
        mu, logvar = self.encode(x)
        mean, s = self.decode(self.reparameterize(mu, logvar))
        rec = 0.5 * ((x - mean) ** 2 / s.exp() + s + 1.8378770664093453).sum(1)
        return (rec + kl_rows(mu, logvar)).mean()


class Variance(Gaussian):
    """The second output of the decoder is a variance."""

    def decode(self, z):
        mean, s = super().decode(z)
        return mean, torch.sigmoid(s) + 0.1

    def loss(self, x):
        mu, logvar = self.encode(x)
        mean, v = self.decode(self.reparameterize(mu, logvar))
        rec = 0.5 * ((x - mean) ** 2 / v + torch.log(2 * 3.14 * v)).sum(1)
        return (rec + kl_rows(mu, logvar)).mean()


class OfSigma(Dense):
    """`reparameterize` takes σ, which `forward` computes."""

    def reparameterize(self, mean, var):
        return mean + var * torch.randn_like(var)

    def forward(self, x):
        mean, log_var = self.encode(x)
        return self.decode(self.reparameterize(mean, torch.exp(0.5 * log_var))), mean, log_var


class Squeezed(Dense):
    """Code that needs two rows at least."""

    def forward(self, x):
        mu, logvar = (part.squeeze() for part in self.encode(x))
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def two_terms(recon, x, mu, logvar):
    rec = F.binary_cross_entropy(recon, x, reduction="sum")
    return rec, kl_rows(mu, logvar).sum()


def squared_loss(recon, x, mu, logvar):
    return F.mse_loss(recon, x) * 30 + kl_rows(mu, logvar).mean()


class Images(nn.Module):
    """Convolutions on (1, 8, 8), with batch normalization and layers of dropout."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 2, 4, 4), nn.BatchNorm2d(2), nn.LeakyReLU(), nn.Dropout(0.2), nn.Flatten()
        )
        self.mu, self.var = nn.Linear(8, J), nn.Linear(8, J)
        self.decoder = nn.Sequential(
            nn.Linear(J, 8), nn.Unflatten(1, (2, 2, 2)), nn.BatchNorm2d(2), nn.ReLU(),
            nn.ConvTranspose2d(2, 1, 4, 4), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.var(h)
        z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
        return self.decoder(z), mu, logvar


def image_loss(recon, x, mu, logvar):
    rec = F.binary_cross_entropy(recon, x, reduction="none").sum((1, 2, 3))
    return (rec + kl_rows(mu, logvar)).mean()


class Dropped(Dense):
    """Functions of dropout."""

    def encode(self, x):
        h = F.dropout(torch.tanh(self.fc1(x)), 0.3, self.training)
        return self.fc21(h), self.fc22(h)


class Signed(Dense):
    """The second output is σ, and may be negative."""

    def reparameterize(self, mu, sigma):
        return mu + sigma * torch.randn_like(sigma)


def signed_loss(recon, x, mu, sigma):
    rec = F.binary_cross_entropy(recon, x, reduction="sum")
    return rec + kl_rows(mu, sigma.pow(2).log()).sum()


class Single(Dense):
    """Code that works in float32 alone."""

    def encode(self, x):
        h = torch.tanh(self.fc1(x.float()))
        return self.fc21(h), self.fc22(h)
