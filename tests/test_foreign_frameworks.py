"""log p(x) of decoders written in PyTorch and JAX, against models that are known."""

import math

import numpy as np
import pytest

from numpyvae import VAE, bounds, importance_log_likelihood
from numpyvae.bounds.streams import row_slices
from numpyvae.clinic import ForeignVAE, foreign_from_jax, foreign_from_torch
from numpyvae.exact import LinearGaussian
from numpyvae.support.contract import row_size

J, D = 3, 8


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch", reason='needs PyTorch: pip install "numpyvae[torch]"')
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield torch
    torch.set_num_threads(before)


@pytest.fixture
def jax():
    return pytest.importorskip("jax", reason='needs JAX: pip install "numpyvae[jax]"')


def model(likelihood="bernoulli", dtype="float64"):
    vae = VAE(D, J, (7,), likelihood=likelihood, dtype=dtype)
    vae.parameters.flat[:] = np.random.default_rng(0).normal(0, 0.6, vae.parameters.flat.size)
    return vae


def all_bounds(vae, n_jobs=1, data=None):
    """Bounds on eight datapoints; the chains of annealing enlarge a difference by rounding."""
    x, z = data or bounds.simulate(vae, 8)
    annealed = bounds.annealed_log_likelihood(vae, x, 12, 4, posterior=z, n_jobs=n_jobs)
    importance = importance_log_likelihood(vae, x, 40, n_jobs=n_jobs)
    return np.stack([importance, bounds.eubo(vae, x, z), annealed.log_lower, annealed.log_upper])


def same_bounds(twin, vae):
    """Assert that two models agree, in log p(x|z), its gradient and all bounds."""
    twin.row_size = row_size(vae)
    x, z = data = bounds.simulate(vae, 8)
    values = []
    for each in (twin, vae):
        log_px, pull = each.log_likelihood(x, z[None])
        values.append((log_px, pull(np.ones_like(log_px))))
    for found, expected in zip(*values):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    found, expected = (all_bounds(each, data=data) for each in (twin, vae))
    np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-12)
    np.testing.assert_allclose(found[2:], expected[2:], rtol=1e-6)


# PyTorch


def dense(torch, layers):
    """A network of the given (W, b), with tanh between them."""
    modules = []
    for W, b in layers:
        layer = torch.nn.Linear(*W.shape, dtype=getattr(torch, W.dtype.name))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(W.T))
            layer.bias.copy_(torch.tensor(b))
        modules += [layer, torch.nn.Tanh()]
    return torch.nn.Sequential(*modules[:-1])


def torch_copy(torch, vae):
    """The same model in PyTorch."""
    split = vae.likelihood.heads == 2
    networks = [dense(torch, part) for part in (vae.parameters.encoder, vae.parameters.decoder)]
    encoder, decoder = networks
    shapes = vae.likelihood.parameter_shapes(D)
    return foreign_from_torch(
        (lambda z: tuple(decoder(z).chunk(2, dim=1))) if split else decoder,
        latent_dim=J, data_dim=D, likelihood=vae.likelihood,
        encoder=lambda x: encoder(x).chunk(2, dim=1), module=torch.nn.ModuleList(networks),
        parameters={name: torch.tensor(vae.parameters[name]) for name in shapes},
    )  # fmt: skip


@pytest.mark.parametrize(
    "likelihood", ["bernoulli", "poisson", "gaussian:0.5", "gaussian:learned", "gaussian:head"]
)
def test_a_copy_in_pytorch_has_the_bounds_of_the_model(torch, likelihood):
    # kills: a gradient in other variables, another precision, mean and logvar exchanged
    vae = model(likelihood)
    twin = torch_copy(torch, vae)
    assert twin.dtype == np.float64
    same_bounds(twin, vae)


def test_a_float32_copy_in_pytorch(torch):
    # kills: a precision other than that of the module
    vae = model(dtype="float32")
    twin = torch_copy(torch, vae)
    assert twin.dtype == np.float32
    x = vae.sample(5)
    np.testing.assert_allclose(
        importance_log_likelihood(twin, x, 50), importance_log_likelihood(vae, x, 50), rtol=1e-5
    )


