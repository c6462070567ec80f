"""Weights of PyTorch VAEs in and out: names, shapes, the same ELBO on both sides, bad files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import data_for, noise, small_vae

import numpyvae
from numpyvae import VAE, weights
from numpyvae.weights import PYTORCH_EXAMPLE, Layout, sequential_layout

HEAD = Layout(("fc1", ("mu", "lv")), ("fc2", ("mean", "log_var")))
LAYOUTS = {
    "example": (PYTORCH_EXAMPLE, "bernoulli", (4,)),
    "sequential": (sequential_layout(2), "binomial:16", (4, 5)),
    "sequential with heads": (sequential_layout(2, "fc_mu", "fc_var"), "gaussian:0.3", (4, 5)),
    "learned": (
        Layout(("a", "b"), ("c", "d"), {"decoder.logvar": "log_var"}),
        "gaussian:learned",
        (4,),
    ),
    "head": (HEAD, "gaussian:head", (4,)),
    "linear": (Layout((("m", "v"),), ("d",)), "poisson", ()),
}


@pytest.fixture(params=LAYOUTS)
def case(request):
    """A layout, and a model that has it."""
    layout, likelihood, hidden = LAYOUTS[request.param]
    return layout, small_vae(likelihood, hidden=hidden)


def build(state, layout=PYTORCH_EXAMPLE, likelihood="bernoulli"):
    return weights.from_state_dict(state, layout, activation="tanh", likelihood=likelihood)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_out_and_in_again_gives_the_same_bits(case, dtype):
    # kills: a matrix that is not transposed on one side, heads in another order, a lost bias
    layout, vae = case
    vae = vae.with_flat(vae.parameters.flat.astype(dtype))
    state = weights.to_state_dict(vae, layout)
    again = build(state, layout, vae.likelihood)
    assert again.architecture == vae.architecture
    assert again.dtype == dtype
    np.testing.assert_array_equal(again.parameters.flat, vae.parameters.flat)
    for array in state.values():  # copies: what is done to them leaves the model as it is
        assert array.flags.c_contiguous
        array += 1
    np.testing.assert_array_equal(again.parameters.flat, vae.parameters.flat)


def test_the_tensors_of_the_example_by_hand():
    # kills: μ and log σ² exchanged, and a layout that reads its own mistakes back
    vae = small_vae()
    state = weights.to_state_dict(vae, PYTORCH_EXAMPLE)
    p = vae.parameters
    expected = {
        "fc1.weight": p["encoder.W0"].T,
        "fc1.bias": p["encoder.b0"],
        "fc21.weight": p["encoder.W1"][:, :2].T,
        "fc21.bias": p["encoder.b1"][:2],
        "fc22.weight": p["encoder.W1"][:, 2:].T,
        "fc22.bias": p["encoder.b1"][2:],
        "fc3.weight": p["decoder.W0"].T,
        "fc3.bias": p["decoder.b0"],
        "fc4.weight": p["decoder.W1"].T,
        "fc4.bias": p["decoder.b1"],
    }
    assert list(state) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array)


def test_names_that_a_layout_makes():
    # kills: another distance between the layers, and the name of a likelihood's parameter ignored
    assert sequential_layout(2, step=3).decoder == ("decoder.0", "decoder.3", "decoder.6")
    assert sequential_layout(2, "m", "v", step=3).encoder == ("encoder.0", "encoder.3", ("m", "v"))
    layout, likelihood, _ = LAYOUTS["learned"]
    state = weights.to_state_dict(small_vae(likelihood), layout)
    assert list(state)[-1] == "log_var"
    assert state["log_var"].shape == (3,)


class Tensor:
    """An array with the methods of a tensor of PyTorch, which gives its values on request."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape
        self.dtype = f"torch.{array.dtype}"

    def detach(self):
        return Detached(self.array)


class Detached:
    def __init__(self, array):
        self.array = array

    def cpu(self):
        return self

    def numpy(self):
        return self.array


def test_tensors_are_taken_without_pytorch():
    # kills: an import of torch, and a tensor that requires a gradient or is on another device
    vae = small_vae()
    state = weights.to_state_dict(vae, PYTORCH_EXAMPLE)
    again = build({name: Tensor(array) for name, array in state.items()})
    np.testing.assert_array_equal(again.parameters.flat, vae.parameters.flat)
    code = "import sys, numpyvae.weights; print({'torch', 'safetensors'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def state_with(**changes):
    """Return the state of a model 3-4-2; a change of None removes a tensor."""
    state = weights.to_state_dict(small_vae(), PYTORCH_EXAMPLE)
    state |= {name.replace("_", "."): value for name, value in changes.items()}
    return {name: value for name, value in state.items() if value is not None}


