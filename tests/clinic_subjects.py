"""Small VAEs in plain NumPy, with a switch for each style and each bug: patients for the clinic.

6 binary pixels, 2 latents, one hidden layer of 5 tanh units in the encoder and in the decoder. The
code shares nothing with the package.
"""

from __future__ import annotations

import numpy as np

from numpyvae.clinic import Subject

D, J, H = 6, 2, 5
SHAPES = {
    "W1": (D, H),
    "b1": (H,),
    "Wm": (H, J),
    "bm": (J,),
    "Ws": (H, J),
    "bs": (J,),
    "W2": (J, H),
    "b2": (H,),
    "W3": (H, D),
    "b3": (D,),
}
SIZES = {k: int(np.prod(shape)) for k, shape in SHAPES.items()}


def sig(a):
    return 1 / (1 + np.exp(-a))


def softplus(a):
    return np.logaddexp(0, a)


class Patient:
    """A VAE with options; `bug` names what is wrong with it."""

    def __init__(
        self,
        seed=0,
        bug="",
        *,
        beta=1.0,
        head="logvar",
        likelihood="bernoulli",
        total="mean",
        scale=1.0,
        out="logits",
        sigma=None,
        draws=1,
        dtype="float64",
        constants=True,
        maximized=False,
        batch_size=16,
        free_bits=0.0,
        floor="latent",
    ):
        self.rng = np.random.default_rng([seed, 99])
        weights = np.random.default_rng([seed, 98])
        self.p = {k: weights.normal(0, 0.9, s).astype(dtype) for k, s in SHAPES.items()}
        self.bug, self.beta, self.head, self.likelihood = bug, beta, head, likelihood
        self.total, self.scale, self.out, self.sigma = total, scale, out, sigma
        self.draws, self.dtype, self.constants = draws, dtype, constants
        self.maximized, self.batch_size = maximized, batch_size
        self.free_bits, self.floor = free_bits, floor
        self.fixed = np.random.default_rng(5)

    # The pieces

    def encode(self, x):
        p = self.p
        h = np.tanh(np.asarray(x, self.dtype) @ p["W1"] + p["b1"])
        if self.bug == "batch statistics":
            h = (h - h.mean(0)) / (h.std(0) + 0.1)
        mu, s = h @ p["Wm"] + p["bm"], h @ p["Ws"] + p["bs"]
        if self.bug == "softplus on s":
            s = softplus(s)
        if self.bug == "relu on mu":
            mu = np.maximum(mu, 0)
        s = 0.6 * s - 0.5 if self.bug != "softplus on s" else s
        second = {
            "logvar": s,
            "log_sigma": s / 2,
            "sigma": np.exp(s / 2),
            "variance": np.exp(s),
            "softplus": np.log(np.expm1(np.exp(s / 2))),
            "sinh": np.sinh(np.exp(s / 2)),
        }[self.head]
        return mu, second.astype(self.dtype)

    def logvar(self, second, head=None):
        head = head or self.head
        if head == "softplus":
            return 2 * np.log(softplus(second))
        if head == "sinh":  # σ = arsinh(s): of no form that the clinic knows
            return 2 * np.log(np.arcsinh(second))
        return {
            "logvar": lambda s: s,
            "log_sigma": lambda s: 2 * s,
            "sigma": lambda s: 2 * np.log(s),
            "variance": np.log,
        }[head](second)

    def noise(self, shape):
        bug = self.bug
        if bug == "fixed noise":
            return np.random.default_rng(5).standard_normal(shape)
        if bug == "uniform noise":
            return self.rng.random(shape)
        if bug == "one noise per batch":
            return np.broadcast_to(self.rng.standard_normal((*shape[:-2], 1, shape[-1])), shape)
        if bug == "one noise for latents":
            return np.broadcast_to(self.rng.standard_normal((*shape[:-1], 1)), shape)
        if bug == "small noise":
            return 0.01 * self.rng.standard_normal(shape)
        return self.rng.standard_normal(shape)

    def sample(self, mu, second, eps=None):
        bug = self.bug
        if bug == "mean decoded":
            return mu + 0.0
        sd = np.exp(0.5 * self.logvar(second))
        if bug == "std = exp(s)":
            sd = np.exp(second)
        if bug == "std = exp(s/4)":
            sd = np.exp(second / 4)
        if bug == "std = s":
            sd = second
        if bug == "mu + sigma":
            return mu + sd
        eps = self.noise(mu.shape) if eps is None else eps
        z = mu + sd * eps
        return (0.18215 * z if bug == "z scaled" else z).astype(self.dtype)

    def decode(self, z):
        p = self.p
        h = np.tanh(np.asarray(z, self.dtype) @ p["W2"] + p["b2"])
        out = h @ p["W3"] + p["b3"]
        if self.likelihood == "gaussian2":
            return out, np.broadcast_to(0.3 * h[:, :1] - 0.5, out.shape)
        return sig(out) if self.out == "probabilities" else out

    def kl_elements(self, mu, second):
        bug, lv = self.bug, self.logvar(second)
        one = 1.0
        if bug == "KL reads log sigma":
            lv = self.logvar(second, "log_sigma")
        if bug == "KL reads sigma":
            lv = 2 * np.log(np.abs(second))
        if bug == "KL exp(2s), single s":
            return 0.5 * (mu**2 + np.exp(2 * second) - second - 1)
        m2 = mu**2 * {"mu missing": 0, "mu sign": -1}.get(bug, 1)
        if bug == "KL without -1":
            one = 0.0
        if bug == "KL one -1":
            one = 1 / mu.shape[1]
        if bug == "prior e^2":
            v = np.exp(2)
            return 0.5 * (m2 / v + np.exp(lv) / v - lv + 2 - 1)
        kl = 0.5 * (m2 + np.exp(lv) - lv - one)
        return kl * {"KL without half": 2, "KL sign": -1}.get(bug, 1)

    def kl_rows(self, mu, second):
        kl = self.kl_elements(mu, second)
        if self.free_bits and self.bug != "free bits ignored":
            if self.floor == "total":
                return np.maximum(kl.sum(-1), self.free_bits)
            kl = np.maximum(kl, self.free_bits) if self.bug != "KL sign" else kl
            kl = np.minimum(kl, -self.free_bits) if self.bug == "KL sign" else kl
        return kl.mean(-1) if self.bug == "KL mean over latents" else kl.sum(-1)

    def rec_elements(self, x, out):
        bug = self.bug
        if self.likelihood == "gaussian2":
            m, s = out
            s = {"decoder log sigma": 2 * s}.get(bug, s)
            return 0.5 * ((x - m) ** 2 / np.exp(s) + s + np.log(2 * np.pi) * self.constants)
        if self.likelihood == "gaussian":
            sd = self.sigma or 1.0
            value = 0.5 * (x - out) ** 2 / sd**2
            tau = 2 * 3.14 if bug == "pi = 3.14" else 2 * np.pi
            pixels = D if bug == "constant x D" else 1
            kept = self.constants and bug != "no constant"
            return value + (0.5 * pixels * np.log(tau * sd**2) if kept else 0)
        if self.likelihood == "cauchy":
            return np.log1p((x - out) ** 2)
        if self.likelihood == "squared":
            return (x - out) ** 2
        if self.likelihood.startswith("binomial"):
            return 16 * softplus(out) - x * out
        p = out if self.out == "probabilities" else None
        if self.out == "arctan":  # a density, but not that of logits
            p = 0.5 + np.arctan(out) / np.pi
        if bug == "weighted":
            return 2 * x * softplus(-out) + (1 - x) * softplus(out)
        if bug == "sigmoid twice":
            out = p if p is not None else sig(out)
            return softplus(out) - x * out
        if bug == "swapped":
            p = sig(out) if p is None else p
            return -(p * np.log(np.clip(x, 1e-7, 1)) + (1 - p) * np.log(np.clip(1 - x, 1e-7, 1)))
        if bug == "clipped":
            p = np.clip(sig(out) if p is None else p, 1e-3, 1 - 1e-3)
        elif bug == "clipped below":
            p = np.maximum(sig(out) if p is None else p, 1e-3)
        elif bug == "one term":
            return x * softplus(-out) if p is None else -x * np.log(p)
        elif p is None:
            return softplus(out) - x * out
        with np.errstate(all="ignore"):
            return -(x * np.log(p) + (1 - x) * np.log1p(-p))

    def rec_rows(self, x, out):
        rec = self.rec_elements(x, out)
        return rec.mean(-1) if self.bug == "rec mean over pixels" else rec.sum(-1)

    # The loss

    def loss(self, x, eps=None):
        x = np.asarray(x, self.dtype)
        if self.bug == "last row dropped":
            x = x[:-1] if len(x) > 1 else x
        mu, second = self.encode(x)
        rec = 0.0
        for k in range(self.draws):
            e = None if eps is None else (eps if eps.ndim == 2 else eps[k])
            out = self.decode(self.sample(mu, second, e))
            out = out[::-1] if self.bug == "rows reversed" else out
            rec = rec + self.rec_rows(x, out) / self.draws
        return self.combine(rec, self.kl_rows(mu, second))

    def combine(self, rec, kl):
        bug, n = self.bug, len(rec)
        beta = 1.0 if bug == "beta ignored" else self.beta
        if self.total == "rows":
            return self.scale * (rec + beta * kl)
        a = {"sum": np.sum}.get(self.total, np.mean)
        rec_total, kl_total = a(rec), a(kl)
        if bug == "KL sum, rec mean":
            kl_total = kl.sum()
        if bug == "rec /B twice":
            rec_total = rec_total / n
        value = self.scale * (rec_total + beta * kl_total)
        if bug == "nominal batch":
            value = self.scale * (rec.sum() + beta * kl.sum()) / self.batch_size
        minus = self.maximized != (bug == "ELBO returned")
        return -value if minus else value

    # What is reported

    def log_p(self, x, k):
        bug, n = self.bug, len(x)
        mu, s = self.encode(x)
        many = np.random.default_rng(self.rng.integers(1 << 30)).standard_normal((k, n, J))
        z = mu + np.exp(0.5 * s) * many
        if bug == "K ignored":
            z = z[:1]
        if bug == "chunks of 4":  # ⌈k/4⌉ passes of 4 draws
            many = self.rng.standard_normal((-(-k // 4) * 4, n, J))
            z = mu + np.exp(0.5 * s) * many
        many = (z - mu) / np.exp(0.5 * s)
        l = self.decode(z.reshape(-1, J)).reshape(*z.shape[:2], D)
        log_x = -self.rec_rows(x, l)
        log_z = -0.5 * (z**2 + np.log(2 * np.pi)).sum(-1)
        log_q = -0.5 * (many**2 + s + np.log(2 * np.pi)).sum(-1)
        w = log_x + log_z - log_q
        if bug == "analytic KL":
            w = log_x - 0.5 * (mu**2 + np.exp(s) - s - 1).sum(-1)
        w = {"q missing": log_x + log_z, "prior missing": log_x - log_q}.get(bug, w)
        w = -w if bug == "sign in weights" else w
        if bug == "rows mixed":
            w = w.reshape(n, k).T
        if bug == "underflow":
            with np.errstate(all="ignore"):
                return np.log(np.exp(w.astype("float32")).mean(0))
        top = w.max(0)
        mean = top + np.log(np.exp(w - top).mean(0))
        return {
            "mean of logs": w.mean(0),
            "log K": mean + np.log(k),
            "max weight": top,
            "chunks of 4": mean + np.log(len(z)) - np.log(k),
            "other K": mean + np.log(k) - np.log(k + 1),
            "normalized": (np.exp(w - mean) / k * w).sum(0),
            "sign in weights": -mean,
        }.get(bug, mean)

    def evaluate(self, x):
        bug, total, b = self.bug, 0.0, 4
        batches = [x[i : i + b] for i in range(0, len(x), b)]
        for batch in batches:
            mu, s = self.encode(batch)
            noise = 0.0 if bug == "evaluation of the mean" else self.rng.standard_normal(mu.shape)
            rec = self.rec_rows(batch, self.decode(mu + np.exp(0.5 * s) * noise))
            rows = rec + self.kl_rows(mu, s)
            total += rows.mean() if bug == "batch means" else rows.sum()
            if bug == "first batch":
                return total / len(batch)
        divisor = {"batch_idx B": b * (len(batches) - 1), "batch means": len(batches), "sum": 1}
        sign = -1 if bug == "figure sign" else 1
        return sign * total / divisor.get(bug, len(x))

    def generate(self, z):
        l = self.decode(z)
        if self.bug == "samples":
            return (self.rng.random(l.shape) < sig(l)).astype(float)
        return {"softplus": softplus(l), "logits": l}.get(self.bug, sig(l))

    def reporting(self, **declared):
        """A subject that reports figures."""
        more = {"log_p": self.log_p, "evaluate": self.evaluate, "generate": self.generate}
        return self.subject(**{"pieces": False, "batch_size": 4, "loss": None, **more, **declared})

    # The gradient of the mean loss, by hand: Bernoulli from logits, log σ²

    def sampled_kl(self, mu, s, z):
        tau = np.log(2 * np.pi)
        log_q = -0.5 * (s + (z - mu) ** 2 / np.exp(s) + tau).sum(-1)
        log_p = -0.5 * (z**2 + tau).sum(-1)
        return {
            "sampled, no q": -log_p,
            "sampled, no p": log_q,
            "sampled, sign of q": -log_q - log_p,
            "sampled, 2 pi": log_q - log_p + 0.5 * tau * J,
            "sampled, half p": log_q - 0.5 * log_p,
        }.get(self.bug, log_q - log_p)

    def sampled_loss(self, x, eps=None):
        mu, s = self.encode(x)
        z = self.sample(mu, s, eps)
        return self.combine(self.rec_rows(x, self.decode(z)), self.sampled_kl(mu, s, z))

    def gradient(self, x, eps=None, form="analytic"):
        p, bug, n = self.p, self.bug, len(x)
        h1 = np.tanh(x @ p["W1"] + p["b1"])
        mu, s = self.encode(x)
        eps = self.noise(mu.shape) if eps is None else eps
        sd = np.exp(0.5 * s)
        z = mu + sd * eps
        h2 = np.tanh(z @ p["W2"] + p["b2"])
        q = sig(h2 @ p["W3"] + p["b3"])
        back = {"half output": 0.5, "sigmoid' twice": q * (1 - q), "tanh' output": 1 - q**2}.get(
            bug, 1.0
        )
        d3 = (q - x) * back / n
        g = {"W3": h2.T @ d3, "b3": d3.sum(0)}
        W3 = p["W3"] - 0.3 * g["W3"] if bug == "updated weights" else p["W3"]
        a2 = 1.0 if bug == "decoder activation" else 1 - h2**2
        d2 = (d3 @ W3.T) * a2
        g |= {"W2": z.T @ d2, "b2": d2.sum(0)}
        dz = d2 @ p["W2"].T * (0.0 if bug == "z detached" else 1.0)
        if bug == "noise redrawn":
            eps = self.rng.standard_normal(mu.shape)
        half = 1.0 if bug == "half in sigma missing" else 0.5
        ds = dz * eps * half * sd * (0.0 if bug == "sigma detached" else 1.0)
        dm = dz.copy()
        if form == "analytic":
            kl = {
                "KL grad missing": (0, 0),
                "KL grad of s missing": (1, 0),
                "KL grad sum": (n, n),
                "KL grad sign": (-1, -1),
                "KL grad half": (1, 2),
            }.get(bug, (1, 1))
            dm += kl[0] * self.beta * mu / n
            ds += kl[1] * self.beta * 0.5 * (np.exp(s) - 1) / n
        elif bug == "stl":  # log q(z|x) as a function of z alone
            dq = (z - (z - mu) / np.exp(s)) / n
            dm, ds = dm + dq, ds + dq * eps * 0.5 * sd
        else:
            dp = 0.0 if bug == "prior path missing" else z / n
            dm, ds = dm + dp, ds + dp * eps * 0.5 * sd - 0.5 / n
        g |= {"Wm": h1.T @ dm, "bm": dm.sum(0), "Ws": 0.6 * h1.T @ ds, "bs": 0.6 * ds.sum(0)}
        dh = dm @ p["Wm"].T + (0.0 if bug == "only mu sent back" else 0.6 * ds @ p["Ws"].T)
        a1 = {"encoder activation": 1.0, "sigmoid' encoder": h1 * (1 - h1)}.get(bug, 1 - h1**2)
        d1 = dh * a1
        g |= {"W1": x.T @ d1, "b1": d1.sum(0)}
        if bug == "bias mean":
            g["b2"] = g["b2"] / n
        factor = {"gradient sum": n, "gradient sign": -1, "gradient times 3": 3}.get(bug, 1)
        return {k: factor * self.scale * g[k] for k in SHAPES}

    # The bound of K samples, and its doubly reparameterized gradient

    def weights(self, x, eps):
        mu, s = self.encode(x)
        z = mu + np.exp(0.5 * s) * eps
        log_x = -self.rec_rows(x, self.decode(z.reshape(-1, J)).reshape(*z.shape[:2], D))
        return z, mu, s, log_x - 0.5 * (z**2 - s - eps**2).sum(-1)

    def iwae_loss(self, x, eps):
        *_, w = self.weights(x, eps)
        mean = np.log(np.exp(w).mean(0))
        value = {
            "mean of logs": w.mean(0),
            "log K": mean + np.log(len(w)),
            "normalized": (np.exp(w - mean) / len(w) * w).sum(0),
        }.get(self.bug, mean)
        return -value.mean()

    def iwae_gradient(self, x, eps):
        p, n = self.p, len(x)
        z, mu, s, w = self.weights(x, eps)
        share = (np.exp(w) / np.exp(w).sum(0))[..., None] / n
        h1, h2 = np.tanh(x @ p["W1"] + p["b1"]), np.tanh(z @ p["W2"] + p["b2"])
        d3 = sig(h2 @ p["W3"] + p["b3"]) - x
        d2 = d3 @ p["W3"].T * (1 - h2**2)
        g = {"W3": np.einsum("kbh,kbd->hd", h2, share * d3), "b3": (share * d3).sum((0, 1))}
        g |= {"W2": np.einsum("kbj,kbh->jh", z, share * d2), "b2": (share * d2).sum((0, 1))}
        power = 1 if self.bug == "weights not squared" else share * n
        dz = power * share * (d2 @ p["W2"].T + z - (z - mu) / np.exp(s))
        dm, ds = dz.sum(0), (dz * eps * 0.5 * np.exp(0.5 * s)).sum(0)
        d1 = (dm @ p["Wm"].T + 0.6 * ds @ p["Ws"].T) * (1 - h1**2)
        g |= {"Wm": h1.T @ dm, "bm": dm.sum(0), "Ws": 0.6 * h1.T @ ds, "bs": 0.6 * ds.sum(0)}
        g |= {"W1": x.T @ d1, "b1": d1.sum(0)}
        return {k: g[k] for k in SHAPES}

    def iwae(self, **declared):
        """A subject whose loss is −L_4, with the gradient of DReG."""
        fields = {"loss": self.iwae_loss, "gradient": self.iwae_gradient, "n_importance": 4}
        fields |= {"parameters": (self.get, self.set), "noise": "eps", "pieces": False}
        return self.subject(**{**fields, **declared})

    def get(self):
        return np.concatenate([v.ravel() for v in self.p.values()])

    def set(self, flat):
        start = 0
        for k, shape in SHAPES.items():
            end = start + SIZES[k]
            self.p[k] = np.asarray(flat[start:end], self.dtype).reshape(shape)
            start = end

    def graded(self, *, form="analytic", **declared):
        """A subject with its gradient; with form="sampled" the KL is that of Eq. (7)."""
        more = {"loss": self.sampled_loss} if form == "sampled" else {}
        gradient = lambda x, *eps: self.gradient(x, *eps, form=form)  # noqa: E731
        more |= {"gradient": gradient, "parameters": (self.get, self.set)}
        return self.subject(**{**more, **declared})

    def reseed(self, seed):
        self.rng = np.random.Generator(np.random.PCG64(seed))

    def data(self, n=40):
        rng = np.random.default_rng(7)
        if self.likelihood.startswith("binomial"):
            return rng.integers(0, 17, (n, D)).astype(float)
        if self.likelihood in ("bernoulli",):
            return rng.integers(0, 2, (n, D)).astype(float)
        return rng.normal(0, 1, (n, D))

    def subject(self, *, pieces=True, **declared):
        gaussian = self.likelihood in ("gaussian", "gaussian2", "squared", "cauchy")
        fields = {
            "encode": self.encode,
            "decode": self.decode,
            "loss": self.loss,
            "seed": self.reseed,
            "scale": None if self.head == "sinh" else self.head,
            "likelihood": "gaussian" if gaussian else self.likelihood,
            "x": self.data(),
            "sign": "elbo" if self.maximized else "loss",
            "dtype": self.dtype,
            "beta": self.beta,
            "free_bits": self.free_bits,
            "name": self.bug or "right",
        }
        if self.bug == "sign undeclared":
            del fields["sign"]
        if pieces:
            fields |= {
                "kl": self.kl_rows,
                "reconstruction": self.rec_rows,
                "sample_z": self.sample,
            }
        return Subject(**{**fields, **declared})
