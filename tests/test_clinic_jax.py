"""The clinic on VAEs in JAX, in the calling forms of its libraries: right, and with bugs."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from numpyvae.clinic import examine, from_jax
from numpyvae.clinic.calls import Calls
from numpyvae.clinic.examine import EXAMINATIONS
from numpyvae.clinic.facts import establish
from numpyvae.clinic.jax_arguments import orders

jax = pytest.importorskip("jax", reason='needs JAX: pip install "numpyvae[jax]"')
jnp = jax.numpy
D, J, H = 6, 2, 5


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Programs this small need no optimization."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


X = np.random.default_rng(7).integers(0, 2, (30, D)).astype(float)
REALS = np.random.default_rng(8).standard_normal((30, D))


def layer(rng, a, b):
    return {"W": rng.normal(0, 0.9, (a, b)), "b": rng.normal(0, 0.9, b)}


def weights(outputs=D):
    rng = np.random.default_rng(3)
    tree = {
        "encoder": {"hidden": layer(rng, D, H), "mu": layer(rng, H, J), "s": layer(rng, H, J)},
        "decoder": {"hidden": layer(rng, J, H), "out": layer(rng, H, outputs)},
    }
    return jax.tree_util.tree_map(lambda a: jnp.asarray(a, "float32"), tree)


def dense(layer, x):
    return x @ layer["W"] + layer["b"]


def encode(params, x):
    h = jnp.tanh(dense(params["encoder"]["hidden"], x))
    return dense(params["encoder"]["mu"], h), 0.6 * dense(params["encoder"]["s"], h) - 0.5


def decode(params, z):
    return dense(params["decoder"]["out"], jnp.tanh(dense(params["decoder"]["hidden"], z)))


def kl_rows(mu, s, bug=""):
    if bug == "KL reads log sigma":
        s = 2 * s
    one = 0.0 if bug == "KL without -1" else 1.0
    kl = 0.5 * ((0 if bug == "mu missing" else 1) * mu**2 + jnp.exp(s) - s - one)
    kl = kl * (2 if bug == "KL without half" else 1)
    return kl.mean(-1) if bug == "KL mean over latents" else kl.sum(-1)


def cost_rows(x, logits, bug=""):
    if bug == "sigmoid twice":
        logits = jax.nn.sigmoid(logits)
    if bug == "one term":
        return (x * jax.nn.softplus(-logits)).sum(-1)
    if bug == "clipped":
        p = jnp.clip(jax.nn.sigmoid(logits), 1e-3, 1 - 1e-3)
        return -(x * jnp.log(p) + (1 - x) * jnp.log1p(-p)).sum(-1)
    return (jax.nn.softplus(logits) - x * logits).sum(-1)


def draw(key, mu, s, bug=""):
    shape = (1, mu.shape[1]) if bug == "one noise per batch" else mu.shape
    key = jax.random.PRNGKey(0) if bug == "fixed key" else key
    eps = jax.random.normal(key, shape, mu.dtype)
    if bug == "sigma detached":
        return mu + jax.lax.stop_gradient(jnp.exp(0.5 * s)) * eps
    z = mu + jnp.exp(s if bug == "std = exp(s)" else 0.5 * s) * eps
    return jax.lax.stop_gradient(z) if bug == "z detached" else z


def loss(params, x, key, bug=""):
    mu, s = encode(params, x)
    z = mu if bug == "mean decoded" else draw(key, mu, s, bug)
    cost, kl = cost_rows(x, decode(params, z), bug), kl_rows(mu, s, bug)
    if bug == "KL detached":
        kl = jax.lax.stop_gradient(kl)
    if bug == "KL sum, rec mean":
        return cost.mean() + kl.sum()
    value = (cost + kl).mean()
    return -value if bug == "ELBO returned" else value


def patient(bug="", **declared):
    fields = {"encode": encode, "decode": decode, "x": X, "scale": "logvar", "sign": "loss"}
    return from_jax(partial(loss, bug=bug), weights(), **fields | declared)


# Right models, in the forms in which people write them


class Linear(NamedTuple):
    """A model that is its own parameters, as in Equinox, with a function among its leaves."""

    params: Any
    activation: Any

    def one(self, x, key):
        h = self.activation(dense(self.params["encoder"]["hidden"], x))
        mu, s = (dense(self.params["encoder"][name], h) for name in ("mu", "s"))
        z = mu + jnp.exp(0.5 * s) * jax.random.normal(key, mu.shape)
        kl = 0.5 * (mu**2 + jnp.exp(s) - s - 1).sum()
        return cost_rows(x, decode(self.params, z)) + kl


def equinox(**declared):
    def mean_loss(model, x, key):
        rows = jax.vmap(model.one)(x, jax.random.split(key, len(x)))
        return rows.mean(), {"rows": rows}

    def inner(model, x):
        h = model.activation(dense(model.params["encoder"]["hidden"], x))
        return tuple(dense(model.params["encoder"][name], h) for name in ("mu", "s"))

    return from_jax(
        mean_loss,
        Linear(weights(), jax.nn.gelu),
        encode=inner,
        decode=lambda model, z: decode(model.params, z),
        **{"x": X, "scale": "logvar"} | declared,
    )


def elbo_of_stax(**declared):
    """The bound summed over rows, σ² as the second output, old keys, lists of arrays."""

    def enc(params, images):
        mu, s = encode(as_tree(params), images)
        return mu, jax.nn.softplus(s)

    def as_tree(params):
        leaves = jax.tree_util.tree_leaves(params)
        return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(weights()), leaves)

    def elbo(rng, params, images):
        assert rng.shape == (2,), "an old key"
        mu, variance = enc(params, images)
        z = mu + jnp.sqrt(variance) * jax.random.normal(rng, mu.shape)
        kl = 0.5 * jnp.sum(mu**2 + variance - jnp.log(variance) - 1)
        return -cost_rows(images, decode(as_tree(params), z)).sum() - kl

    return from_jax(
        elbo,
        jax.tree_util.tree_leaves(weights()),
        encode=enc,
        decode=lambda params, z: decode(as_tree(params), z),
        sample_z=lambda key, mu, variance: (
            mu + jnp.sqrt(variance) * jax.random.normal(key, mu.shape)
        ),
        **{"x": X, "scale": "variance", "sign": "elbo"} | declared,
    )


def haiku(**declared):
    """Functions of (params, rng, *args), as `hk.transform` makes them; σ as second output."""

    def apply(params, rng, *args, **kwargs):
        mu, s = encode(params, *args)
        return mu, jnp.exp(0.5 * s)

    def loss_fn(params, rng_key, batch):
        mu, sigma = apply(params, rng_key, batch)
        logits = decode(params, mu + sigma * jax.random.normal(rng_key, mu.shape))
        kl = 0.5 * (-jnp.log(sigma**2) - 1.0 + sigma**2 + mu**2).sum(-1)
        return jnp.mean(cost_rows(batch, logits) + kl)

    return from_jax(
        loss_fn, weights(), encode=apply, decode=decode, **{"x": X, "scale": "sigma"} | declared
    )


def flax(**declared):
    """Methods of a module of {"params": …}; a Gaussian decoder with its own variances."""

    def enc(variables, x):
        return encode(variables["params"], x)

    def dec(variables, z):
        out = decode(variables["params"], z)
        return out[:, :D], 0.3 * out[:, D:] - 1

    def loss_fn(variables, x, key):
        mu, s = enc(variables, x)
        m, v = dec(variables, mu + jnp.exp(0.5 * s) * jax.random.normal(key, mu.shape))
        cost = 0.5 * ((x - m) ** 2 / jnp.exp(v) + v).sum(-1)
        return (cost + kl_rows(mu, s)).mean()

    variables = {"params": weights(2 * D)}
    fields = {"x": REALS, "likelihood": "gaussian", "output": "mean_logvar", "scale": "logvar"}
    return from_jax(loss_fn, variables, encode=enc, decode=dec, **fields | declared)


def with_eps(**declared):
    """Noise as an argument, and rows that are not averaged."""

    def loss_rows(x, params, eps):
        mu, s = encode(params, x)
        return cost_rows(x, decode(params, mu + jnp.exp(0.5 * s) * eps)) + kl_rows(mu, s)

    return from_jax(
        loss_rows,
        weights(),
        encode=encode,
        decode=decode,
        **{"x": X, "scale": "logvar"} | declared,
    )


STYLES = (equinox, elbo_of_stax, haiku, flax, with_eps)
MODES = [(s, "float32" if s in (equinox, haiku) else "float64") for s in STYLES]


@pytest.mark.parametrize(("style", "dtype"), MODES)
def test_right_models_raise_no_alarm(style, dtype):
    """Kills a wrong order of arguments, a key of the wrong kind, and tolerances of float64."""
    subject = style(dtype=dtype)
    assert subject.dtype == dtype
    report = examine(subject)
    assert not report.names, report
    right = {f.examination for f in report.findings if f.verdict == "right"}
    assert {"assembly: loss = −ELBO", "gradient: derivative of the loss"} <= right, report


# Planted bugs, each examined where it shows


def named(subject, *examinations):
    """The names that these examinations give."""
    facts = establish(Calls(subject), 0)
    return [f.name for name in examinations for f in EXAMINATIONS[name](facts) if f.name]


ALONE = {"scale": "logvar", "output": "logits", "data_dim": D, "latent_dim": J}
PIECES = {
    ("kl", "KL without half"): "KL without ½",
    ("kl", "KL without -1"): "KL without its −1",
    ("kl", "mu missing"): "μ² missing in the KL",
    ("kl", "KL reads log sigma"): "log σ² read as log σ in the KL",
    ("reconstruction", "one term"): "(1−x) term missing",
    ("reconstruction", "sigmoid twice"): "sigmoid applied twice",
    ("sample_z", "std = exp(s)"): "log σ² read as log σ in the sampler",
    ("sample_z", "one noise per batch"): "one ε for the whole batch",
    ("sample_z", "fixed key"): "same ε in every call",
}


@pytest.mark.parametrize(("piece", "bug"), PIECES)
def test_bugs_of_pieces_are_named(piece, bug):
    """Kills pieces whose arguments change places, and a key that is the same in every call."""
    dtype = "float32" if len(bug) % 2 else "float64"
    function = {"kl": kl_rows, "reconstruction": cost_rows, "sample_z": draw}[piece]
    subject = from_jax(**{"kl": kl_rows, piece: partial(function, bug=bug)}, dtype=dtype, **ALONE)
    examinations = {"sample_z": ["draws"], "kl": ["kl", "assembly"]}.get(piece, [piece])
    assert named(subject, *examinations)[:1] == [PIECES[piece, bug]]


def test_right_pieces_are_right():
    """Kills a clinic that finds something in every piece."""
    subject = from_jax(kl=kl_rows, reconstruction=cost_rows, sample_z=draw, **ALONE)
    assert not named(subject, "draws", "kl", "reconstruction", "assembly", "numbers")


def test_clipped_cross_entropy_is_named():
    """Kills the loss of a clip that acts at large logits alone."""
    subject = from_jax(kl=kl_rows, reconstruction=partial(cost_rows, bug="clipped"), **ALONE)
    assert named(subject, "reconstruction", "numbers") == ["clipped cross-entropy"]


LOSSES = {
    "KL mean over latents": "KL averaged over latents",
    "KL sum, rec mean": "KL summed over the batch, reconstruction averaged",
    "mean decoded": "mean decoded",
    "ELBO returned": "sign of the loss",
}


@pytest.mark.parametrize("bug", LOSSES)
def test_bugs_of_the_loss_are_named(bug):
    """Kills a loss that is called without its key, or reduced by the adapter."""
    dtype = "float32" if bug == "mean decoded" else "float64"
    assert LOSSES[bug] in named(patient(bug, dtype=dtype), "freeze", "assembly")[:1]


GRADIENTS = {
    "sigma detached": "path through σ detached",
    "KL detached": "gradient of the KL missing",
}


@pytest.mark.parametrize("bug", GRADIENTS)
def test_detached_paths_are_named(bug):
    """Kills a gradient that is not that of `jax.grad`, and blocks in another order."""
    subject = patient(bug, sample_z=draw)
    assert named(subject, "freeze", "gradient") == [GRADIENTS[bug]]


# The adapter itself


@pytest.mark.parametrize(
    ("function", "order"),
    [
        (lambda rng, params, images: 0, ("key", "params", "x")),
        (lambda params, batch, z_rng: 0, ("params", "x", "key")),
        (lambda model, data, epsilon: 0, ("params", "x", "eps")),
        (lambda x: 0, ("x",)),
    ],
)
def test_names_tell_the_order_of_arguments(function, order):
    """Kills an order that does not follow the names."""
    assert next(orders("loss", function)) == order


def test_arguments_without_names_are_tried():
    """Kills orders that only names can tell, and an order that works by chance."""

    def anonymous(a, b, c):
        return loss(c, b, a)

    named_loss = patient().loss
    subject = from_jax(anonymous, weights(), x=X)
    assert subject.noise == "seed"
    assert subject.loss(X, 5) == named_loss(X, 5)
    assert subject.loss(X, 5) != subject.loss(X, 6)


def test_pieces_take_their_arrays_in_any_order():
    """Kills x and logits that change places, and a second draw with the noise of the first."""
    subject = from_jax(
        kl=kl_rows, reconstruction=lambda logits, x: cost_rows(x, logits), sample_z=draw, **ALONE
    )
    out = np.random.default_rng(0).standard_normal((4, D))
    np.testing.assert_allclose(
        subject.reconstruction(X[:4], out), cost_rows(X[:4], out), rtol=1e-6
    )
    zero = np.zeros((4, J))
    subject.seed(1)
    assert not np.array_equal(subject.sample_z(zero, zero), subject.sample_z(zero, zero))


def test_noise_outside_of_the_key_is_not_compiled():
    """Kills a compiled program in which the noise of NumPy has become a constant."""
    noise = np.random.default_rng(0)

    def own_noise(params, x):
        mu, s = encode(params, x)
        z = mu + jnp.exp(0.5 * s) * noise.standard_normal(mu.shape)
        return (cost_rows(x, decode(params, z)) + kl_rows(mu, s)).mean()

    subject = from_jax(own_noise, weights(), x=X)
    assert subject.loss(X) != subject.loss(X)


def test_gradient_is_that_of_the_flat_vector():
    """Kills blocks whose order differs from that of the parameters, and a gradient that is old."""
    subject = patient()
    get, replace = subject.parameters
    before = get()
    flat = np.concatenate([g.ravel() for g in subject.gradient(X, 3).values()])
    v = np.random.default_rng(0).standard_normal(flat.size)
    sides = []
    for h in (1e-5, -1e-5):
        replace(before + h * v)
        sides.append(float(subject.loss(X, 3)))
    assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(flat @ v, rel=1e-7)
    assert not np.array_equal(
        flat, np.concatenate([*map(np.ravel, subject.gradient(X, 3).values())])
    )


def test_settings_and_parameters_of_the_user_stay():
    """Kills a change of the user's precision or parameters."""
    params = weights()
    before, x64 = jax.tree_util.tree_map(np.array, params), jax.config.jax_enable_x64
    subject = from_jax(loss, params, encode=encode, decode=decode, x=X)
    subject.parameters[1](subject.parameters[0]() + 1)
    subject.loss(X, 1)
    assert jax.config.jax_enable_x64 == x64
    assert str(jnp.ones(1).dtype) == ("float64" if x64 else "float32")
    jax.tree_util.tree_map(np.testing.assert_array_equal, params, before)


