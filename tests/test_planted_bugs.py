"""The tests of the tests: each classic bug is planted, and a check that the tests run must fail.

A row of `BUGS` names a function, the piece of its source to replace, and checks. The function is
compiled again from its own source, once as it is, where every check must pass, and once with
the bug, where every check must fail. Most bugs have been reported against public VAE code.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import test_distributions as d
import test_elbo as e
import test_layers as y
import test_likelihoods as k
import test_optimizers as o
import test_parameters as p
import test_step_cost as c

from numpyvae.core import layers
from numpyvae.support import registry

# A failed assertion, `pytest.warns` without a warning, an overflow (warnings are errors here).
SEEN = (AssertionError, pytest.fail.Exception, RuntimeWarning)


class Bug(NamedTuple):
    """`edits` are pairs (old, new); `old` must occur once in the source of `where`."""

    name: str
    where: str
    edits: list[tuple[str, str]]
    checks: list[Callable[[], None]]


BUGS = [
    # The reparameterization and the noise.
    Bug(
        "sigma = exp(log variance) in the sampler",
        "core.distributions.reparameterize",
        [("np.exp(0.5 * logvar)", "np.exp(logvar)"), ("0.5 * (dz * scaled)", "(dz * scaled)")],
        [d.check_reparameterize_moments, e.check_two_forms, e.check_expected_gradients],
    ),
    Bug(
        "one noise for the whole batch",
        "core.distributions.reparameterize",
        [("* eps", "* eps[:, :1]")],
        [d.check_reparameterize_moments, e.check_batch_independence],
    ),
    Bug(
        "a second noise in the backward pass",
        "core.distributions.reparameterize",
        [("0.5 * (dz * scaled)", "0.5 * (dz * scaled[:, ::-1])")],
        [d.check_reparameterize_pullback, e.check_gradient],
    ),
    Bug(
        "noise of a hundredth in evaluation",
        "core.training.mean_elbo_terms",
        [("eps = row_noise", "eps = 0.01 * row_noise")],
        [e.check_evaluation],
    ),
    Bug(
        "evaluation draws from a shared generator",
        "core.training.mean_elbo_terms",
        [("row_noise(seed,", "row_noise(np.random.default_rng().integers(2**62),")],
        [e.check_evaluation],
    ),
    Bug(
        "evaluation gives every row the same noise",
        "core.training.mean_elbo_terms",
        [("vae.latent_dim)", "vae.latent_dim)[:, :1].repeat(len(block), axis=1)")],
        [e.check_evaluation],
    ),
    Bug(
        "noise of a hundredth in training",
        "core.training._Run.batches",
        [("vae.dtype), noise", "vae.dtype), 0.01 * noise")],
        [e.check_training_noise],
    ),
    Bug(
        "one noise for each training batch",
        "core.training._Run.batches",
        [("n_draws, len(batch), ", "n_draws, 1, ")],
        [e.check_training_noise],
    ),
    Bug(
        "the same noise in every epoch",
        "core.training._Run.batches",
        [("stream(self.seed, purpose, epoch)", "stream(self.seed, purpose)")],
        [e.check_training_noise],
    ),
    # The KL.
    Bug(
        "KL is a mean over the latents",
        "core.distributions.gaussian_kl",
        [
            (".sum(axis=-1)", ".mean(axis=-1)"),
            ("dkl)[..., None]", "dkl)[..., None] / mu.shape[-1]"),
        ],
        [d.check_kl_by_integration, e.check_two_forms],
    ),
    Bug(
        "KL twice",
        "core.distributions.gaussian_kl",
        [("kl = 0.5 * (", "kl = ("), ("dkl)[..., None]", "dkl)[..., None] * 2")],
        [d.check_kl_by_integration, e.check_two_forms, e.check_expected_gradients],
    ),
    Bug(
        "KL without its -1",
        "core.distributions.gaussian_kl",
        [("kl = 0.5 * (mu * mu + (excess", "kl = 0.5 * (mu * mu + (1 + excess")],
        [d.check_kl_by_integration, e.check_two_forms, e.check_worked_example],
    ),
    Bug(
        "gradient of the KL without its -1",
        "core.distributions.gaussian_kl",
        [("0.5 * excess", "0.5 * (excess + 1)")],
        [d.check_kl_pullback, e.check_gradient, e.check_worked_example],
    ),
    Bug(
        "KL reads log sigma for log variance",
        "core.distributions.gaussian_kl",
        [("np.expm1(logvar)", "np.expm1(2 * logvar)")],
        [d.check_kl_by_integration, e.check_two_forms],
    ),
    Bug(
        "sign of the mu gradient of the KL",
        "core.distributions.gaussian_kl",
        [("return dkl * mu", "return -dkl * mu")],
        [d.check_kl_pullback, e.check_gradient],
    ),
    Bug(
        "exp for expm1: digits lost near the prior",
        "core.distributions.gaussian_kl",
        [("np.expm1(logvar)", "np.exp(logvar) - 1")],
        [d.check_kl_keeps_its_digits_near_the_prior],
    ),
    Bug(
        "sign of the KL in the gradient",
        "core.elbo.evidence_lower_bound",
        [("pull_kl(-delbo)", "pull_kl(delbo)")],
        [e.check_gradient, e.check_worked_example],
    ),
    Bug(
        "sign of the KL in the gradient of any q",
        "inference.given_q.terms_given_q",
        [("pull_kl(-kl_shares)", "pull_kl(kl_shares)")],
        [e.check_given_q],
    ),
    Bug(
        "sampled KL forgets the gradient through z",
        "estimators.sampled._direct",
        [("return -a[..., None] * run.z, ", "return 0, ")],
        [partial(e.check_gradient, kl="sampled"), e.check_expected_gradients],
    ),
    Bug(
        "log q of a z that has lost its noise",
        "core.elbo.sampled_elbo",
        [("gaussian_logpdf(deviation", "gaussian_logpdf(z - mu")],
        [e.check_narrow_posterior],
    ),
    Bug(
        "sampled KL from a z that has lost its noise",
        "estimators.weights.weigh",
        [
            (
                "sampled_kl(z, logvar, eps)",
                "sampled_kl(z, logvar, (z - mu) * np.exp(-0.5 * logvar))",
            )
        ],
        [e.check_narrow_posterior],
    ),
    # Likelihoods.
    Bug(
        "Bernoulli is a mean over the pixels",
        "core.distributions.binomial_logpmf",
        [
            ("terms.sum(axis=-1)", "terms.mean(axis=-1)"),
            ("dlogp)[..., None]", "dlogp)[..., None] / x.shape[-1]"),
        ],
        [partial(d.check_binomial_against_scipy, 1), e.check_two_forms],
    ),
    Bug(
        "Gaussian is a mean over the dimensions",
        "core.distributions.gaussian_logpdf",
        [
            ("+ _LOG_2PI)).sum(axis=-1)", "+ _LOG_2PI)).mean(axis=-1)"),
            ("dlogp)[..., None]", "dlogp)[..., None] / np.shape(x)[-1]"),
        ],
        [d.check_gaussian_logpdf, partial(e.check_two_forms, "gaussian:0.3")],
    ),
    Bug(
        "clipped probabilities",
        "core.distributions.binomial_logpmf",
        [("    terms =", "    logits = np.clip(logits, -16.1, 16.1)\n    terms =")],
        [d.check_binomial_digits, e.check_two_forms_saturated],
    ),
    Bug(
        "a product of probabilities loses the small ones",
        "support.special.sum_log1p",
        [("    for _", "    t = (1 + t) - 1\n    for _")],
        [d.check_binomial_widths, d.check_binomial_digits],
    ),
    Bug(
        "folding drops the middle of an odd width",
        "support.special.sum_log1p",
        [("if width % 2:", "if False:")],
        [d.check_binomial_widths],
    ),
    Bug(
        "softplus that overflows",
        "core.layers.softplus",
        [
            ("t = exp_minus_abs(x)", "t = np.exp(x)"),
            ("y = log1p(t, one_t)", "return np.log1p(t), lambda dy: dy"),
        ],
        [partial(y.check_activation_values, "softplus"), y.check_softplus_digits],
    ),
    Bug(
        "sigmoid that overflows",
        "core.layers.sigmoid",
        [("y = np.maximum(t, x > 0)\n    y /= one_t", "y = 1 / (1 + np.exp(-x))")],
        [partial(y.check_activation_values, "sigmoid")],
    ),
    Bug(
        "sigmoid that is coarse in its tail",
        "core.layers.sigmoid",
        [("y = np.maximum(t, x > 0)\n    y /= one_t", "y = 0.5 * (1 + np.tanh(0.5 * x))")],
        [y.check_sigmoid_digits],
    ),
    Bug(
        "gradient in the logits that overflows",
        "core.distributions.binomial_logpmf",
        [
            (
                "dlogits = np.maximum(t, right)\n        dlogits /= 1 + t",
                "dlogits = 1 / (1 + np.exp(-logits))",
            )
        ],
        [e.check_extremes],
    ),
    Bug(
        "sigmoid that cancels in its negative tail",
        "core.layers.sigmoid",
        [("y = np.maximum(t, x > 0)\n    y /= one_t", "y = (1 + np.tanh(x / 2)) / 2")],
        [y.check_sigmoid_digits],
    ),
    Bug(
        "y (1 − y) in a sigmoid's positive tail",
        "core.layers.sigmoid",
        [("dx = t / one_t\n        dx /= one_t", "dx = y * (1 - y)")],
        [y.check_sigmoid_digits],
    ),
    Bug(
        "logarithm of a rounded 1 + t",
        "support.special.log1p",
        [("y /= one_t", "y *= 0")],
        [y.check_softplus_digits, d.check_binomial_digits],
    ),
    Bug(
        "Binomial without its coefficient",
        "core.distributions.binomial_logpmf",
        [("logp += log_binomial_coefficient(x, n)", "pass")],
        [
            d.check_binomial_against_scipy,
            d.check_binomial_sums_to_one,
            partial(k.check_log_prob, "binomial:16"),
            partial(e.check_two_forms, "binomial:16"),
        ],
    ),
    Bug(
        "gradient of the Binomial without n",
        "core.distributions.binomial_logpmf",
        [("dlogits *= n\n", "pass\n")],
        [d.check_binomial_pullback, partial(e.check_gradient, "binomial:16")],
    ),
    Bug(
        "Gaussian without its constant",
        "core.distributions.gaussian_logpdf",
        [("(logvar + _LOG_2PI)", "logvar")],
        [
            d.check_gaussian_logpdf,
            d.check_gaussian_integrates_to_one,
            partial(k.check_log_prob, "gaussian:0.3"),
            partial(e.check_two_forms, "gaussian:learned"),
        ],
    ),
    Bug(
        "Gaussian without its sigma",
        "core.distributions.gaussian_logpdf",
        [("deviation * np.exp(-logvar)", "deviation * 1")],
        [d.check_gaussian_logpdf, partial(e.check_two_forms, "gaussian:0.3")],
    ),
    Bug(
        "gradient of log variance without its -1",
        "core.distributions.gaussian_logpdf",
        [("(square - 1)", "square")],
        [d.check_gaussian_pullback, partial(e.check_gradient, "gaussian:learned")],
    ),
    Bug(
        "broadcast gradient is a mean",
        "core.distributions._sum_to",
        [("gradient.sum(", "gradient.mean(")],
        [d.check_gaussian_pullback, partial(e.check_gradient, "gaussian:learned")],
    ),
    Bug(
        "sigma read as a variance",
        "core.likelihoods.FixedGaussian.moments",
        [("2 * math.log(", "math.log(")],
        [partial(k.check_log_prob, "gaussian:0.3"), partial(e.check_two_forms, "gaussian:0.3")],
    ),
    Bug(
        "learned variance: gradient added",
        "core.likelihoods.LearnedGaussian.pull_moments",
        [("gradient[_VARIANCE][:] = dlogvar", "gradient[_VARIANCE][:] += dlogvar")],
        [partial(k.check_log_prob_pullback, "gaussian:learned"), e.check_encoder_and_decoder_fill],
    ),
    Bug(
        "mean and variance heads exchanged in the backward pass",
        "core.likelihoods.GaussianHead.pull_moments",
        [("[dmu, dlogvar]", "[dlogvar, dmu]")],
        [
            partial(k.check_log_prob_pullback, "gaussian:head"),
            partial(e.check_gradient, "gaussian:head"),
        ],
    ),
    Bug(
        "draws scattered by the variance",
        "core.likelihoods._Gaussian.draw",
        [("0.5 * logvar", "logvar")],
        [partial(k.check_moments_and_draws, "gaussian:learned")],
    ),
    Bug(
        "mean of the Binomial is a probability",
        "core.likelihoods.Binomial.mean",
        [("self.n * sig", "sig")],
        [partial(k.check_moments_and_draws, "binomial:16")],
    ),
    Bug(
        "grays read as log p in silence",
        "support.value_checks.check_outcomes",
        [("if grays:", "if False:")],
        [k.check_grays_are_announced],
    ),
    # The ELBO.
    Bug(
        "reconstruction from mu",
        "core.elbo.evidence_lower_bound",
        [("reparameterize(mu, logvar, eps)", "reparameterize(mu, logvar, 0 * eps)")],
        [e.check_two_forms, e.check_expected_gradients, e.check_worked_example],
    ),
    Bug(
        "reconstruction from mu for any q",
        "inference.given_q.terms_given_q",
        [("reparameterize(mu, logvar, eps)", "reparameterize(mu, logvar, 0 * eps)")],
        [e.check_given_q],
    ),
    Bug(
        "sum over the samples",
        "core.elbo.evidence_lower_bound",
        [("log_px.sum(axis=0) / len(eps)", "log_px.sum(axis=0)")],
        [e.check_samples_average, e.check_gradient],
    ),
    Bug(
        "log joint without the prior",
        "core.elbo.log_joint",
        [("return log_px + log_pz", "return log_px")],
        [e.check_log_joint],
    ),
    Bug(
        "Eq. (7) without the prior",
        "core.elbo.sampled_elbo",
        [("log_px + log_pz - log_q", "log_px - log_q")],
        [e.check_two_forms],
    ),
    Bug(
        "gradient divided by B alone",
        "core.elbo.evidence_lower_bound",
        [("delbo / len(eps)", "delbo")],
        [e.check_gradient, e.check_samples_average],
    ),
    Bug(
        "gradient of the sum over the batch",
        "core.elbo.elbo_and_grad",
        [("pull(shares)", "pull(np.ones_like(shares))")],
        [e.check_gradient, e.check_batch_independence],
    ),
    Bug(
        "weights of a quadrature divided by L too",
        "inference.given_q.terms_given_q",
        [("weights[:, None] / B", "weights[:, None] / B / len(eps)")],
        [e.check_quadrature_weights],
    ),
    Bug(
        "a gradient in theta left in an update of phi",
        "core.elbo.evidence_lower_bound",
        [('gradient if update != "phi" else None', "gradient")],
        [e.check_slices],
    ),
    Bug(
        "mu and log variance exchanged in the encoder",
        "core.vae.VAE.encoder",
        [("(out[:, :J], out[:, J:])", "(out[:, J:], out[:, :J])")],
        [e.check_two_forms, e.check_gradient],
    ),
    Bug(
        "samples and rows confused in the decoder",
        "core.vae.VAE.decoder",
        [("return out.reshape(L, B, -1)", "return out.reshape(B, L, -1).swapaxes(0, 1)")],
        [e.check_batch_independence, e.check_gradient],
    ),
    Bug(
        "importance weights averaged in log space",
        "support.special.log_mean_exp",
        [("dtype=float)", "dtype=float)\n        piece = 0 * piece + piece.mean(axis=0)")],
        [d.check_log_mean_exp, e.check_importance_weights],
    ),
    Bug(
        "importance weights summed",
        "support.special.log_mean_exp",
        [("total / K", "total")],
        [d.check_log_mean_exp, e.check_importance_weights],
    ),
    Bug(
        "running maximum forgets what was summed",
        "support.special.log_mean_exp",
        [("total * np.exp(before - m)", "total")],
        [d.check_log_mean_exp_in_pieces, e.check_importance_weights],
    ),
    Bug(
        "mean over the last piece's draws alone",
        "support.special.log_mean_exp",
        [("K += len(piece)", "K = len(piece)")],
        [d.check_log_mean_exp_in_pieces],
    ),
    Bug(
        "weights exponentiated as they are",
        "support.special.log_mean_exp",
        [("np.maximum(m, piece.max(axis=0))", "0.0")],
        [d.check_log_mean_exp_of_extremes],
    ),
    Bug(
        "the difference of two infinities where no weight is above zero",
        "support.special.log_mean_exp",
        [("m, total, K = _LOWEST", "m, total, K = -np.inf")],
        [d.check_log_mean_exp_of_zero_weights],
    ),
    # Layers.
    Bug(
        "derivative of tanh on a sigmoid's output",
        "core.layers.sigmoid",
        [("dx = t / one_t\n        dx /= one_t", "dx = 1 - y * y")],
        [
            partial(y.check_activation_pullback, "sigmoid"),
            partial(y.check_mlp_pullback, "sigmoid"),
            partial(e.check_gradient, activation="sigmoid"),
        ],
    ),
    Bug(
        "derivative of a sigmoid on tanh's output",
        "core.layers.tanh",
        [("dx = y * y\n        np.subtract(1, dx, out=dx)", "dx = y * (1 - y)")],
        [partial(y.check_activation_pullback, "tanh"), y.check_mlp_pullback, e.check_gradient],
    ),
    Bug(
        "relu passes the gradient on everywhere",
        "core.layers.relu",
        [("dy * (y > 0)", "dy * (y >= 0)")],
        [
            partial(y.check_activation_pullback, "relu"),
            partial(e.check_gradient, activation="relu"),
        ],
    ),
    Bug(
        "stale gradient handed to the trunk",
        "core.layers.mlp",
        [("pull_dense(pull_activation(dy)", "pull_dense(dy")],
        [y.check_mlp_pullback, e.check_gradient],
    ),
    Bug(
        "activation on the output layer",
        "core.layers.mlp",
        [
            (
                "    y, pull_last = dense(x, *weights[-1])",
                "    y, pull_last = dense(x, *weights[-1])\n    y, _ = activation(y)",
            )
        ],
        [y.check_mlp_values, e.check_two_forms],
    ),
    Bug(
        "weight gradient adds",
        "core.layers.dense",
        [("np.matmul(x.T, dy, out=dW)", "dW += x.T @ dy")],
        [
            y.check_dense_pullback,
            y.check_gradients_are_written,
            e.check_encoder_and_decoder_fill,
            e.check_gradient,
        ],
    ),
    Bug(
        "bias gradient is a mean",
        "core.layers.dense",
        [("dy.sum(axis=0", "dy.mean(axis=0")],
        [y.check_dense_pullback, y.check_gradients_are_written, e.check_gradient],
    ),
    Bug(
        "weights change half-way through the backward pass",
        "core.layers.dense",
        [("out=dW)", "out=dW); np.add(W, 1e-6 * dW, out=W)")],
        [y.check_dense_pullback, e.check_gradient],
    ),
    # Parameters and dtypes.
    Bug(
        "theta begins inside phi",
        "core.parameters.Parameters._view",
        [("flat[n_phi:]", "flat[n_phi - 1:]")],
        [p.check_phi_is_the_encoder, e.check_slices],
    ),
    Bug(
        "Glorot without its root",
        "core.parameters.glorot_uniform",
        [("math.sqrt(6.0 / (fan_in + fan_out))", "6.0 / (fan_in + fan_out)")],
        [p.check_glorot],
    ),
    Bug(
        "prior in the default dtype",
        "estimators.weights.sampled_kl",
        [("0.5 * (z * z -", "np.float64(0.5) * (z * z -")],
        [partial(e.check_no_upcast, kl="sampled")],
    ),
    Bug(
        "sigma in the default dtype",
        "core.likelihoods.FixedGaussian.moments",
        [(", out.real.dtype", "")],
        [partial(e.check_no_upcast, "gaussian:0.3")],
    ),
    Bug(
        "shares in the default dtype",
        "core.elbo.Estimator.estimate",
        [("1 / len(x), vae.dtype", "1 / len(x)")],
        [e.check_no_upcast],
    ),
    # Optimizers.
    Bug(
        "descent",
        "core.optimizers.SGD.compute_step",
        [("rate * g", "-rate * g")],
        [partial(o.check_against_scalar, "sgd")],
    ),
    Bug(
        "damped momentum",
        "core.optimizers.Momentum.compute_step",
        [("+= g", "+= (1 - self.rho) * g")],
        [partial(o.check_against_scalar, "momentum")],
    ),
    Bug(
        "Adagrad without its root",
        "core.optimizers.Adagrad.compute_step",
        [('np.sqrt(state["sum"])', 'state["sum"]')],
        [partial(o.check_against_scalar, "adagrad")],
    ),
    Bug(
        "RMSProp with epsilon inside the root",
        "core.optimizers.RMSProp.compute_step",
        [("np.sqrt(s) + self.eps", "np.sqrt(s + self.eps)")],
        [partial(o.check_against_scalar, "rmsprop")],
    ),
    Bug(
        "Adam without bias correction",
        "core.optimizers.Adam.compute_step",
        [("1 - self.beta1**t, 1 - self.beta2**t", "1, 1")],
        [partial(o.check_against_scalar, "adam"), o.check_pieces],
    ),
    Bug(
        "Adam with an uncorrected epsilon",
        "core.optimizers.Adam.compute_step",
        [("s += r * self.eps", "s += self.eps")],
        [partial(o.check_against_scalar, "adam")],
    ),
    Bug(
        "Adam skips the last of each piece",
        "core.optimizers.Adam.compute_step",
        [("slice(start, start + _PIECE)", "slice(start, start + _PIECE - 1)")],
        [o.check_pieces],
    ),
    Bug(
        "Adam counts its steps outside the state",
        "core.optimizers.Optimizer.step",
        [('state["t"] += 1', 'state["t"] = np.ones((), int)')],
        [partial(o.check_against_scalar, "adam")],
    ),
    Bug(
        "momentum kept outside the state",
        "core.optimizers.Momentum.compute_step",
        [('state["v"] *=', 'state = self.__dict__.setdefault("v", state)\n    state["v"] *=')],
        [partial(o.check_resume, "momentum")],
    ),
    Bug(
        "Burda's stages one epoch late",
        "support.schedules.burda_schedule",
        [("epoch >= end", "epoch > end")],
        [o.check_burda_schedule],
    ),
    # What a step costs.
    Bug(
        "likelihood takes its exponential twice",
        "core.distributions.binomial_logpmf",
        [("right = (", "t = exp_minus_abs(logits)\n        right = (")],
        [c.check_digits_walks],
    ),
    Bug(
        "one more pass over all parameters",
        "core.training._Run.epoch",
        [("norm = math.sqrt(np.dot(g, g))", "norm = math.sqrt(np.square(g).sum())")],
        [c.check_digits_walks],
    ),
    Bug(
        "a product row by row",
        "core.layers.dense",
        [
            (
                "y = x @ W",
                "y = np.zeros_like(W, shape=(len(x), W.shape[1]))\n"
                "    for row, out in zip(x, y):\n        np.matmul(row, W, out=out)",
            )
        ],
        [c.check_digits_walks],
    ),
    Bug(
        "float64 from the first tanh on",
        "core.layers.tanh",
        [("np.tanh(x)", "np.tanh(x, dtype=float)")],
        [c.check_digits_memory],
    ),
]


def compiled(where, edits):
    """Return the owner, the name, the function there, and its copy with the edits."""
    package, module, *owners, name = where.split(".")
    owner = importlib.import_module(f"numpyvae.{package}.{module}")
    for part in owners:
        owner = getattr(owner, part)
    function = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(function))
    source = source[source.index("def ") :]  # a decorator would register the copy for good
    for old, new in edits:
        if source.count(old) != 1:
            raise LookupError(f"{where}: expected {old!r} once in the source; adapt this row")
        source = source.replace(old, new)
    namespace = {}
    flags = annotations.compiler_flag  # the feature of that import
    code = compile(source, f"<planted in {where}>", "exec", flags)
    exec(code, function.__globals__, namespace)
    vars(namespace[name]).update(vars(function))
    return owner, name, function, namespace[name]


def plant(patch, where, edits=()):
    """Put the copy wherever the function is: in its class, or in each module and table."""
    owner, name, function, copy = compiled(where, edits)
    if inspect.isclass(owner):
        patch.setattr(owner, name, copy)
        return
    for key, module in list(sys.modules.items()):
        if key.partition(".")[0] != "numpyvae" and not key.startswith("test_"):
            continue
        for attribute, held in list(vars(module).items()):
            if held is function:
                patch.setattr(module, attribute, copy)
            elif isinstance(held, dict):
                for entry, value in list(held.items()):
                    if value is function:
                        patch.setitem(held, entry, copy)


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_planted_bug_is_detected(bug, monkeypatch):
    with monkeypatch.context() as patch:
        plant(patch, bug.where)
        for check in bug.checks:
            check()
    with monkeypatch.context() as patch:
        plant(patch, bug.where, bug.edits)
        for check in bug.checks:
            with pytest.raises(SEEN):
                check()


def test_a_planted_activation_is_gone_afterwards(monkeypatch):
    """Kills a copy that registers itself, so that every later test runs with the bug."""
    with monkeypatch.context() as patch:
        plant(patch, "core.layers.tanh", [("y * y", "y * 0")])
        assert registry.ACTIVATIONS["tanh"] is layers.tanh
        assert layers.tanh.smooth
        assert layers.tanh.__code__.co_filename == "<planted in core.layers.tanh>"
    assert registry.ACTIVATIONS["tanh"] is layers.tanh
    assert layers.tanh.__code__.co_filename == layers.__file__


def test_a_row_whose_source_has_changed_says_so():
    """Kills an edit that no longer changes anything and seems to be planted."""
    with pytest.raises(LookupError, match="adapt this row"):
        compiled("core.layers.tanh", [("no such line", "")])