def test_a_linear_decoder_in_pytorch_lies_between_its_bounds(torch):
    # kills: whatever moves log p(x), as a constant that is left out does
    decoder = torch.nn.Linear(J, D).double()
    with torch.no_grad():
        decoder.weight.mul_(2)
    vae = foreign_from_torch(decoder, latent_dim=J, data_dim=D, likelihood="gaussian:0.5")
    x, z = bounds.simulate(vae, 40, seed=1)
    result = bounds.annealed_log_likelihood(vae, x, 200, 8, posterior=z)
    W, b = (p.detach().numpy() for p in decoder.parameters())
    evidence = LinearGaussian(W, b, 0.25).log_evidence(x)
    for side, values in ((1, result.log_upper), (-1, result.log_lower)):
        over = side * (values - evidence)
        assert -5 * over.std() / math.sqrt(40) < over.mean() < 0.1


def convolutional(torch, scale=1.0):
    """8×8 images from J latents, with batch normalization and a rectifier in place."""
    nn = torch.nn
    net = nn.Sequential(
        nn.Linear(J, 64), nn.ReLU(inplace=True), nn.Unflatten(1, (16, 2, 2)),
        nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.ConvTranspose2d(8, 1, 4, 2, 1),
    )  # fmt: skip
    with torch.no_grad():
        for weight in (net[0].weight, net[3].weight, net[6].weight):
            weight.mul_(scale)
    return net


def test_the_sandwich_closes_on_a_convolutional_decoder(torch):
    # kills: moves that are hardly ever accepted, as those of a wrong gradient are
    net = convolutional(torch, 3.0)
    vae = foreign_from_torch(net, latent_dim=J, data_dim=(1, 8, 8), likelihood="bernoulli")
    result = bounds.sandwich(vae, 20, 60, 4)
    gap, error = result.gap
    assert -5 * error < gap < 1
    assert 0.5 < result.acceptance.mean() < 0.8
    x, _ = bounds.simulate(vae, 20)
    prior = importance_log_likelihood(vae, x, 1)
    assert result.log_lower.mean() - prior.mean() > 3  # so the posterior is far from the prior


def test_the_number_of_workers_changes_no_bit_in_pytorch(torch):
    # kills: products that PyTorch shares out among its threads
    net = convolutional(torch)
    vae = foreign_from_torch(net, latent_dim=J, data_dim=64, likelihood="bernoulli")
    vae.row_size = vae.row_size._replace(widest=1 << 15)
    assert len(row_slices(vae, 8, 4, None)) > 1
    alone = all_bounds(vae, 1)
    assert torch.get_num_threads() == 2
    np.testing.assert_array_equal(all_bounds(vae, 2), alone)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    np.testing.assert_array_equal(all_bounds(vae, None), alone)


def test_a_call_has_one_thread_and_restores_their_number(torch):
    # kills: workers with as many threads each, and a process that is left with one thread
    found = []

    def decode(z):
        found.append(torch.get_num_threads())
        return z.tanh()

    vae = foreign_from_torch(decode, latent_dim=J, data_dim=J, likelihood="bernoulli")
    all_bounds(vae, 2)
    assert set(found) == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("mode", ["enable_grad", "no_grad", "inference_mode"])
def test_the_module_stays_as_it_was(torch, mode):
    # kills: a module left in evaluation mode, running statistics that move, gradients that pile up
    net = convolutional(torch)
    net.train()
    net[4].eval()  # a user's choice
    net[0].weight.requires_grad_(False)
    net[0].bias.grad = torch.ones_like(net[0].bias)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    with getattr(torch, mode)():
        vae = foreign_from_torch(
            net, latent_dim=J, data_dim=(1, 8, 8), likelihood="bernoulli",
            encoder=lambda x: (x.flatten(1)[:, :J], x.flatten(1)[:, :J]),
        )  # fmt: skip
        all_bounds(vae)
    assert [m.training for m in net] == [True] * 4 + [False] + [True] * 2
    assert net.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * 7
    grads = [p.grad for p in net.parameters()]
    assert grads[1].eq(1).all()
    assert all(g is None for g in grads[:1] + grads[2:])