def test_pullback_of_the_decoder():
    """Kills a pullback that is not transposed, for one output and for a pair."""
    rng = np.random.default_rng(0)
    z, v = rng.standard_normal((2, 3, J))
    for subject in (patient(), flax()):
        out, above, below = (subject.decode(a) for a in (z, z + 1e-6 * v, z - 1e-6 * v))
        pair = isinstance(out, tuple)
        dout = tuple(rng.standard_normal(o.shape) for o in (out if pair else (out,)))
        rise = [(a - b) / 2e-6 for a, b in zip(above, below)] if pair else [(above - below) / 2e-6]
        expected = sum((d * r).sum(1) for d, r in zip(dout, rise))
        dz = subject.decode_vjp(z, dout if pair else dout[0])
        np.testing.assert_allclose((dz * v).sum(1), expected, rtol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"loss": lambda params, x, key: x @ jnp.ones((3, 3))},
            TypeError,
            "loss: expected a func",
        ),
        ({"loss": 3}, TypeError, "loss: expected a function, got 3"),
        ({"loss": loss, "dtype": "float16"}, ValueError, "dtype: expected"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, error, message):
    """Kills a traceback of JAX in place of one line."""
    with pytest.raises(error, match=message) as caught:
        from_jax(params=weights(), x=X, **arguments)
    assert "\n" not in str(caught.value)


def test_half_precision_is_refused():
    """Kills tolerances of float32 for parameters that are coarser."""
    params = jax.tree_util.tree_map(lambda a: a.astype("bfloat16"), weights())
    with pytest.raises(ValueError, match="params: expected float32 or float64, got bfloat16"):
        from_jax(loss, params, x=X)
