"""log p(x) of a subject of the clinic, against models whose evidence is known."""

from __future__ import annotations

import numpy as np
import pytest

from numpyvae import VAE, bounds, importance_log_likelihood
from numpyvae.clinic import Subject, model_of
from numpyvae.clinic.as_model import DecoderOf
from numpyvae.clinic.calls import Calls
from numpyvae.exact import LinearGaussian

D, J = 5, 2
RNG = np.random.default_rng(0)
W, B, SIGMA = RNG.normal(0, 0.7, (J, D)), RNG.normal(0, 0.5, D), 0.8


def linear(dtype="float64", **fields):
    """A linear-Gaussian subject; its mean is z W + b."""
    given = {
        "decode": lambda z: (z @ W + B).astype(dtype),
        "decode_vjp": lambda z, dout: (dout @ W.T).astype(dtype),
        "likelihood": f"gaussian:{SIGMA}",
        "output": "mean",
        "data_dim": D,
        "latent_dim": J,
        "dtype": dtype,
    }
    return Subject(**given | fields)


def evidence(x):
    """log N(x; b, WᵀW + σ² I)."""
    exact = LinearGaussian(W.T, B, SIGMA**2)
    return exact.log_evidence(x)


@pytest.mark.parametrize("vjp", ["given", "differences"])
def test_sandwich_brackets_the_exact_evidence(vjp):
    """Kills a likelihood without its σ, a gradient of another sign, and z in another place."""
    subject = linear() if vjp == "given" else linear(decode_vjp=None)
    model = model_of(subject)
    x, z = bounds.simulate(model, 50, seed=1)
    annealed = bounds.annealed_log_likelihood(model, x, 50, 6, posterior=z, seed=2)
    below, above = (v - evidence(x) for v in (annealed.log_lower, annealed.log_upper))
    for gap, sign in ((below, -1), (above, 1)):
        error = gap.std() / np.sqrt(len(x))
        assert -4 * error < sign * gap.mean() < 0.1 + 4 * error < 0.3
    assert annealed.acceptance.mean() > 0.5


@pytest.mark.parametrize("scale", ["logvar", "sigma", "log_sigma", "variance", "softplus"])
def test_encoder_in_each_scale_is_the_proposal(scale):
    """Kills a scale that is read as another: with the exact posterior each weight is log p(x)."""
    covariance = np.linalg.inv(np.eye(J) + np.diag(np.ones(J)) / SIGMA**2)
    v = covariance[0, 0]
    eye = np.eye(J, D)
    second = {
        "logvar": np.log(v),
        "sigma": np.sqrt(v),
        "log_sigma": 0.5 * np.log(v),
        "variance": v,
        "softplus": np.log(np.expm1(np.sqrt(v))),
    }[scale]
    x = RNG.standard_normal((4, D))
    subject = linear(
        decode=lambda z: z @ eye,
        decode_vjp=lambda z, dout: dout @ eye.T,
        encode=lambda x: (v * x @ eye.T / SIGMA**2, np.full((len(x), J), second)),
        scale=scale,
        x=x,
    )
    exact = LinearGaussian(eye.T, np.zeros(D), SIGMA**2).log_evidence(x)
    found = importance_log_likelihood(model_of(subject), x, 3, seed=0)
    np.testing.assert_allclose(found, exact, rtol=1e-10)


def own(likelihood, dtype="float64"):
    """A VAE of this package, with a decoder that is not linear."""
    vae = VAE(D, J, (4,), likelihood=likelihood, dtype=dtype)
    vae.parameters.flat[:] = np.random.default_rng(1).normal(0, 0.8, vae.parameters.flat.size)
    return vae


def outputs(vae, z):
    out, pull = vae.decoder(np.asarray(z, vae.dtype)[None])
    return out[0], lambda dout: pull(np.asarray(dout, vae.dtype)[None])[0]