BAD = {
    "missing bias": (
        {"fc21_bias": None},
        r"^state dict: fc21.bias: expected a tensor of shape \(2,\), got none$",
    ),
    "missing weight": ({"fc1_weight": None}, r"^state dict: fc1.weight: .* got none$"),
    "left over": (
        {"fc5_weight": np.zeros((2, 3))},
        r"^state dict: fc5.weight: expected no tensor of this name, got one of shape \(2, 3\)$",
    ),
    "other shape": (
        {"fc3_weight": np.zeros((4, 3))},
        r"^state dict: fc3.weight: expected a tensor of shape \(4, 2\), got \(4, 3\)$",
    ),
    "one axis": (
        {"fc1_weight": np.zeros(4)},
        r"^state dict: fc1.weight: expected a tensor of shape \(out, in\), got \(4,\)$",
    ),
    "other widths in the decoder": (
        {"fc3_weight": np.zeros((6, 2)), "fc3_bias": np.zeros(6), "fc4_weight": np.zeros((3, 6))},
        r"fc3.weight: .*\(4, 2\), got \(6, 2\); fc3.bias: .*; fc4.weight: .* got \(3, 6\)",
    ),
    "heads of two widths": (
        {"fc22_weight": np.zeros((3, 4)), "fc22_bias": np.zeros(3)},
        r"fc22.weight: expected a tensor of shape \(2, 4\), got \(3, 4\); fc22.bias: ",
    ),
    "half precision": (
        {"fc4_bias": np.zeros(3, "float16")},
        r"^state dict: fc4.bias: expected float32 or float64, got float16; convert it, as with",
    ),
    "whole numbers": ({"fc4_bias": np.zeros(3, int)}, "fc4.bias: .*, got int64"),
    "a list": ({"fc4_bias": [0.0] * 3}, "fc4.bias: expected float32 or float64, got list"),
    "NaN": ({"fc4_bias": np.full(3, np.nan)}, "fc4.bias: expected finite numbers, got NaN"),
}


@pytest.mark.parametrize("what", BAD)
def test_each_tensor_that_does_not_fit_is_named_in_one_line(what):
    # kills: a tensor that is ignored, broadcast, or read as another one
    changes, message = BAD[what]
    with pytest.raises(ValueError, match=message) as caught:
        build(state_with(**changes))
    assert "\n" not in str(caught.value)


def test_all_tensors_that_do_not_fit_are_named():
    # kills: a user who mends one name after the other
    with pytest.raises(ValueError, match="; and 16 more") as caught:
        build({f"net.{name}": array for name, array in state_with().items()})
    lines = str(caught.value).split("; ")[:4] + caught.value.__notes__
    assert len(lines) == 20
    for name in state_with():
        assert any(f"{name}: expected a tensor, got none" in line for line in lines)
        assert any(f"net.{name}: expected no tensor" in line for line in lines)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build(small_vae()), r"state: expected a mapping .* pass net.state_dict\(\)"),
        (lambda: build("vae.pt"), "state: expected a mapping .* use load_safetensors"),
        (lambda: build(state_with(), "fc"), "layout: expected a Layout, got 'fc'; use PYTORCH"),
        (lambda: weights.to_state_dict({}, PYTORCH_EXAMPLE), "vae: expected a VAE"),
        (
            lambda: weights.to_state_dict(small_vae(), sequential_layout(2)),
            "layout: expected 2 layers of the encoder, as the model has, got 3",
        ),
        (
            lambda: weights.to_state_dict(small_vae(), Layout(("a", "b"), ("c", ("d", "e")))),
            "layout: expected a number of names that divides the 3 outputs of layer 1 of the dec",
        ),
        (lambda: Layout("fc1", ("fc2",)), r"encoder: expected a tuple with a name for each layer"),
        (lambda: Layout(("a", "b"), ("b",)), "layout: expected each name once, got 'b' twice"),
        (lambda: Layout(("a", 2), ("b",)), "layout: expected names of layers, got 2"),
        (lambda: sequential_layout(0), "n_hidden: expected a whole number of at least 1, got 0"),
        (lambda: sequential_layout(1, "mu"), "mu, logvar: expected both names or none"),
        (lambda: build(state_with(), likelihood="gausian"), "likelihood: expected"),
    ],
)
def test_wrong_use_gets_one_line(call, message):
    # kills: a message of Python's own
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# safetensors