def test_the_mode_is_restored_after_an_error(torch):
    # kills: a module left in evaluation mode by a call that fails
    net = torch.nn.Sequential(torch.nn.Linear(J, 4), torch.nn.Dropout(0.5), torch.nn.Linear(5, D))
    with pytest.raises(RuntimeError, match=r"decode: expected a result .*cannot be multiplied"):
        foreign_from_torch(net, latent_dim=J, data_dim=D, likelihood="bernoulli")
    assert [m.training for m in net.modules()] == [True] * 4
    assert torch.get_num_threads() == 2


def test_a_module_may_work_in_place(torch):
    # kills: "a leaf Variable that requires grad is being used in an in-place operation"
    linear = torch.nn.Linear(J, D)
    settings = {"latent_dim": J, "data_dim": D, "likelihood": "gaussian:1.0"}
    in_place, not_in_place = (
        all_bounds(foreign_from_torch(decoder, module=linear, **settings))
        for decoder in (lambda z: linear(z.tanh_()), lambda z: linear(z.tanh()))
    )
    np.testing.assert_array_equal(in_place, not_in_place)


def test_a_method_of_a_module_is_in_evaluation_mode_too(torch):
    # kills: dropout that draws when `decode` is a method, and not the module itself
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Linear(J, D), torch.nn.Dropout(0.5))

        def encode(self, x):
            return x[:, :J], x[:, :J]

        def decode(self, z):
            return self.net(z)

    vae = Model().double()
    foreign = foreign_from_torch(
        vae.decode, encoder=vae.encode, latent_dim=J, data_dim=D, likelihood="bernoulli"
    )
    assert foreign.dtype == np.float64
    assert vae.training
    assert np.isfinite(all_bounds(foreign)).all()


def bad_modules(torch):
    nn, functional = torch.nn, torch.nn.functional
    linear = nn.Linear(J, D)
    mixed = nn.Sequential(nn.Linear(J, 4), nn.Linear(4, D).double())
    return {
        "noise": (lambda z: functional.dropout(linear(z)), ValueError, "decode: .*same outputs"),
        "batch": (
            nn.Sequential(linear, nn.BatchNorm1d(D, track_running_stats=False)),
            ValueError, "decode: .*other rows.*evaluation mode",
        ),
        "half": (nn.Linear(J, D).half(), ValueError, "module: .*got float16; convert"),
        "mixed": (mixed, ValueError, "module: .*got float32 and float64"),
        "double": (lambda z: linear(z).double(), TypeError, "decode: .*float32.*got float64"),
        "NaN": (lambda z: linear(z) * math.nan, ValueError, "decode: expected finite outputs"),
        "overflow": (lambda z: linear(z) * 1e38 * 100, ValueError, "decode: expected finite"),
        "no gradient": (lambda z: linear(z).detach(), RuntimeError, "pull of decode: .*Runtime"),
        "NumPy": (lambda z: z.numpy() * 2, RuntimeError, "decode: .*Can't call numpy"),
        "text": (lambda z: "logits", TypeError, "decode: .*NumPy array, got str"),
        "shape": (nn.Linear(J, D - 1), ValueError, r"decode: expected shape \(5, 8\)"),
    }  # fmt: skip


@pytest.mark.parametrize("what", ["noise", "batch", "half", "mixed", "double", "NaN", "overflow",
                                  "no gradient", "NumPy", "text", "shape"])  # fmt: skip
def test_bad_modules_get_one_line(torch, what):
    # kills: an error of PyTorch inside a bound, and a meaningless log p(x)
    decoder, error, message = bad_modules(torch)[what]
    with pytest.raises(error, match=message) as caught:
        foreign_from_torch(decoder, latent_dim=J, data_dim=D, likelihood="bernoulli")
    assert "\n" not in str(caught.value)