def subject_of(vae, form, with_vjp):
    """The same decoder, with outputs in another form and the gradient of that form."""

    def forward(z):
        out, _ = outputs(vae, z)
        p = 1 / (1 + np.exp(-out))
        halves = out[:, :D], out[:, D:]
        return {
            "logits": out,
            "probabilities": p,
            "mean_logvar": halves,
            "mean_sigma": (halves[0], np.exp(0.5 * halves[1])),
        }[form]

    def vjp(z, dout):
        value, (_, pull) = forward(z), outputs(vae, z)
        if form == "probabilities":
            dout = dout * value * (1 - value)
        elif form == "mean_logvar":
            dout = np.hstack(dout)
        elif form == "mean_sigma":
            dout = np.hstack([dout[0], 0.5 * value[1] * dout[1]])
        return pull(dout)

    gaussian = form.startswith("mean")
    return Subject(
        decode=forward,
        decode_vjp=vjp if with_vjp else None,
        output=form,
        likelihood="gaussian" if gaussian else vae.likelihood.name,
        data_dim=D,
        latent_dim=J,
        dtype=str(vae.dtype),
    )


FORMS = [
    ("bernoulli", "logits"),
    ("bernoulli", "probabilities"),
    ("binomial:4", "probabilities"),
    ("gaussian:head", "mean_logvar"),
    ("gaussian:head", "mean_sigma"),
]


@pytest.mark.parametrize("with_vjp", [True, False])
@pytest.mark.parametrize(("likelihood", "form"), FORMS)
def test_each_form_of_outputs_has_the_same_density(likelihood, form, with_vjp):
    """Kills a missing factor of the chain rule, a σ read as σ², and a mean of the trials."""
    vae = own(likelihood)
    model = model_of(subject_of(vae, form, with_vjp))
    x, z = bounds.simulate(vae, 4, seed=0)
    expected, pull = vae.log_likelihood(x, z[None])
    found, own_pull = model.log_likelihood(x, z[None])
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    gradients = [p(np.ones_like(expected)) for p in (own_pull, pull)]
    np.testing.assert_allclose(*gradients, rtol=1e-9 if with_vjp else 1e-6, atol=1e-8)


def test_saturated_probabilities_stay_finite():
    """Kills an infinite logit of p = 1, and a gradient that divides by zero there."""
    steep = 200 * W
    with np.errstate(over="ignore"):
        subject = Subject(
            decode=lambda z: 1 / (1 + np.exp(-z @ steep)),
            decode_vjp=lambda z, dout: np.zeros_like(z),
            output="probabilities",
            data_dim=D,
            latent_dim=J,
        )
        decoder = DecoderOf(Calls(subject), "probabilities")
        z = np.full((1, J), 5.0)
        out = decoder.outputs(z)
    assert np.isfinite(out).all()
    assert 35 < np.abs(out).max() < 37
    assert np.isfinite(decoder.pullback(z, np.ones((1, D)))).all()


def test_float32_subject():
    """Kills outputs of float64 for a model of float32."""
    model = model_of(linear("float32", decode_vjp=None))
    x, z = bounds.simulate(model, 3, seed=0)
    log_px, pull = model.log_likelihood(x, z[None])
    residual = (x - z @ W - B) / SIGMA
    expected = -0.5 * (residual**2 + np.log(2 * np.pi * SIGMA**2)).sum(1)
    assert x.dtype == log_px.dtype == "float32"
    np.testing.assert_allclose(log_px[0], expected, rtol=1e-5)
    dz = pull(np.ones_like(log_px))[0]
    np.testing.assert_allclose(dz, residual / SIGMA @ W.T, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"decode": None, "kl": len}, ValueError, "expected a subject with decode"),
        ({"likelihood": "gaussian"}, ValueError, "expected a declared σ"),
        ({"latent_dim": None}, ValueError, "declares latent_dim"),
        ({"decode_vjp": lambda z, dout: -dout @ W.T}, ValueError, "decode_vjp: expected the grad"),
    ],
)
def test_what_is_missing_is_said_in_one_line(fields, error, message):
    """Kills a guess in place of what must be declared."""
    with pytest.raises(error, match=message) as caught:
        model_of(linear(**fields))
    assert "\n" not in str(caught.value)


def test_something_else_than_a_subject_is_refused():
    """Kills an attribute error for a model that is not a subject."""
    with pytest.raises(TypeError, match="subject: expected"):
        model_of(own("bernoulli"))