@pytest.fixture
def safetensors():
    return pytest.importorskip("safetensors", reason='pip install "numpyvae[safetensors]"')


def load(path, layout=PYTORCH_EXAMPLE, likelihood="bernoulli"):
    return weights.load_safetensors(path, layout, activation="tanh", likelihood=likelihood)


def test_a_file_has_the_same_bits_and_is_replaced_as_a_whole(case, tmp_path, safetensors):
    # kills: arrays that are not contiguous, a dtype that is lost, a file that is half written
    (layout, vae), path = case, tmp_path / "vae.safetensors"
    weights.save_safetensors(path, vae, layout)
    again = load(path, layout, vae.likelihood)
    np.testing.assert_array_equal(again.parameters.flat, vae.parameters.flat)
    before = path.read_bytes()
    broken = vae.with_flat(np.full_like(vae.parameters.flat, np.inf))
    with pytest.raises(ValueError, match="expected finite numbers to save, got NaN or infinity"):
        weights.save_safetensors(path, broken, layout)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    weights.save_safetensors(path, vae, layout)
    assert path.read_bytes() == before


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, safetensors):
    # kills: a file that is emptied before the new one is complete
    path = tmp_path / "vae.safetensors"
    weights.save_safetensors(path, small_vae(), PYTORCH_EXAMPLE)
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space left"):
        weights.save_safetensors(path, small_vae(seed=1), PYTORCH_EXAMPLE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_truncated_file_gets_one_line(tmp_path, safetensors):
    # kills: an error of the library without the name of the file, and values that are missing
    path = tmp_path / "vae.safetensors"
    weights.save_safetensors(path, small_vae(), PYTORCH_EXAMPLE)
    data = path.read_bytes()
    for length in (0, 1, 7, 8, 20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="a damaged or truncated one") as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: expected a safetensors file")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F16", 2), ("I64", 8)])
def test_a_file_of_another_dtype_gets_one_line(dtype, size, tmp_path, safetensors):
    # kills: bfloat16, which NumPy does not have, read as whole numbers or refused without a name
    header, place = {}, 0
    for name, array in state_with().items():
        end = place + size * array.size
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    path = tmp_path / "vae.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(place))
    with pytest.raises(ValueError, match=rf"float64, got {dtype}; convert it, .* and 6 more") as e:
        load(path)
    assert str(e.value).startswith(f"{path}: ")
    assert "\n" not in str(e.value)


def test_a_header_whose_length_is_the_start_of_a_pickle_is_read(tmp_path, safetensors):
    # kills: a right file that is refused for the length of its header, 0x4B50, which is "PK"
    from safetensors.numpy import save

    data = save(weights.to_state_dict(small_vae(), PYTORCH_EXAMPLE), {"more": ""})
    length = int.from_bytes(data[:8], "little")
    header, path = data[8 : 8 + length].rstrip(), tmp_path / "vae.safetensors"
    for start in (b"PK", b"\x80\x0a"):
        longer = int.from_bytes(start, "little")
        text = header + b" " * (longer - len(header))
        path.write_bytes(longer.to_bytes(8, "little") + text + data[8 + length :])
        assert path.read_bytes()[:2] == start
        np.testing.assert_array_equal(load(path).parameters.flat, small_vae().parameters.flat)


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02\x8a"])
def test_a_pickle_is_not_read(start, tmp_path):
    # kills: code in a file of torch.save that is run, and an error that does not say what to do
    path = tmp_path / "vae.pt"
    path.write_bytes(start + bytes(100))
    with pytest.raises(
        ValueError, match=r"a pickle, as torch.save .* safetensors.torch.save_file"
    ):
        load(path)