def test_tensors_without_the_constructor_are_refused(torch):
    # kills: a tensor that NumPy converts in silence, and whose gradient is lost
    linear = torch.nn.Linear(J, D).double()
    with pytest.raises(TypeError, match=r"decode: expected a NumPy array, got torch.*foreign_fr"):
        ForeignVAE(
            lambda z: linear(torch.tensor(z)), lambda z, dout: z,
            latent_dim=J, data_dim=D, likelihood="bernoulli",
        )  # fmt: skip
    with pytest.raises(TypeError, match=r"module: expected a torch\.nn\.Module, got 3"):
        foreign_from_torch(linear, module=3, latent_dim=J, data_dim=D, likelihood="bernoulli")


# JAX


def jax_copy(jax, vae):
    """The same model in JAX."""
    (V, b), (W, c) = vae.parameters.decoder
    encoder, tanh = vae.parameters.encoder, jax.numpy.tanh

    def decode(z):
        out = tanh(z @ V + b) @ W + c
        return (out[:, :D], out[:, D:]) if vae.likelihood.heads == 2 else out

    def encode(x):
        out = tanh(x @ encoder[0][0] + encoder[0][1]) @ encoder[1][0] + encoder[1][1]
        return out[:, :J], out[:, J:]

    return foreign_from_jax(
        decode, encode=encode, latent_dim=J, data_dim=D, likelihood=vae.likelihood,
        dtype=vae.dtype.name,
    )  # fmt: skip


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian:head"])
def test_a_copy_in_jax_has_the_bounds_of_the_model(jax, likelihood):
    # kills: a gradient in other variables, another precision, mean and logvar exchanged
    jax.config.update("jax_enable_x64", True)
    try:
        vae = model(likelihood)
        same_bounds(jax_copy(jax, vae), vae)
    finally:
        jax.config.update("jax_enable_x64", False)


def test_the_number_of_workers_changes_no_bit_in_jax(jax):
    # kills: a compiled function whose result depends on the thread
    vae = jax_copy(jax, model(dtype="float32"))
    vae.row_size = vae.row_size._replace(widest=1 << 15)
    assert len(row_slices(vae, 8, 4, None)) > 1
    np.testing.assert_array_equal(all_bounds(vae, 2), all_bounds(vae, 1))


def test_jax_compiles_once_for_each_shape(jax):
    # kills: a pullback that is traced again at each call, which takes a thousand times as long
    traced = []

    def decode(z):
        traced.append(z.shape)
        return jax.numpy.sin(z)

    vae = foreign_from_jax(decode, latent_dim=J, data_dim=J, likelihood="bernoulli")
    first = len(traced)
    for _ in range(5):
        out, pull = vae.decoder(np.ones((2, 3, J), "f"))
        pull(out)
    assert len(traced) == first + 1


def test_bad_jax_functions_get_one_line(jax):
    # kills: an error of JAX inside a bound, and a meaningless log p(x)
    settings = {"latent_dim": J, "data_dim": D, "likelihood": "bernoulli"}
    W = np.ones((J, D), "f")
    cases = [
        (lambda z: z @ W, {"dtype": "float64"}, ValueError, "dtype: .*jax_enable_x64"),
        (lambda z: z @ W.T, {}, RuntimeError, "decode: .*TypeError: dot_general"),
        (lambda z: z @ W if z.sum() > 0 else z, {}, RuntimeError, "decode: .*TracerBool"),
        (lambda z: z, {}, ValueError, r"decode: expected shape \(5, 8\)"),
        (lambda z: (z @ W).astype("bfloat16"), {}, TypeError, "decode: .*got bfloat16"),
        (lambda z: z @ W / 0, {}, ValueError, "decode: expected finite outputs"),
        (lambda z: "logits", {}, RuntimeError, "decode: .*str"),
    ]
    for decode, changes, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            foreign_from_jax(decode, **settings | changes)
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match=r"got jax.*use foreign_from_jax"):
        ForeignVAE(jax.numpy.asarray, lambda z, dout: z, **settings)


@pytest.mark.parametrize("make", [foreign_from_torch, foreign_from_jax])
def test_a_missing_framework_is_named(make, monkeypatch):
    # kills: "No module named 'torch'", without what to install
    name = make.__name__.rpartition("_")[2]
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ImportError, match=rf'expected .*not installed; .*"numpyvae\[{name}\]"'):
        make(np.tanh, latent_dim=J, data_dim=J, likelihood="bernoulli")
