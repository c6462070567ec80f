"""Estimators with frozen noise: the complex step, identities between them, weights, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import LIKELIHOODS, data_for, noise, small_vae
from scipy.special import logsumexp

from numpyvae.clinic.gradcheck import complex_step, relative_error
from numpyvae.core.distributions import gaussian_kl, gaussian_logpdf, reparameterize
from numpyvae.core.elbo import Estimator, elbo, elbo_and_grad, elbo_terms, log_joint, sampled_elbo
from numpyvae.estimators import (
    ESTIMATORS,
    IWAE,
    SGVBA,
    SGVBB,
    STL,
    STLIWAE,
    DReG,
    ScoreFunction,
    make_estimator,
)

L, K, B, J = 2, 3, 4, 2
IMPORTANCE = (IWAE, STLIWAE, DReG)
# The gradients of a bound; wake-sleep, which is none, is tested in test_methods.py
OF_A_BOUND = tuple(name for name in ESTIMATORS if name != "wake-sleep")


def configured(name):
    """The estimator of that name, with K = 3 where it has a K."""
    estimator = ESTIMATORS[name]
    return replace(estimator, n_importance=K) if estimator.n_importance > 1 else estimator


def encode(vae, x):
    return vae.encoder(x)[0]


def surrogate(vae, x, eps, n_importance, stop):
    """Functions of a flat vector whose derivatives are the estimators' gradients.

    Written with the densities themselves, not with ε, so that they share nothing with the code
    under test. `stop` freezes the parameters inside log q at those of `vae`: the stop-gradient
    of the papers, which the complex step can follow because a frozen number stays real.
    """
    frozen = encode(vae, x)

    def log_w(flat):  # (L, K, B)
        twin = vae.with_flat(flat)
        mu, logvar = encode(twin, x)
        z, _ = reparameterize(mu, logvar, eps)
        log_q, _ = gaussian_logpdf(z, *(frozen if stop else (mu, logvar)))
        return (log_joint(twin, x, z) - log_q).reshape(-1, n_importance, len(x))

    def bound(flat):
        w = log_w(flat)
        top = w.real.max(axis=1, keepdims=True)
        return (top[:, 0] + np.log(np.exp(w - top).mean(axis=1))).mean()

    return log_w, bound


def expected_gradient(name, vae, x, eps):
    """The gradient of the surrogate that defines the estimator, by the complex step."""
    flat, n_phi = vae.parameters.flat, vae.parameters.phi.size
    if name == "sgvb-b":
        return complex_step(lambda p: elbo(vae.with_flat(p), x, eps).mean(), flat)
    n_importance = configured(name).n_importance
    _, bound = surrogate(vae, x, eps, n_importance, stop=name in ("stl", "stl-iwae"))
    gradient = complex_step(bound, flat)
    if name == "dreg":  # φ: Σ_k stop(w̃_k²) log w_k with q frozen; θ as IWAE
        log_w, _ = surrogate(vae, x, eps, n_importance, stop=True)
        share = np.exp(log_w(flat) - logsumexp(log_w(flat), axis=1, keepdims=True))
        dreg = complex_step(lambda p: (share**2 * log_w(p)).sum(axis=1).mean(), flat)
        gradient[:n_phi] = dreg[:n_phi]
    if name.startswith("score"):  # φ: stop(log w − b) log q at fixed z; θ as SGVB-A
        log_w, _ = surrogate(vae, x, eps, 1, stop=False)
        signal = log_w(flat)[:, 0]
        if name == "score-loo":
            others = [np.delete(signal, i, axis=0).mean(axis=0) for i in range(len(signal))]
            signal = signal - np.array(others)
        z, _ = reparameterize(*encode(vae, x), eps)

        def scored(p):
            log_q, _ = gaussian_logpdf(z, *encode(vae.with_flat(p), x))
            return (signal * log_q).mean()

        gradient[:n_phi] = complex_step(scored, flat)[:n_phi]
    return gradient


@pytest.mark.parametrize("name", OF_A_BOUND)
def test_gradient_is_that_of_its_surrogate(name, likelihood):
    # Kills: a wrong coefficient, a lost term, the score kept in STL or DReG, w̃ for w̃².
    vae, x, eps = small_vae(likelihood), data_for(likelihood), noise(L * K)
    found = configured(name)(vae, x, eps).gradient
    expected = vae.parameters.like(expected_gradient(name, vae, x, eps))
    assert relative_error(found.phi, expected.phi) <= 1e-12
    assert relative_error(found.theta, expected.theta) <= 1e-12


@pytest.mark.parametrize(("beta", "floors"), [(0.3, 0), (1.0, 1), (2.5, 1), (0.0, 0), (1.0, 2)])
def test_weighted_gradient_is_that_of_the_weighted_objective(beta, floors, likelihood):
    # Kills: β on the wrong term, the floor per datapoint or over all latents at once.
    vae, x, eps = small_vae(likelihood), data_for(likelihood), noise(L)
    # λ lies below, between or above the mean KL of the latents: 0, 1 or 2 of them are free.
    latents = np.sort(latent_kl(vae, x))
    free_bits = [0.0, latents.mean(), latents[-1] + 0.1][floors]
    estimate = SGVBB(beta, free_bits)(vae, x, eps)

    def objective(flat):
        twin = vae.with_flat(flat)
        z, _ = reparameterize(*encode(twin, x), eps)
        kl = latent_kl(twin, x)
        charged = np.where(kl.real > free_bits, kl, free_bits)
        return twin.log_likelihood(x, z)[0].mean() - beta * charged.sum()

    flat = vae.parameters.flat
    assert estimate.objective == pytest.approx(objective(flat), rel=1e-13)
    assert relative_error(estimate.gradient.flat, complex_step(objective, flat)) <= 1e-12


def latent_kl(vae, x):
    """KL of each latent, averaged over the batch, (J,)."""
    mu, logvar = encode(vae, x)
    return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).mean(axis=0)


@pytest.mark.parametrize("name", OF_A_BOUND)
def test_terms_are_those_of_the_elbo_for_every_objective(name):
    # Kills: the sampled or weighted KL reported as the KL; a sum over samples for a mean.
    vae, x, eps = small_vae(), data_for("bernoulli"), noise(L * K)
    estimator = SGVBB(3.0, 0.5) if name == "sgvb-b" else configured(name)
    estimate = estimator(vae, x, eps)
    kl, _ = gaussian_kl(*encode(vae, x))
    assert estimate.kl == pytest.approx(kl.mean(), rel=1e-14)
    assert estimate.elbo == pytest.approx(elbo(vae, x, eps).mean(), rel=1e-14)


@pytest.mark.parametrize("name", [name for name in OF_A_BOUND if name != "sgvb-b"])
def test_objective_is_the_log_of_the_mean_weight(name):
    # Kills: the mean of logarithms in place of the logarithm of the mean; a log K too many.
    vae, x, eps = small_vae(), data_for("bernoulli"), noise(L * K)
    estimator = configured(name)
    k = estimator.n_importance
    log_w, _ = surrogate(vae, x, eps, k, stop=False)
    expected = (logsumexp(log_w(vae.parameters.flat), axis=1) - np.log(k)).mean()
    assert estimator(vae, x, eps).objective == pytest.approx(expected, rel=1e-13)


def test_sgvb_estimators_are_the_two_forms_of_elbo_py(likelihood):
    # Kills: two different versions of Eq. (7) or Eq. (11).
    vae, x, eps = small_vae(likelihood), data_for(likelihood), noise(L)
    closed = [term.mean() for term in elbo_terms(vae, x, eps)]
    value, closed_gradient = elbo_and_grad(vae, x, eps)
    assert value == pytest.approx(closed[0] - closed[1], rel=1e-14)
    for estimator in (SGVBB(), SGVBB(free_bits=1e-300)):  # the second takes the weighted lines
        estimate = estimator(vae, x, eps)
        assert relative_error(estimate.gradient.flat, closed_gradient) <= 1e-14
        assert (estimate.reconstruction, estimate.kl) == pytest.approx(closed, rel=1e-14)
        assert estimate.objective == pytest.approx(elbo(vae, x, eps).mean(), rel=1e-14)
    estimate = SGVBA()(vae, x, eps)
    sampled_gradient = complex_step(
        lambda flat: sampled_elbo(vae.with_flat(flat), x, eps).mean(), vae.parameters.flat
    )
    assert relative_error(estimate.gradient.flat, sampled_gradient) <= 1e-12
    assert estimate.objective == pytest.approx(sampled_elbo(vae, x, eps).mean(), rel=1e-14)


def written_out(vae, x, eps, update):
    """Eq. (11) with L = 1 and its gradient, by the pieces of the model and their pullbacks."""
    (mu, logvar), pull_encoder = vae.encoder(x)
    z, pull_z = reparameterize(mu, logvar, eps)
    log_px, pull_log_px = vae.log_likelihood(x, z)
    kl, pull_kl = gaussian_kl(mu, logvar)
    share = np.full(len(x), 1 / len(x), vae.dtype)
    gradient = vae.parameters.zeros_like()
    dz = pull_log_px(share[None], None if update == "phi" else gradient)
    if update != "theta":
        dmu, dlogvar = pull_z(dz)
        dmu_kl, dlogvar_kl = pull_kl(-share)
        pull_encoder(dmu + dmu_kl, dlogvar + dlogvar_kl, gradient)
    return float(share @ log_px[0]), float(share @ kl), gradient.flat


@pytest.mark.parametrize("update", ["both", "phi", "theta"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("likelihood", [*LIKELIHOODS, "poisson"])
def test_the_default_estimator_is_its_formula_to_the_bit(likelihood, dtype, update):
    # Kills: a term, a sign or a share that is not that of Eq. (11), however small its effect.
    vae = small_vae(likelihood, dtype, hidden=(5, 4))
    for rows in (1, 7):
        x = data_for("binomial:16" if likelihood == "poisson" else likelihood, rows).astype(dtype)
        eps = noise(1, rows).astype(dtype)
        reconstruction, kl, gradient = written_out(vae, x, eps, update)
        for estimator in (Estimator(), SGVBB()):
            found = estimator(vae, x, eps, update)
            assert (found.reconstruction, found.kl) == (reconstruction, kl)
            assert found.objective == found.elbo == reconstruction - kl
            assert found.gradient.flat.dtype == dtype
            assert found.gradient.flat.tobytes() == gradient.tobytes()


def test_one_importance_sample_gives_the_elbo_estimators():
    # Kills: weights that are not 1 for K = 1; a default K used instead of the argument.
    vae, x, eps = small_vae(), data_for("bernoulli"), noise(L)
    flat = {
        kind: kind(vae, x, eps).gradient.flat
        for kind in (SGVBA(), STL(), *(cls(n_importance=1) for cls in IMPORTANCE))
    }
    assert np.array_equal(flat[IWAE(1)], flat[SGVBA()])
    assert np.array_equal(flat[STLIWAE(1)], flat[STL()])
    assert np.array_equal(flat[DReG(1)], flat[STL()])
    assert not np.allclose(flat[STL()], flat[SGVBA()])


def test_the_decoder_gradient_of_all_importance_estimators_is_one():
    # Kills: the squared weights of DReG used for θ.
    vae, x, eps = small_vae(), data_for("bernoulli"), noise(L * K)
    iwae, stl, dreg = (cls(K)(vae, x, eps).gradient for cls in IMPORTANCE)
    assert np.array_equal(iwae.theta, dreg.theta)
    assert np.array_equal(iwae.theta, stl.theta)
    assert not np.allclose(iwae.phi, dreg.phi)


@pytest.mark.parametrize("cls", IMPORTANCE)
def test_l_averages_over_groups_of_k_neighbors(cls):
    # Kills: (K, L) read for (L, K), a sum over L, weights normalized across L or B.
    vae, x, eps = small_vae(), data_for("bernoulli"), noise(L * K)
    whole = cls(K)(vae, x, eps)
    parts = [cls(K)(vae, x[[b]], part[:, [b]]) for part in np.split(eps, L) for b in range(B)]
    assert whole.objective == pytest.approx(np.mean([p.objective for p in parts]), rel=1e-13)
    mean = np.mean([p.gradient.flat for p in parts], axis=0)
    assert relative_error(whole.gradient.flat, mean) <= 1e-13
    shuffled = cls(K)(vae, x, eps[[0, 1, 3, 2, 4, 5]])
    assert not np.allclose(shuffled.gradient.flat, whole.gradient.flat)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_update_computes_one_half_and_leaves_the_other_zero(name, likelihood):
    # Kills: a half that depends on `update`; θ changed by variational inference.
    vae, x, eps = small_vae(likelihood), data_for(likelihood), noise(L * K)
    both, phi, theta = (configured(name)(vae, x, eps, w) for w in ("both", "phi", "theta"))
    assert np.array_equal(phi.gradient.phi, both.gradient.phi)
    assert np.array_equal(theta.gradient.theta, both.gradient.theta)
    assert np.abs(both.gradient.phi).min() > 0
    assert not phi.gradient.theta.any()
    assert not theta.gradient.phi.any()
    assert phi[:3] == theta[:3] == both[:3]


@pytest.mark.parametrize("name", OF_A_BOUND)
def test_the_decoder_runs_once_over_all_draws(name, monkeypatch):
    # Kills: a Python loop over samples, or a second pass for θ.
    vae, x, eps = small_vae(), data_for("bernoulli"), noise(L * K)
    seen = []
    decoder = vae.decoder

    def counted(z):
        out, pull = decoder(z)
        return out, lambda *args, **way: seen.append("back") or pull(*args, **way)

    def decode(z):
        seen.append(z.shape)
        return counted(z)

    monkeypatch.setattr(vae, "decoder", decode)
    configured(name)(vae, x, eps)
    assert seen == [(L * K, B, J), "back"]
    seen.clear()
    configured(name)(vae, x, eps, "phi")
    # The score function needs no gradient of the decoder to move the encoder.
    assert seen == [(L * K, B, J)] + ([] if name.startswith("score") else ["back"])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_float32_stays_float32_in_the_backward_pass(name, likelihood, monkeypatch):
    # Kills: a float64 coefficient that doubles the memory and the time of every product.
    vae = small_vae(likelihood, "float32")
    seen = []

    def watch(network):
        def watched(rows):
            out, pull = network(rows)
            return out, lambda *args, **way: seen.extend(args) or pull(*args, **way)

        return watched

    monkeypatch.setattr(vae, "decoder", watch(vae.decoder))
    monkeypatch.setattr(vae, "encoder", watch(vae.encoder))
    estimate = configured(name)(vae, data_for(likelihood), noise(L * K))
    dtypes = [a.dtype for a in seen if isinstance(a, np.ndarray)]
    assert dtypes == [np.float32] * 3  # of dout, dmu, dlogvar
    assert estimate.gradient.flat.dtype == np.float32


@pytest.mark.parametrize("name", OF_A_BOUND)
def test_float32_agrees_with_float64(name, likelihood):
    # Kills: digits lost in the weights or in a difference of large numbers.
    single = small_vae(likelihood, "float32")
    double = single.with_flat(single.parameters.flat.astype(float))
    x, eps = data_for(likelihood).astype(np.float32), noise(L * K).astype(np.float32)
    found, expected = (configured(name)(vae, x, eps) for vae in (single, double))
    assert relative_error(found.gradient.flat, expected.gradient.flat) <= 1e-5
    assert found.objective == pytest.approx(expected.objective, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cls", IMPORTANCE)
def test_weights_are_finite_for_log_weights_of_minus_a_million(cls, dtype):
    # Kills: exp without the maximum taken out (0/0), an overflow, a clipped weight.
    vae = small_vae("gaussian:0.001", dtype, data_dim=3)
    x, eps = data_for("gaussian:0.001").astype(dtype), noise(K).astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        estimate = cls(K)(vae, x, eps)
    log_w, _ = surrogate(vae, x, eps, K, stop=False)
    log_w = log_w(vae.parameters.flat)[0]
    assert log_w.max() < -1e5
    best = log_w.argmax(axis=0)  # so far ahead that its weight is 1
    assert (np.sort(log_w, axis=0)[-1] - np.sort(log_w, axis=0)[-2]).min() > 100
    alone = cls(1)(vae, x, eps[best, np.arange(B)][None])
    assert np.isfinite(estimate.gradient.flat).all()
    assert relative_error(estimate.gradient.flat, alone.gradient.flat) <= 1e-6
    assert estimate.objective == pytest.approx(alone.objective - np.log(K), rel=1e-6)


@pytest.mark.parametrize("name", ["sgvb-a", "stl", "iwae", "dreg", "score-loo"])
def test_a_narrow_posterior_far_from_zero_loses_no_digits(name):
    # Kills: (z − μ)/σ in place of ε. At μ = 8, σ = 1e-5, float32 stores z − μ to 5 % at best.
    single = small_vae("bernoulli", "float32")
    single.parameters["encoder.b1"][:] += np.repeat([8, 2 * np.log(1e-5)], J)
    double = single.with_flat(single.parameters.flat.astype(float))
    x, eps = data_for("bernoulli"), noise(L * K).astype(np.float32)
    found, expected = (configured(name)(vae, x, eps).gradient.phi for vae in (single, double))
    assert relative_error(found, expected) <= 1e-4


def test_free_latents_have_no_gradient_of_the_kl():
    # Kills: free bits in the value only, and not in the gradient.
    vae, x, eps = small_vae(), data_for("bernoulli"), noise(L)
    free = SGVBB(free_bits=100.0)(vae, x, eps)
    unweighted = SGVBB(beta=0.0)(vae, x, eps)
    assert np.array_equal(free.gradient.flat, unweighted.gradient.flat)
    assert free.objective == pytest.approx(free.reconstruction - J * 100.0, rel=1e-14)
    assert unweighted.objective == unweighted.reconstruction


def test_beta_can_be_replaced_step_by_step():
    # Kills: a warm-up that has to rebuild the estimator, or that skips the checks.
    estimator = make_estimator("sgvb-b", free_bits=0.25)
    assert replace(estimator, beta=0.5) == SGVBB(0.5, 0.25)
    with pytest.raises(ValueError, match=r"beta: expected .* at least 0, got -0.5"):
        replace(estimator, beta=-0.5)


def test_a_constant_baseline_is_subtracted_from_the_signal():
    # Kills: a baseline added, or one that reaches θ.
    vae, x, eps = small_vae(), data_for("bernoulli"), noise(L)
    plain, shifted = (ScoreFunction(b)(vae, x, eps).gradient for b in (0.0, -7.0))
    z, _ = reparameterize(*encode(vae, x), eps)

    def mean_log_q(flat):
        return gaussian_logpdf(z, *encode(vae.with_flat(flat), x))[0].mean()

    score = complex_step(mean_log_q, vae.parameters.flat)
    assert relative_error(shifted.flat - plain.flat, 7.0 * score) <= 1e-12
    assert np.array_equal(shifted.theta, plain.theta)


def test_names_and_settings_make_estimators():
    # Kills: a setting that is ignored, a name that gives another estimator.
    assert make_estimator("dreg", n_importance=50) == DReG(n_importance=50)
    assert make_estimator("iwae", n_importance=7, beta=None) == IWAE(7)
    assert make_estimator("stl", n_samples=4) == STL(n_samples=4)
    assert make_estimator("sgvb-b", beta=0.5, free_bits=0.1) == SGVBB(0.5, 0.1)
    assert {k: type(v).__name__.lower() for k, v in ESTIMATORS.items()} == {
        "sgvb-a": "sgvba",
        "sgvb-b": "sgvbb",
        "score": "scorefunction",
        "score-loo": "scorefunction",
        "stl": "stl",
        "iwae": "iwae",
        "stl-iwae": "stliwae",
        "dreg": "dreg",
        "wake-sleep": "wakesleep",
    }
    assert make_estimator("score-loo") == ScoreFunction("leave-one-out", n_samples=2)
    assert IWAE(n_importance=5, n_samples=3).n_draws == 15
    assert SGVBB(n_samples=3).n_draws == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: IWAE(0), ValueError, "n_importance: expected a whole number of at least 1"),
        (lambda: DReG(2.5), TypeError, "n_importance: expected a whole number"),
        (lambda: STLIWAE(True), TypeError, "n_importance: expected a whole number"),
        (
            lambda: IWAE(n_samples=0),
            ValueError,
            "n_samples: expected a whole number of at least 1",
        ),
        (
            lambda: make_estimator("stl", n_importance=5),
            ValueError,
            r"has this setting \(iwae, stl-iwae, dreg",
        ),
        (
            lambda: make_estimator("iwae", beta=2),
            ValueError,
            r"has this setting \(sgvb-b\), got iwae",
        ),
        (lambda: make_estimator("sgvb"), ValueError, "estimator: expected one of sgvb-a, sgvb-b"),
        (lambda: make_estimator(None), ValueError, "estimator: expected one of"),
        (lambda: make_estimator(IWAE), ValueError, "estimator: expected one of"),
        (lambda: SGVBB(beta="much"), TypeError, "beta: expected a number of at least 0"),
        (lambda: SGVBB(free_bits=-1), ValueError, "free_bits: expected a finite number"),
        (lambda: SGVBB(beta=float("nan")), ValueError, "beta: expected a finite number"),
        (lambda: ScoreFunction("mean"), ValueError, "baseline: expected 'leave-one-out' or a"),
        (lambda: ScoreFunction(np.inf), ValueError, "baseline: expected 'leave-one-out' or a"),
        (lambda: ScoreFunction([0, 1]), ValueError, "baseline: expected 'leave-one-out' or a"),
        (
            lambda: ScoreFunction("leave-one-out"),
            ValueError,
            "n_samples: expected at least 2 draws",
        ),
    ],
)
def test_bad_settings_get_one_clear_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("estimator", "n_draws", "options", "message"),
    [
        (IWAE(5), 7, {}, r"eps: expected L·K draws .* multiple of K = 5, got 7; draw 5 or"),
        (DReG(5), 4, {}, r"eps: expected L·K draws .* multiple of K = 5, got 4; draw 5 or"),
        (SGVBB(), 0, {}, "eps: expected shape"),
        (ScoreFunction("leave-one-out", n_samples=2), 1, {}, "at least 2 draws"),
        (STL(), 2, {"update": "all"}, "update: expected one of both, phi, theta"),
    ],
)
def test_bad_noise_gets_one_clear_line(estimator, n_draws, options, message):
    vae, x = small_vae(), data_for("bernoulli")
    with pytest.raises(ValueError, match=message) as caught:
        estimator(vae, x, noise(n_draws), **options)
    assert "\n" not in str(caught.value)
