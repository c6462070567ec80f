"""Subjects of PyTorch modules: right VAEs of many styles raise no alarm, bugs are named."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason='needs PyTorch: pip install "numpyvae[torch]"')

import clinic_torch_vaes as vaes
import torch
from torch import nn

from numpyvae.clinic import check, examine, from_torch


def binary(*shape):
    return (np.random.default_rng(5).random((24, *shape)) < 0.5).astype("float32")


def made(kind, *args, seed=0):
    torch.manual_seed(seed)
    return vaes.larger(kind(*args))


def value_report(subject):
    """The report without the gradient, which autograd gives."""
    return examine(dataclasses.replace(subject, gradient=None, parameters=None))


def closure():
    """A module and a loss that knows it."""
    model, of_outputs = made(vaes.Dense), vaes.loss_function()

    def loss(x):
        recon, mu, logvar = model(x)
        return of_outputs(recon, x, mu, logvar)

    return model, loss


RIGHT = {
    "sum over the batch": lambda x: from_torch(made(vaes.Dense), vaes.loss_function(), x=x),
    "dict of a loss of *args": lambda x: from_torch(made(vaes.Several), x=x),
    "step on a batch and labels": lambda x: from_torch(made(vaes.Step), x=x),
    "logits, log sigma first": lambda x: from_torch(made(vaes.Halves), vaes.logits_loss, x=x),
    "distributions": lambda x: from_torch(made(vaes.Distributions), x=x),
    "KL at the draw": lambda x: from_torch(made(vaes.Sampled), x=x),
    "squared error": lambda x: from_torch(made(vaes.Dense), vaes.squared_loss, x=x),
    "dropout": lambda x: from_torch(made(vaes.Dropped), vaes.loss_function(), x=x),
    "negative sigma": lambda x: from_torch(made(vaes.Signed), vaes.signed_loss, x=x),
    "loss that knows the module": lambda x: from_torch(*closure(), x=x),
    "module as the first argument": lambda x: from_torch(
        made(vaes.Dense), lambda m, x: vaes.squared_loss(m(x)[0], x, *m.encode(x)), x=x
    ),
    "float32 alone": lambda x: from_torch(made(vaes.Single), vaes.loss_function(), x=x),
    "float64 module": lambda x: from_torch(made(vaes.Dense).double(), vaes.loss_function(), x=x),
    "draw of sigma": lambda x: from_torch(made(vaes.OfSigma), vaes.loss_function(), x=x),
    "positive log variance": lambda x: from_torch(made(vaes.Positive), x=x),
    "two terms": lambda x: from_torch(made(vaes.Dense), vaes.two_terms, x=x),
    "variance of the decoder": lambda x: from_torch(
        made(vaes.Variance), x=np.random.default_rng(1).normal(size=(24, vaes.D))
    ),
    "gaussian with two outputs": lambda x: from_torch(
        made(vaes.Gaussian), x=np.random.default_rng(1).normal(size=(24, vaes.D))
    ),
}


@pytest.mark.parametrize("style", RIGHT)
def test_a_right_vae_raises_no_alarm(style):
    # Kills: a wrong guess of an order, of a likelihood or of a draw that reads as a bug.
    report = value_report(RIGHT[style](binary(vaes.D)))
    assert report.names == (), str(report)
    told = {f.examination: f.verdict for f in report.findings}
    assert told["assembly: loss = −ELBO"] == "right", str(report)
    assert told["assembly: rows of a batch"] == "right", str(report)


def test_a_loss_that_needs_two_rows_costs_only_the_reduction():
    # Kills: an examination of the whole loss that ends with its failure on one row.
    report = value_report(from_torch(made(vaes.Squeezed), vaes.loss_function(), x=binary(vaes.D)))
    assert report.names == (), str(report)
    told = {f.examination: f.verdict for f in report.findings}
    assert told["assembly: loss = −ELBO"] == "right", str(report)
    assert told["assembly: rows of a batch"] == "not examined", str(report)


def test_batch_normalization_and_dropout_are_told_and_are_no_bug():
    # Kills: an examination of random or batch-dependent outputs, and one that leaves the rest out.
    report = value_report(from_torch(made(vaes.Images), vaes.image_loss, x=binary(1, 8, 8)))
    assert report.names == ("batch statistics",), str(report)
    assert report.ok
    told = {f.examination: f.verdict for f in report.findings}
    assert told["assembly: loss = −ELBO"] == "right", str(report)
    assert any("BatchNorm2d, Dropout" in g for g in report.guesses)


BUGS_OF_THE_DRAW = {
    "std = exp(s)": "log σ² read as log σ in the sampler",
    "std = exp(s/4)": "exp(¼ log σ²) as standard deviation",
    "mean decoded": "mean decoded",
    "mu + sigma": "μ + σ decoded, without noise",
    "z scaled": "z scaled after the draw",
    "small noise": "noise of the wrong size",
    "uniform": "uniform noise",
    "one eps per batch": "one ε for the whole batch",
    "first eps for all": "one ε for the whole batch",
    "one eps for latents": "one ε for all latents",
    "fixed eps": "same ε in every call",
    "mean in evaluation": "evaluation without noise",
}
BUGS_OF_THE_LOSS = {
    "KL without half": "KL without ½",
    "KL sign": "sign of the KL",
    "KL mean over latents": "KL averaged over latents",
    "BCE mean": "reconstruction averaged over pixels",
    "KL without -1": "KL without its −1",
    "KL reads log sigma": "log σ² read as log σ in the KL",
    "mu missing": "μ² missing in the KL",
    "log missing": "log σ² missing in the KL",
    "prior e^2": "prior of another variance",
    "KL sum, BCE mean": "KL summed over the batch, reconstruction averaged",
    "rec /B twice": "reconstruction divided by the batch twice",
    "nominal batch": "nominal batch size in the divisor",
    "clipped": "clipped cross-entropy",
    "one term": "(1−x) term missing",
    "sigmoid twice": "sigmoid applied twice",
    "swapped": "x and reconstruction swapped",
}
BUGS_OF_THE_GRADIENT = {
    "sigma detached": "path through σ detached",
    "z detached": "z detached",
}


@pytest.mark.parametrize("bug", BUGS_OF_THE_DRAW)
def test_a_bug_of_the_draw_is_named(bug):
    # Kills: noise that is replaced where the draw itself is wrong, so that the bug is not seen.
    subject = from_torch(made(vaes.Dense, bug), vaes.loss_function(), x=binary(vaes.D))
    report = value_report(subject)
    assert report.names[:1] == (BUGS_OF_THE_DRAW[bug],), str(report)
    assert report.ok == (bug == "mean in evaluation")


@pytest.mark.parametrize("bug", BUGS_OF_THE_LOSS)
def test_a_bug_of_the_loss_is_named(bug):
    # Kills: an argument in the wrong place, a term that is not told from the other.
    declared = {"batch_size": 16} if bug == "nominal batch" else {}
    subject = from_torch(
        made(vaes.Dense), vaes.loss_function(bug), x=binary(vaes.D), likelihood="bernoulli",
        **declared,
    )  # fmt: skip
    report = value_report(subject)
    assert report.names[:1] == (BUGS_OF_THE_LOSS[bug],), str(report)


def test_two_bugs_of_the_weight_are_both_named():
    # Kills: an unnamed weight, β = D B, where the mean is over pixels and rows in one term alone.
    subject = from_torch(
        made(vaes.Dense), vaes.loss_function("BCE mean, KL sum"), x=binary(vaes.D)
    )
    assert value_report(subject).names == (
        "reconstruction averaged over pixels",
        "KL summed over the batch, reconstruction averaged",
    )


@pytest.mark.parametrize("bug", BUGS_OF_THE_GRADIENT)
def test_a_bug_of_the_gradient_is_named(bug):
    # Kills: parameters in another order than the gradient.
    subject = from_torch(made(vaes.Dense, bug), vaes.loss_function(), x=binary(vaes.D))
    report = examine(subject)
    assert report.names == (BUGS_OF_THE_GRADIENT[bug],), str(report)


def test_a_kl_without_gradient_is_named():
    # Kills: a gradient that is taken as right since autograd made it.
    subject = from_torch(made(vaes.Dense), vaes.loss_function("KL detached"), x=binary(vaes.D))
    assert examine(subject).names == ("gradient of the KL missing",)


def test_a_right_gradient_is_right():
    # Kills: parameters that are set in another place than they are read.
    subject = from_torch(made(vaes.Dense), vaes.loss_function(), x=binary(vaes.D))
    assert subject.noise == "eps"
    report = examine(subject)
    told = {f.examination: f.verdict for f in report.findings}
    assert told["gradient: derivative of the loss"] == "right", str(report)
    check(subject)


# What is left behind


def test_nothing_of_the_user_is_changed():
    # Kills: a dtype, a mode, a statistic, a gradient, an attribute or a generator that stays.
    model = made(vaes.Images)
    model.train()
    model.decoder.eval()
    model(torch.ones(4, 1, 8, 8))[0].sum().backward()
    before = [(p, p.data_ptr(), p.clone(), p.grad, p.dtype) for p in model.parameters()]
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    modes = [m.training for m in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    report = value_report(from_torch(model, vaes.image_loss, x=binary(1, 8, 8)))
    assert report.ok
    for p, place, value, grad, dtype in before:
        assert p.data_ptr() == place
        assert p.grad is grad
        assert p.dtype == dtype
        assert torch.equal(p, value)
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.get_default_dtype() == torch.float32


def test_an_attribute_that_a_call_sets_is_put_back():
    # Kills: a counter of steps, by which a loss is annealed, that goes on between calls.
    model = made(vaes.Step)
    subject = from_torch(model, x=binary(vaes.D))
    subject.loss(binary(vaes.D), np.zeros((24, vaes.J)))
    assert not hasattr(model, "recorded")


# Bad input


def test_what_cannot_be_called_is_one_line():
    # Kills: a traceback, and a message that does not say what was tried.
    def fails(recon, x, mu, logvar):
        raise RuntimeError("shapes do not fit\nand more")

    for loss, text in [
        (fails, "raised RuntimeError: shapes do not fit"),
        (lambda x: (x.sum(), x.sum()), "expected one loss, got two values"),
        (lambda x: "text", "expected a loss, got str"),
    ]:
        with pytest.raises(ValueError, match=text) as caught:
            from_torch(made(vaes.Dense), loss, x=binary(vaes.D))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"module": len}, TypeError, "module: expected a torch.nn.Module, got"),
        ({"module": []}, TypeError, "got an empty sequence"),
        ({"x": np.ones(3)}, ValueError, "x: expected at least 4 rows"),
        ({"x": "digits"}, ValueError, "x: expected at least 4 rows"),
        ({"betta": 2}, TypeError, "expected fields of Subject"),
        ({"noise": "key"}, ValueError, "noise: expected"),
    ],
)
def test_a_wrong_argument_is_refused(arguments, error, text):
    # Kills: a misspelled name that is ignored.
    given = {"module": made(vaes.Dense), "x": binary(vaes.D)} | arguments
    with pytest.raises(error, match=text):
        from_torch(given.pop("module"), vaes.loss_function(), **given)


def test_noise_that_cannot_be_replaced_is_refused_or_left_to_the_seed():
    # Kills: ε put in the place of numbers that are not those of z.
    given = made(vaes.Dense, "uniform"), vaes.loss_function()
    with pytest.raises(ValueError, match="draws other numbers \\(rand_like\\)"):
        from_torch(*given, x=binary(vaes.D), noise="eps")
    assert from_torch(*given, x=binary(vaes.D)).noise is None
    shared = made(vaes.Dense, "first eps for all"), vaes.loss_function()
    assert from_torch(*shared, x=binary(vaes.D)).noise is None


def test_a_random_state_that_is_not_seeded_is_no_bug():
    # Kills: a verdict on noise that no seed reaches.
    generator = torch.Generator()
    model = made(vaes.Dense)
    model.noise = lambda std: torch.randn(std.shape, generator=generator)
    report = value_report(from_torch(model, vaes.loss_function(), x=binary(vaes.D)))
    assert report.ok, str(report)


def test_an_encoder_and_a_decoder_may_be_modules_of_their_own():
    # Kills: parameters of the second module in another dtype.
    encoder, decoder = made(nn.Linear, vaes.D, 2 * vaes.J), made(nn.Linear, vaes.J, vaes.D)

    def loss(x):
        mu, s = encoder(x).chunk(2, 1)
        logits = decoder(mu + torch.exp(0.5 * s) * torch.randn_like(s))
        rec = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return rec + vaes.kl_rows(mu, s).sum()

    subject = from_torch(
        [encoder, decoder], loss, x=binary(vaes.D), encode=lambda x: encoder(x).chunk(2, 1),
        decode=decoder,
    )  # fmt: skip
    report = value_report(subject)
    assert report.names == (), str(report)
    assert "assembly: loss = −ELBO" in [f.examination for f in report.findings]
