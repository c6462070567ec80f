"""Random right VAEs in plain NumPy, in many legitimate styles, for `benchmarks.clinic`.

They extend the small VAEs of `tests/clinic_subjects.py`, and share nothing with the package but
`Subject`. All of a model follows from two numbers, a seed and its index.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from clinic_subjects import SHAPES, Patient, sig, softplus
from test_clinic import EVALUATION_BUGS, GRADIENT_BUGS, NEED_PIECES, VALUE_BUGS

from numpyvae.clinic import Subject

__all__ = ["STYLES", "Model", "Sized", "planted", "planted_pairs", "right_model"]


class Sized(Patient):
    """A `Patient` of any size.

    Parameters
    ----------
    seed : int
    bug : str
    dims : (D, J, H)
    weight : float
        The standard deviation of the weights.
    **options
        Of `Patient`.
    """

    def __init__(self, seed=0, bug="", *, dims=(6, 2, 5), weight=0.9, **options):
        super().__init__(seed, bug, **options)
        d, j, h = self.dims = dims
        self.seed = seed
        rng = np.random.default_rng([seed, 97])
        wide = {"D": d, "J": j, "H": h}
        axes = ["DH", "H", "HJ", "J", "HJ", "J", "JH", "H", "HD", "D"]
        self.shapes = {k: tuple(wide[c] for c in a) for k, a in zip(SHAPES, axes)}
        fan = {k: (6 / s[0]) ** 0.5 if len(s) > 1 else 1.0 for k, s in self.shapes.items()}
        self.p = {
            k: (weight * min(fan[k], 1.0) * rng.normal(0, 1, s)).astype(self.dtype)
            for k, s in self.shapes.items()
        }

    def set(self, flat):
        start = 0
        for k, shape in self.shapes.items():
            size = int(np.prod(shape))
            self.p[k] = np.asarray(flat[start : start + size], self.dtype).reshape(shape)
            start += size

    def data(self, n=40):
        rng = np.random.default_rng([self.seed, 7])
        shape = n, self.dims[0]
        if self.likelihood.startswith("binomial"):
            return rng.integers(0, 17, shape).astype(float)
        if self.likelihood == "bernoulli":
            return (rng.random(shape) < rng.uniform(0.2, 0.8, (n, 1))).astype(float)
        return rng.normal(0, 1, shape)


ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {  # and their derivatives, by value
    "tanh": (np.tanh, lambda h: 1 - h**2),
    "relu": (lambda a: np.maximum(a, 0), lambda h: (h > 0).astype(float)),
    "sigmoid": (sig, lambda h: h * (1 - h)),
    "softplus": (softplus, lambda h: 1 - np.exp(-h)),
}


class Model(Sized):
    """A right VAE with more styles than a `Patient` has.

    Parameters
    ----------
    seed : int
    activation : str
    image : tuple of int, optional
        The shape of a row of x.
    estimator : str
        "analytic" (Eq. 11), "sampled" (Eq. 7), "stl", "score", "iwae" or "dreg".
    norm : bool
        Batch normalization in the encoder.
    free : float
        The floor of the KL of each latent.
    grays : bool
        Pixels between 0 and 1.
    **options
        Of `Sized`.
    """

    def __init__(
        self,
        seed=0,
        *,
        activation="tanh",
        image=None,
        estimator="analytic",
        norm=False,
        free=0.0,
        grays=False,
        **options,
    ):
        super().__init__(seed, **options)
        self.act, self.slope = ACTIVATIONS[activation]
        self.image, self.estimator, self.norm = image, estimator, norm
        self.free, self.grays = free, grays

    def data(self, n=40):
        x = super().data(n)
        if self.grays:
            x = np.random.default_rng([self.seed, 8]).beta(0.5, 0.5, x.shape).clip(0.01, 0.99)
        return x.reshape(n, *self.image) if self.image else x

    def flat(self, x):
        return np.asarray(x, self.dtype).reshape(len(x), -1)

    def hidden(self, x):
        h = self.act(self.flat(x) @ self.p["W1"] + self.p["b1"])
        return (h - h.mean(0)) / (h.std(0) + 0.1) if self.norm else h

    def encode(self, x):
        h, p = self.hidden(x), self.p
        s = 0.6 * (h @ p["Ws"] + p["bs"]) - 0.5
        heads = {
            "logvar": lambda: s,
            "log_sigma": lambda: s / 2,
            "sigma": lambda: np.exp(s / 2),
            "variance": lambda: np.exp(s),
            "softplus": lambda: np.log(np.expm1(np.exp(s / 2))),
        }
        return h @ p["Wm"] + p["bm"], heads[self.head]().astype(self.dtype)

    def decode(self, z):
        p = self.p
        h = self.act(np.asarray(z, self.dtype) @ p["W2"] + p["b2"])
        out = h @ p["W3"] + p["b3"]
        if self.image:
            out = out.reshape(len(out), *self.image)
        if self.likelihood == "gaussian2":
            s = 0.3 * np.tanh(h[:, :1]) - 0.5
            return out, np.broadcast_to(s.reshape(-1, *[1] * (out.ndim - 1)), out.shape)
        return sig(out) if self.out == "probabilities" else out

    def rec_rows(self, x, out):
        rec = self.rec_elements(np.asarray(x, self.dtype), out)
        return rec.reshape(len(rec), -1).sum(-1)

    def kl_rows(self, mu, second):
        kl = self.kl_elements(mu, second)
        return np.maximum(kl, self.free).sum(-1) if self.free else kl.sum(-1)

    def draws_of(self, mu, eps):
        """ε (L, B, J)."""
        if eps is None:
            return np.stack([self.noise(mu.shape) for _ in range(self.draws)])
        return np.asarray(eps).reshape(self.draws, *mu.shape)

    def terms(self, x, eps):
        """−log p(x|z), log q(z|x) − log p(z) (L, B), and the KL (B,)."""
        mu, second = self.encode(x)
        s = self.logvar(second)
        rec, ratio = [], []
        for e in self.draws_of(mu, eps):
            z = self.sample(mu, second, e)
            rec.append(self.rec_rows(x, self.decode(z)))
            ratio.append(0.5 * (z**2 - s - e**2).sum(-1))
        return np.array(rec), np.array(ratio), self.kl_rows(mu, second)

    def loss(self, x, eps=None):
        rec, ratio, kl = self.terms(x, eps)
        if self.estimator in ("iwae", "dreg"):
            w = -rec - ratio
            top = w.max(0)
            return self.combine(-top - np.log(np.exp(w - top).mean(0)), 0 * kl)
        sampled = self.estimator in ("sampled", "stl")
        return self.combine(rec.mean(0), ratio.mean(0) if sampled else kl)

    def combine(self, rec, kl):
        value = super().combine(rec, np.asarray(kl, rec.dtype))
        return -value if self.maximized and self.total == "rows" else value

    def gradient(self, x, eps=None):
        """The gradient of the mean loss: Bernoulli from logits, log σ²."""
        p, n, h1 = self.p, len(x), self.hidden(x)
        mu, s = self.encode(x)
        sd = np.exp(0.5 * s)
        eps = self.draws_of(mu, eps)
        rec, ratio, _ = self.terms(x, eps)
        weights = np.full_like(rec, 1 / len(rec))
        if self.estimator in ("iwae", "dreg"):
            w = np.exp(-rec - ratio - (-rec - ratio).max(0))
            weights = w / w.sum(0)
        g = {k: np.zeros(v.shape) for k, v in p.items()}
        dm, ds = np.zeros_like(mu), np.zeros_like(s)
        for k, e in enumerate(eps):
            z = mu + sd * e
            dz = self.decoder_gradient(g, x, z, weights[k][:, None] / n)
            to_mu, to_s = self.through_z(dz, z, e, sd, weights[k][:, None] / n, rec[k][:, None])
            dm, ds = dm + to_mu, ds + to_s
        if self.estimator in ("analytic", "score"):
            dm = dm + self.beta * mu / n
            ds = ds + self.beta * 0.5 * (np.exp(s) - 1) / n
        dh = dm @ p["Wm"].T + 0.6 * ds @ p["Ws"].T
        d1 = dh * self.slope(h1)
        g |= {"Wm": h1.T @ dm, "bm": dm.sum(0), "Ws": 0.6 * h1.T @ ds, "bs": 0.6 * ds.sum(0)}
        g |= {"W1": self.flat(x).T @ d1, "b1": d1.sum(0)}
        return {k: self.scale * g[k] for k in self.shapes}

    def decoder_gradient(self, g, x, z, weight):
        """Add the gradient of one draw to that of the decoder; return ∂(−log p)/∂z, unweighted."""
        p = self.p
        h = self.act(z @ p["W2"] + p["b2"])
        delta = sig(h @ p["W3"] + p["b3"]) - self.flat(x)
        d3 = weight * delta
        d2 = (d3 @ p["W3"].T) * self.slope(h)
        for name, before, d in (("3", h, d3), ("2", z, d2)):
            g["W" + name] = g["W" + name] + before.T @ d
            g["b" + name] = g["b" + name] + d.sum(0)
        return ((delta @ p["W3"].T) * self.slope(h)) @ p["W2"].T

    def through_z(self, dz, z, e, sd, weight, rec):
        """The gradient of one draw with respect to μ and log σ²."""
        if self.estimator == "score":
            return weight * rec * e / sd, weight * rec * 0.5 * (e**2 - 1)
        if self.estimator == "analytic":
            return weight * dz, weight * dz * e * 0.5 * sd
        path = dz + z  # of −log p(x, z)
        if self.estimator in ("sampled", "iwae"):
            return weight * path, weight * (path * e * 0.5 * sd - 0.5)
        path = path - e / sd  # of log q(z|x) − log p(x, z)
        if self.estimator == "dreg":
            weight = weight**2 * len(z)
        return weight * path, weight * path * e * 0.5 * sd


def _noise(model: Model, kind: str) -> dict[str, Any]:
    """The fields that say where the noise comes from."""
    if kind == "eps":
        return {"noise": "eps"}
    if kind == "seed":

        def keyed(function):
            def call(x, seed):
                model.reseed(seed)
                return function(x)

            return call

        fields = {"noise": "seed", "loss": keyed(model.loss)}
        if model.has_gradient:
            fields["gradient"] = keyed(model.gradient)
        return fields
    if kind == "global":
        model.rng = np.random  # a module has the functions of a generator
        model.noise = lambda shape: np.random.standard_normal(shape)  # noqa: NPY002
        return {"seed": np.random.seed}
    return {}


STYLES: dict[str, dict[str, Any]] = {
    "mean over rows": {},
    "sum over rows": {"total": "sum"},
    "one number for each row": {"total": "rows"},
    "maximized": {"maximized": True},
    "divided by D": {"scale": "1/D"},
    "scaled": {"scale": "any"},
    "log σ": {"head": "log_sigma"},
    "σ": {"head": "sigma"},
    "σ²": {"head": "variance"},
    "softplus σ": {"head": "softplus"},
    "scale not declared": {"undeclared": True, "head": "logvar"},
    "σ not declared": {"undeclared": True, "head": "sigma"},
    "β declared": {"beta": "any"},
    "L > 1": {"draws": "any"},
    "Eq. (7)": {"estimator": "sampled"},
    "probabilities": {"out": "probabilities"},
    "grays": {"grays": True},
    "binomial": {"likelihood": "binomial:16"},
    "squared error": {"likelihood": "squared"},
    "Gaussian": {"likelihood": "gaussian", "sigma": "any"},
    "Gaussian, no constants": {"likelihood": "gaussian", "sigma": "any", "constants": False},
    "Gaussian, σ(z)": {"likelihood": "gaussian2"},
    "Gaussian, σ(z), no constants": {"likelihood": "gaussian2", "constants": False},
    "image-shaped": {"image": True},
    "batch normalization": {"norm": True},
    "free bits": {"free": 0.1},
    "figures": {"figures": True},
    "gradient": {"gradient": True},
    "gradient of Eq. (7)": {"gradient": True, "estimator": "sampled"},
    "STL": {"gradient": True, "estimator": "stl"},
    "score function": {"gradient": True, "estimator": "score"},
    "IWAE": {"estimator": "iwae", "draws": "many"},
    "gradient of IWAE": {"gradient": True, "estimator": "iwae", "draws": "many"},
    "DReG": {"gradient": True, "estimator": "dreg", "draws": "many"},
}


def right_model(seed: int, index: int) -> tuple[str, Subject, dict[str, Any]]:
    """Return the style, the subject and the options of a random right model."""
    rng = np.random.default_rng([seed, index])
    style = list(STYLES)[index % len(STYLES)]
    options: dict[str, Any] = {**_chosen(rng), **STYLES[style]}
    fixed = options.pop("gradient", False) or options["estimator"] != "analytic"
    if fixed or "figures" in options:  # written for Bernoulli pixels from logits, and log σ²
        options |= {"likelihood": "bernoulli", "out": "logits", "head": "logvar", "grays": False}
        options |= {"beta": 1.0, "total": "mean", "image": None, "maximized": False}
    if options.pop("figures", False):
        options["draws"], figures = 1, True
    else:
        figures = False
    return style, *_subject(rng, options, "gradient" in STYLES[style], figures)


def _chosen(rng: np.random.Generator) -> dict[str, Any]:
    """Options at random; the style replaces some."""

    def some(values, usual=0.5):
        return values[0] if rng.random() < usual else values[rng.integers(len(values))]

    return {
        "dims": tuple(int(n) for n in rng.integers((2, 1, 3), (33, 7, 25))),
        "weight": some([0.9, 0.1, 0.4, 1.8]),
        "activation": some(list(ACTIVATIONS), 0.4),
        "likelihood": some(["bernoulli", "gaussian", "gaussian2", "squared"], 0.7),
        "head": some(["logvar", "log_sigma", "sigma", "variance", "softplus"], 0.7),
        "total": some(["mean", "sum", "rows"], 0.6),
        "scale": some([1.0, "1/D", "any"], 0.6),
        "out": some(["logits", "probabilities"], 0.8),
        "beta": some([1.0, 0.2, 4.0], 0.8),
        "maximized": rng.random() < 0.1,
        "grays": rng.random() < 0.1,
        "image": rng.random() < 0.1,
        "dtype": some(["float64", "float32"], 0.6),
        "draws": 1,
        "estimator": "analytic",
        "sigma": "any",
        "kind": some(["reseed", "eps", "seed", "global", "none"], 0.3),
        "pieces": rng.random() < 0.5,
        "told": rng.random() < 0.6,
    }


def _subject(rng, options: dict[str, Any], gradient: bool, figures: bool) -> tuple:
    """The subject of these options, and the options with all numbers drawn."""
    d, j, h = options["dims"]
    if options["image"]:
        tall = int(rng.integers(2, 5))
        d = tall * int(rng.integers(2, 6))
        options["image"] = (1, tall, d // tall)
    options["dims"] = d, j, h
    scales = {"1/D": 1 / d, "any": float(10 ** rng.uniform(-2, 2))}
    options["scale"] = scales.get(options["scale"], options["scale"])
    if options["beta"] == "any":
        options["beta"] = float(np.exp(rng.uniform(-2, 2)))
    if options["draws"] in ("any", "many"):
        options["draws"] = int(rng.integers(2, 7))
    if options["sigma"] == "any":
        options["sigma"] = float(np.exp(rng.uniform(-1.5, 1)))
    if options["likelihood"] != "bernoulli":
        options |= {"out": "logits", "grays": False}
    if gradient and options["kind"] == "none":
        options["kind"] = "reseed"
    keep = ("kind", "pieces", "told", "undeclared")
    model = Model(
        int(rng.integers(1 << 30)), **{k: v for k, v in options.items() if k not in keep}
    )
    model.has_gradient = gradient
    return _declared(model, options, gradient, figures), {**options, "bug": ""}


def _declared(model: Model, options: dict[str, Any], gradient: bool, figures: bool) -> Subject:
    fields: dict[str, Any] = {"seed": None, "free_bits": model.free}
    weighted = model.estimator in ("iwae", "dreg")
    if options["told"] or not weighted or options["kind"] == "eps":  # else nothing tells K
        fields["n_importance" if weighted else "n_samples"] = model.draws
    if options["kind"] in ("reseed",) or gradient or figures:
        fields["seed"] = model.reseed
    if gradient:
        fields |= {"gradient": model.gradient, "parameters": (model.get, model.set)}
    if figures:
        fields |= {"generate": model.generate, "evaluate": model.evaluate, "batch_size": 4}
        fields["log_p"] = model.log_p
    if model.likelihood == "gaussian":
        fields["sigma"] = model.sigma
    if options.get("undeclared"):
        fields["scale"] = None
    fields |= _noise(model, options["kind"])
    return model.subject(pieces=options["pieces"], **fields)


Planted = tuple[str, tuple[str, ...], Callable[[], Subject]]


def _sized(rng: np.random.Generator, bug: str, **options: Any) -> Sized:
    """A model of a random size with a bug of `clinic_subjects`."""
    dims = tuple(int(n) for n in rng.integers((5, 2, 4), (25, 6, 21)))
    weight = float(rng.uniform(0.6, 1.3))
    if bug == "beta ignored":
        options["beta"] = 3.5  # not a number of latents: then the mean over them is the same
    return Sized(int(rng.integers(1 << 30)), bug, **{"dims": dims, "weight": weight, **options})


def planted(n: int, seed: int) -> Iterator[Planted]:
    """Yield a key, the names and the maker of a subject: n of each bug in the tests."""
    for i in range(n):
        for number, (bug, name) in enumerate(VALUE_BUGS.items()):
            for pieces in (True,) if bug in NEED_PIECES else (True, False):

                def value(bug=bug, at=(seed, i, number), pieces=pieces):
                    model = _sized(np.random.default_rng(at), bug)
                    more = {"batch_size": 16} if bug == "nominal batch" else {}
                    return model.subject(pieces=pieces, **more)

                yield f"{bug} {i} {pieces}", (name,), value
        for number, (bug, name) in enumerate(GRADIENT_BUGS.items()):

            def graded(bug=bug, at=(seed, i, 100 + number)):
                form = "sampled" if bug == "prior path missing" else "analytic"
                noise = None if bug in ("noise redrawn", "prior path missing") else "eps"
                model = _sized(np.random.default_rng(at), bug)
                return model.graded(form=form, noise=noise, pieces=noise is None)

            yield f"{bug} {i}", (name,), graded
        for number, (bug, name) in enumerate(EVALUATION_BUGS.items()):

            def reporting(bug=bug, at=(seed, i, 200 + number)):
                model = _sized(np.random.default_rng(at), bug, dims=(6, 2, 5))
                if bug == "underflow":
                    model.p["W3"] *= 100
                return model.reporting(figure="loss")

            yield f"figure {bug} {i}", (name,), reporting


_PLACES = {
    "encode": {"batch statistics", "softplus on s", "relu on mu"},
    "combine": {"KL sum, rec mean", "rec /B twice", "nominal batch", "ELBO returned"},
    "rec_rows": {"rec mean over pixels", "clipped", "clipped below", "one term", "sigmoid twice"},
    "kl_rows": {bug for bug in VALUE_BUGS if bug.startswith(("KL", "mu ", "prior"))},
}
_PLACES["combine"] |= {"beta ignored"}
_PLACES["rec_rows"] |= {"swapped"}
_PLACES["kl_rows"] -= {"KL sum, rec mean", "mu + sigma"}
_PLACES["sample"] = set(VALUE_BUGS) - set().union(*_PLACES.values())


def planted_pairs(n: int, seed: int) -> Iterator[Planted]:
    """Yield n models, each with two bugs in different pieces."""
    place = {bug: where for where, bugs in _PLACES.items() for bug in bugs}
    pairs = [p for p in combinations(VALUE_BUGS, 2) if place[p[0]] != place[p[1]]]
    chosen = np.random.default_rng([seed, 300]).choice(len(pairs), n, replace=n > len(pairs))
    for i, number in enumerate(chosen):
        first, second = pairs[number]

        def make(first=first, second=second, at=(seed, i, 300)):
            model = _sized(np.random.default_rng(at), first, beta=3.5)
            other = _sized(np.random.default_rng(at), second, beta=3.5)
            for patient in (model, other):
                if "beta ignored" not in (first, second):
                    patient.beta = 1.0
            where = place[second]
            setattr(model, where, getattr(other, where))

            def reseed(value: int) -> None:
                model.rng = other.rng = np.random.default_rng(value)

            more = {"batch_size": 16} if "nominal batch" in (first, second) else {}
            return model.subject(seed=reseed, **more)

        yield f"{first} + {second} {i}", (VALUE_BUGS[first], VALUE_BUGS[second]), make