def test_a_file_that_does_not_exist_and_a_library_that_does_not(tmp_path, monkeypatch):
    # kills: "No module named 'safetensors'" without the extra that has it
    with pytest.raises(FileNotFoundError, match="no such file; check the path"):
        load(tmp_path / "vae.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r'save_safetensors: .* "numpyvae\[safetensors\]"'):
        weights.save_safetensors(tmp_path / "a", small_vae(), PYTORCH_EXAMPLE)
    assert not list(tmp_path.iterdir())


# PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason='needs PyTorch: pip install "numpyvae[torch]"')


def example_net(torch):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = {"fc1": (3, 4), "fc21": (4, 2), "fc22": (4, 2), "fc3": (2, 4), "fc4": (4, 3)}
            for name, (n_in, n_out) in sizes.items():
                self.add_module(name, nn.Linear(n_in, n_out))

        def encode(self, x):
            h = torch.relu(self.fc1(x))
            return self.fc21(h), self.fc22(h)

        def decode(self, z):
            return self.fc4(torch.relu(self.fc3(z)))

    return Net()


def sequential_net(torch, heads):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            hidden = [nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU()]
            self.encoder = nn.Sequential(*hidden, *([] if heads else [nn.Linear(5, 4)]))
            if heads:
                self.fc_mu, self.fc_var = nn.Linear(5, 2), nn.Linear(5, 2)
            self.decoder = nn.Sequential(
                nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)
            )

        def encode(self, x):
            h = self.encoder(x)
            return (self.fc_mu(h), self.fc_var(h)) if heads else h.chunk(2, dim=1)

        def decode(self, z):
            return self.decoder(z)

    return Net()


NETS = {
    "example": (example_net, PYTORCH_EXAMPLE),
    "sequential": (lambda torch: sequential_net(torch, False), sequential_layout(2)),
    "heads": (lambda torch: sequential_net(torch, True), sequential_layout(2, "fc_mu", "fc_var")),
}


def torch_elbo(torch, net, x, eps):
    """Return the ELBO of each row, as a VAE in PyTorch has it: a Bernoulli decoder."""
    with torch.no_grad():
        x, eps = (torch.tensor(a, dtype=torch.float32) for a in (x, eps[0]))
        mu, logvar = net.encode(x)
        logits = net.decode(mu + torch.exp(0.5 * logvar) * eps)
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
        kl = -0.5 * (1 + logvar - mu**2 - torch.exp(logvar)).sum(dim=1)
        return (-bce.sum(dim=1) - kl).numpy()


@pytest.mark.parametrize("name", NETS)
def test_the_elbo_is_the_same_on_both_sides_in_both_directions(name, torch, tmp_path):
    # kills: weights that are not transposed, μ and log σ² exchanged, a layer in another place
    make, layout = NETS[name]
    torch.manual_seed(0)
    net, x, eps = make(torch), data_for("bernoulli", 20), noise(1, 20)
    with torch.no_grad():
        for parameter in net.parameters():  # of a size that shows each of them in the ELBO
            parameter.copy_(torch.randn(parameter.shape))
    parts = {"activation": "relu", "likelihood": "bernoulli"}
    vae = weights.from_state_dict(net.state_dict(), layout, **parts)
    expected = torch_elbo(torch, net, x, eps)
    np.testing.assert_allclose(numpyvae.elbo(vae, x, eps), expected, rtol=1e-5)

    numpyvae.fit(vae, x, epochs=2, optimizer=numpyvae.Adam(0.1))
    state = weights.to_state_dict(vae, layout)
    net.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    ours = numpyvae.elbo(vae, x, eps)
    assert np.abs(ours - expected).max() > 0.1
    np.testing.assert_allclose(torch_elbo(torch, net, x, eps), ours, rtol=1e-5)


def test_files_of_pytorch_are_read_and_ours_by_it(torch, tmp_path, safetensors):
    # kills: a file that only this package reads
    from safetensors.torch import load_file, save_file

    net, path = example_net(torch), tmp_path / "vae.safetensors"
    save_file(net.state_dict(), path)
    vae = load(path)
    ours = tmp_path / "ours.safetensors"
    weights.save_safetensors(ours, vae, PYTORCH_EXAMPLE)
    for name, tensor in load_file(ours).items():
        assert torch.equal(tensor, net.state_dict()[name]), name
    with pytest.raises(ValueError, match=r"fc1.weight: expected float32 .* got bfloat16"):
        build(net.bfloat16().state_dict())
    save_file(net.state_dict(), path)
    with pytest.raises(ValueError, match=r"vae.safetensors: fc1.bias: .* got BF16"):
        load(path)
    torch.save(net.state_dict(), tmp_path / "vae.pt")
    with pytest.raises(ValueError, match="got a pickle"):
        load(tmp_path / "vae.pt")
    with pytest.raises(TypeError, match=r"state: expected a mapping .* pass net.state_dict"):
        build(net)


def test_a_vae_of_another_class_is_taken_by_its_parameters():
    # kills: an export that knows the class VAE alone
    class Mine(VAE):
        pass

    mine = Mine(3, 2, (4,))
    assert next(iter(weights.to_state_dict(mine, PYTORCH_EXAMPLE))) == "fc1.weight"
