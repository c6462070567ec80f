"""The command on one's own data: their scale belongs to the model, and reports say the unit."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from numpyvae import VAE, fit
from numpyvae.command.advice import advice, log_density, remarks
from numpyvae.command.cli import main
from numpyvae.command.preparation import prepare
from numpyvae.support.preparation import Preparation

pytestmark = pytest.mark.filterwarnings("always")  # the command shows them as notes

SMALL = ["--epochs", "1", "--hidden", "8", "--eval-importance", "5", "--latent-dim", "2"]
RNG = np.random.default_rng(0)
RAW = RNG.normal([40, 30000, 1.7], [10, 8000, 0.1], (60, 3))
GROUP = np.where(RAW[:, 0] > 40, "old", "young")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_table(name, raw, columns=("age", "income", "height"), group=True, zero=False):
    with open(name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *["group"] * group, *["zero"] * zero])
        for i, row in enumerate(raw):
            writer.writerow([*row, *[GROUP[i]] * group, *[0] * zero])


def ran(capsys, *args, code=0):
    """Run the command; return what it printed, as JSON, and what came on standard error."""
    assert main(list(args)) == code
    out, err = capsys.readouterr()
    return (json.loads(out) if code == 0 and "--json" in args else out), err


def train(capsys, output, *extra):
    return ran(capsys, "train", "--output", output, "--json", *SMALL, *extra)


TABLE = ["--dataset", "people.csv", "--likelihood", "gaussian:learned", "--label-column", "group"]
EFFORT = ["--n-importance", "5", "--json"]


def test_the_preparation_is_saved_and_used_by_every_command(capsys):
    # kills: raw rows read by a model of standardized ones, and columns in the order of the file
    write_table("people.csv", RAW)
    summary, err = train(capsys, "run", *TABLE, "--scale", "standardize")
    assert err == ""
    p = VAE.load("run/model.npz").preparation
    held = prepare(
        "people.csv", "gaussian:learned", scale="standardize", label_column="group"
    ).preparation
    np.testing.assert_array_equal(p.mean, held.mean)
    assert (p.scale, p.names) == ("standardize", ("age", "income", "height"))
    # The same rows in a file with other columns, in another order: all of them are measured.
    write_table("new.csv", RAW[:20, ::-1], ("height", "income", "age"))
    new, err = ran(capsys, "evaluate", "run", "--dataset", "new.csv", *EFFORT)
    assert (new["test_rows"], err) == (20, "")
    np.save("new.npy", RAW[:20])
    same, _ = ran(capsys, "evaluate", "run", "--dataset", "new.npy", *EFFORT)
    assert same["test_elbo"] == pytest.approx(new["test_elbo"], rel=1e-6)
    # Without a file: the rows that the training held out.
    again, _ = ran(capsys, "evaluate", "run", *EFFORT)
    assert (again["test_rows"], again["test_elbo"]) == (6, summary["test_elbo"])
    ran(capsys, "sample", "run", "-n", "200", "--output", "x.npy")
    x = np.load("x.npy")
    np.testing.assert_allclose(x.mean(axis=0), RAW.mean(axis=0), rtol=0.2)  # raw values


def test_the_file_of_the_training_is_measured_whole_and_with_a_note(capsys):
    # kills: a held-out tenth of a file that is given for evaluation
    write_table("people.csv", RAW)
    train(capsys, "run", *TABLE, "--scale", "standardize")
    found, err = ran(capsys, "evaluate", "run", "--dataset", "people.csv", *EFFORT)
    assert found["test_rows"] == 60
    assert "most of them were in the training set" in err


def test_another_scale_is_a_note_with_both_ranges_or_an_error(capsys):
    # kills: −48 757 769 nats without a word
    images = RNG.integers(0, 256, (40, 3, 3)).astype(np.uint8)
    np.save("images.npy", images)
    extra = ["--dataset", "images.npy", "--maximum", "255", "--likelihood", "gaussian:0.5"]
    train(capsys, "run", *extra)
    right, err = ran(capsys, "evaluate", "run", "--dataset", "images.npy", *EFFORT)
    assert "scale" not in err  # the forgotten --maximum is in the model
    np.save("grays.npy", images / 255)
    _, err = ran(capsys, "evaluate", "run", "--dataset", "grays.npy", *EFFORT)
    assert "values from 0 to 1, where the model was trained on 0 to 255" in err
    line = ran(capsys, "evaluate", "run", "--dataset", "images.npy", "--maximum", "1", code=2)[1]
    assert "--maximum: expected 255, with which the model was trained, got 1" in line
    # A model without a preparation: its own draws say what it was trained on.
    vae = VAE.load("run/model.npz")
    vae.preparation = None
    vae.save("bare.npz")
    known, err = ran(
        capsys, "evaluate", "bare.npz", "--dataset", "images.npy", "--maximum", "255", *EFFORT
    )
    assert "scale" not in err
    assert known["test_elbo"] == pytest.approx(right["test_elbo"], rel=1e-6)
    _, err = ran(capsys, "evaluate", "bare.npz", "--dataset", "images.npy", *EFFORT)
    assert "values from 0 to 255, where the model gives" in err
    assert "--maximum" in err


def test_reports_say_the_unit_and_the_density_of_the_raw_data(capsys):
    # kills: nats of standardized data compared with nats of raw data
    write_table("people.csv", RAW)
    summary, _ = train(capsys, "run", *TABLE, "--scale", "standardize")
    shift = VAE.load("run/model.npz").preparation.log_jacobian
    assert shift < -8
    raw = summary["test_log_likelihood"] + shift
    assert summary["raw_log_likelihood"] == pytest.approx(raw)
    assert summary["bits_per_dimension"] == pytest.approx(-raw / (3 * np.log(2)))
    assert summary["unit"] == "nats per row of x = (raw − mean)/std of each column"
    text, _ = ran(capsys, "evaluate", "run", "--n-importance", "5")
    for words in ("nats per row of x = (raw − mean)/std", "log p(raw)", "bits/dimension"):
        assert words in text


def test_binarized_data_have_no_density():
    # kills: a change of variables for draws
    p = Preparation.fitted(np.array([[0.0, 255]]), "maximum", reading="outcomes", binarize=True)
    found = log_density(-2 * np.log(2), 2, p)
    assert (found["raw_log_likelihood"], found["bits_per_dimension"]) == (None, 1.0)
    assert found["unit"] == "nats per row of x = 0 or 1 drawn with probability raw/255"


def test_a_run_on_a_table_is_repeated_from_its_settings(capsys, here):
    # kills: settings of the data that a run does not keep, or that refuse each other
    write_table("people.csv", RAW, zero=True)
    extra = [*TABLE, "--scale", "standardize", "--columns", "age,height", "--validation", "0.2"]
    train(capsys, "run", *extra)
    ran(capsys, "train", "--settings", "run", "--output", "again")
    assert (here / "run/model.npz").read_bytes() == (here / "again/model.npz").read_bytes()
    _, err = ran(capsys, "evaluate", "run", *EFFORT)
    assert err == ""


def test_the_maximum_is_the_largest_value_of_the_file():
    # kills: that of one part, and a file without a test part that is not read
    np.save("x.npy", np.arange(40.0).reshape(20, 2))
    np.savez("x.npz", x=np.eye(2), x_test=5 * np.eye(2))
    for name, largest in (("x.npy", 39), ("x.npz", 5)):
        data = prepare(name, "gaussian:1", scale="maximum")
        assert data.maximum == data.preparation.maximum == largest
        assert max(data.x_train.max(), data.x_test.max()) == 1


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian:learned"])
def test_two_rows_are_enough(capsys, likelihood):
    # kills: defaults that small files are refused for
    np.save("two.npy", np.eye(2))
    extra = ["--dataset", "two.npy", "--likelihood", likelihood, "--epochs", "1"]
    assert main(["train", "--output", "run", *extra]) == 0
    np.save("one.npy", np.eye(2)[:1])
    capsys.readouterr()
    assert main(["evaluate", "run", "--dataset", "one.npy", "--n-importance", "5"]) == 0
    assert main(["train", "--output", "other", "--dataset", "one.npy"]) == 1
    assert "expected at least two rows" in capsys.readouterr().err


def test_encode_keeps_rows_classes_and_order(capsys):
    # kills: codes in another order, a variance in the place of σ, and labels that are lost
    write_table("people.csv", RAW)
    train(capsys, "run", *TABLE, "--scale", "standardize")
    extra = ["--dataset", "people.csv", "--label-column", "group"]
    ran(capsys, "encode", "run", *extra)
    ran(capsys, "encode", "run", *extra, "--output", "codes.npy")
    table = np.load("codes.npy")
    assert table["row"].tolist() == list(range(1, 61))
    assert table["label"].tolist() == GROUP.tolist()
    vae = VAE.load("run/model.npz")
    mu, logvar = vae.encode(vae.preparation.apply(RAW))
    np.testing.assert_allclose(table["mu"], mu, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table["sigma"], np.exp(logvar / 2), rtol=1e-4)
    with open("codes.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "label", "mu_1", "mu_2", "sigma_1", "sigma_2"]
    assert np.float32(rows[7]["mu_2"]) == table["mu"][7, 1]
    np.savez("parts.npz", x_train=RAW[:40], x_test=RAW[40:], y_test=np.arange(20))
    ran(capsys, "encode", "run", "--dataset", "parts.npz", "--output", "codes.npy")
    parts = np.load("codes.npy")
    assert parts["part"].tolist() == ["train"] * 40 + ["test"] * 20
    assert parts["row"][40:].tolist() == list(range(1, 21))
    assert parts["label"].tolist() == [-1] * 40 + list(range(20))
    np.testing.assert_allclose(parts["mu"], table["mu"], rtol=1e-4, atol=1e-6)
    assert main(["encode", "run", "--dataset", "people.csv", "--output", "codes.txt"]) == 2


def test_a_validation_part_reaches_the_training_curve(capsys):
    # kills: x_val that is read and not used
    parts = {"x_train": np.eye(6), "x_val": np.eye(6)[:2], "x_test": np.eye(6)[2:]}
    np.savez("parts.npz", **parts, more=np.ones(2))
    _, err = train(capsys, "run", "--dataset", "parts.npz")
    assert "parts.npz: more" in err
    with open("run/history.csv") as file:
        assert "valid_elbo" in file.readline()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--scale", "standardize"], "expected none or maximum for --likelihood bernoulli"),
        (["--scale", "none", "--maximum", "3", "--likelihood", "gaussian"], "leave one out"),
        (["--columns", "9"], "expected columns among 1 to 3"),
        (["--label-column", "group"], "expected columns among 1 to 3"),
        (["--delimiter", ";"], "expected no delimiter"),
        (["--dataset", "digits", "--columns", "1"], "leave it out"),
        (["--likelihood", "binomial"], "--likelihood binomial --maximum 5"),
        ([], "(180 outside, the first in row 1, column 2); give the largest possible value"),
    ],
)
def test_options_that_do_not_suit_the_data_are_one_line(capsys, extra, words):
    # kills: a remedy that does not work, and rows counted after the split
    x = np.arange(300).reshape(100, 3) % 5 + 0.0
    x[0] = [1, 5, 0]
    np.save("x.npy", x)
    if "digits" not in extra:
        extra = ["--dataset", "x.npy", *extra]
    assert main(["train", "--output", "run", *SMALL, *extra]) in (1, 2)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert words in line


def test_the_remedies_work(capsys):
    # kills: advice that leads into the next error
    write_table("people.csv", RAW, zero=True)
    np.save("bytes.npy", np.arange(300, dtype=np.uint8).reshape(50, 6))
    gaussian = ["--likelihood", "gaussian:learned"]
    _, err = train(capsys, "a", "--dataset", "people.csv", "--label-column", "group", *gaussian)
    assert "2 of 4 columns have values far from 0 (first: column 'age'" in err
    assert "try --scale standardize" in err
    advised = ran(capsys, "evaluate", "a", *EFFORT)[0]
    assert "advice" not in advised
    extra = ["--scale", "standardize", "--columns", "varying"]
    found, err = train(
        capsys, "b", "--dataset", "people.csv", "--label-column", "group", *gaussian, *extra
    )
    assert err == ""
    assert not any("constant" in line for line in found["advice"])
    _, err = train(capsys, "c", "--dataset", "bytes.npy", *gaussian)
    assert "try --maximum 255 for images" in err
    assert train(capsys, "d", "--dataset", "bytes.npy", *gaussian, "--maximum", "255")[1] == ""
    assert train(capsys, "e", "--dataset", "bytes.npy", *gaussian, "--scale", "none")[1] == ""


def test_the_summary_says_what_to_try():
    # kills: a run without latents, or with a constant column, that looks like any other
    raw = np.column_stack([RAW, np.full(60, 7.0)])
    p = Preparation.fitted(raw, names=("a", "b", "c", "d"))
    figures = {"active_units": 0, "latent_dim": 2, "kl": 0.0, "likelihood": "gaussian:learned"}
    unused, constant = advice(figures, p)
    assert "No latent variable is used" in unused
    assert "--scale standardize" in unused
    assert "1 of 4 columns are constant in the training set (first: column 'd')" in constant
    assert "Try --columns varying, or --likelihood gaussian:SIGMA" in constant
    images = Preparation.fitted(raw, image_shape=(2, 2))  # without a column they are no images
    assert "Try --likelihood gaussian:SIGMA" in advice(figures, images)[1]
    high = advice(figures | {"active_units": 2, "kl": 90.0}, p)[0]
    assert "The KL is 90 nats for 2 latent variables" in high
    fine = Preparation.fitted(RAW, "standardize")
    assert advice(figures | {"active_units": 2, "kl": 3.0}, fine) == []
    assert remarks(RAW, fine, True) == []


def test_a_range_that_is_known_by_half_is_not_compared():
    # kills: an AttributeError of NoneType for a preparation with `low` alone
    p = Preparation(low=np.zeros(2))
    assert p.ranges is None
    assert p.difference(np.full((3, 2), 1e9)) is None
    assert Preparation(low=np.zeros(1), high=np.ones(1)).difference(np.array([[1e9], [0.0]]))


def test_time_stamps_that_collapse_are_told():
    # kills: distinct values that become equal in float32 without a word
    x = np.column_stack([1.7e9 + np.arange(50), RNG.normal(size=50)])
    told = remarks(x, Preparation.fitted(x, names=("time", "y")), False)
    assert "column 'time': only 1 of 50 distinct values stay distinct in float32" in told[0]
    vae = VAE(2, 1, (3,), likelihood="gaussian:1", dtype="float32")
    for call in (lambda: vae.encode(x), lambda: fit(vae, x[:, [0, 0]], epochs=1)):
        with pytest.warns(UserWarning, match="only 1 of 50 distinct values in column 0"):
            call()
    assert remarks(x - x.mean(axis=0), Preparation.fitted(x - x.mean(axis=0)), False) == []


def test_a_model_file_keeps_the_preparation_and_refuses_a_wrong_one(here):
    # kills: a mean that is lost or belongs to other columns, and an entry that is believed
    p = Preparation.fitted(RAW, "standardize", names=("a", "b", "c"), columns=(0, 2, 4))
    vae = VAE(3, 1, (2,), likelihood="gaussian:1")
    vae.save("bare.npz")
    assert VAE.load("bare.npz").preparation is None
    vae.preparation = p
    vae.save("model.npz")
    back = VAE.load("model.npz").preparation
    assert (back.stored()[0], back.names) == (p.stored()[0], ("a", "b", "c"))
    for name in ("mean", "std", "low", "high"):
        np.testing.assert_array_equal(getattr(back, name), getattr(p, name))
    with np.load("model.npz") as stored:
        arrays = dict(stored)
    header = json.loads(str(arrays["header"]))
    wrong = [
        header["preparation"] | {"scale": "log"},
        header["preparation"] | {"maximum": -1},
        header["preparation"] | {"names": ["a"]},
        header["preparation"] | {"columns": [0, 1, -2]},
        header["preparation"] | {"image_shape": [3]},
        header["preparation"] | {"arrays": ["mean", "std"]},
        header["preparation"] | {"arrays": "mean"},
        header["preparation"] | {"color": "red"},
        header["preparation"] | {"scale": "none"},
        [1, 2],
        "standardize",
    ]
    cases = [arrays | {"header": np.array(json.dumps(header | {"preparation": w}))} for w in wrong]
    cases.append(arrays | {"preparation.mean": np.zeros(2)})
    cases.append(arrays | {"preparation.std": np.zeros(3)})
    cases.append(arrays | {"preparation.low": np.full(3, np.nan)})
    for case in cases:
        np.savez("wrong.npz", **case)
        with pytest.raises(ValueError, match=r"^wrong\.npz: expected [^\n]*$"):
            VAE.load("wrong.npz")


@pytest.mark.parametrize("kind", ["model", "checkpoint", "npz", "npz compressed", "idx.gz"])
def test_damaged_files_are_refused_or_read_as_they_were(kind):
    # kills: a damaged file that loads other values; the long form is benchmarks.damage
    damage = pytest.importorskip("benchmarks.damage", reason="needs the repository")
    found = damage.measure(kind, flips=150, truncations=15)
    assert found["wrong"] == 0, found
    assert sum(found["truncation"].values()) == found["truncation"]["refused"] == 15
    assert found["flip"]["refused"] > 100


def test_a_planted_reader_is_found(monkeypatch):
    # kills: a measurement that counts everything as right
    damage = pytest.importorskip("benchmarks.damage", reason="needs the repository")
    name, write, _ = damage.KINDS["npz"]
    monkeypatch.setitem(damage.KINDS, "npz", (name, write, lambda path: path.read_bytes()))
    assert damage.measure("npz", flips=10, truncations=2)["wrong"] == 12
    assert damage.measure("npy", flips=50, truncations=2)["wrong"] > 20
