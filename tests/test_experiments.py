"""Experiments: what is declared, that a stopped one goes on with the same bits, its files."""

import itertools
import json
from dataclasses import replace
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import needs_numba

from numpyvae import VAE, plotting
from numpyvae.command.cli import main
from numpyvae.core import training as core_training
from numpyvae.core.elbo import Estimator
from numpyvae.core.optimizers import Adam
from numpyvae.estimators.sampled import IWAE
from numpyvae.experiments import EXPERIMENTS, Claim, Experiment, Plan, Published, Training
from numpyvae.experiments import reproduce as run
from numpyvae.experiments.data import load_data
from numpyvae.experiments.found import Keeper, Trained
from numpyvae.experiments.measuring import in_parts, log_likelihood
from numpyvae.experiments.results import rows


def small(name, estimator=None):
    estimator = Estimator() if estimator is None else estimator
    settings = {"keep": (2,), "rows": 200, "estimator": estimator, "curve": 20}
    return Training(name, "digits", 2, (5,), 5, 50, **settings)


def measure(trained):
    return {"log p(x)": log_likelihood(trained), "curve": [1.0, 2.0, 3.0]}


def draw(found):
    curves = {f.training.name: (f.history["epoch"], f.history["objective"]) for f in found}
    return plotting.plot_curves(curves, x="epoch", y="ELBO (nats)")


PLAN = Plan(
    [small("aevb"), small("iwae", IWAE(3))],
    {"n_importance": 5, "rows": 600, "stage_rows": 20},
    "a second",
)
TINY = Experiment(
    "tiny",
    "It is small.",
    "a test",
    PLAN,
    PLAN,
    measure,
    lambda found: [Claim("there are models", len(found) > 0)],
    draw,
    [Published("aevb", "log p(x)", -40.0, 0.5)],
)


def contents(folder):
    """All figures and models of an experiment, without its seconds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith("model-"):
            found[name] = VAE.load(path).parameters.flat.tobytes()
        elif path.name.startswith("figures-"):
            found[name] = json.loads(path.read_bytes())["figures"]
        elif path.name == "table.md":
            found[name] = path.read_text()
    return found


def test_every_experiment_is_declared_whole():
    """Kills a published figure without its training, stages out of order, two equal names."""
    for name, experiment in EXPERIMENTS.items():
        assert name == experiment.name
        for plan in (experiment.full, experiment.quick):
            names = [training.name for training in plan.trainings]
            assert len(set(names)) == len(names) > 0
            assert plan.duration
            assert plan.seeds
            for training in plan.trainings:
                assert list(training.stages) == sorted(set(training.stages))
                assert json.dumps(training.describe()).count(" at 0x") == 0
        names = {training.name for training in experiment.full.trainings}
        assert {p.training for p in experiment.published} <= names
        assert all(p.tolerance > 0 for p in experiment.published)
        assert all(t.data.startswith("digits") for t in experiment.quick.trainings)


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the whole experiment, without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    run(TINY, folder)
    return folder


def test_the_initial_weights_of_pytorch():
    """Kills limits from the wrong fan, biases at zero, one draw for all seeds."""
    data = load_data("digits")
    training = Training("small", "digits", 20, (400,), 1, init="pytorch")
    for n, layers in [
        ((64, 400), training.model(data, 0).parameters.encoder),
        ((20, 400), training.model(data, 0).parameters.decoder),
    ]:
        for inputs, layer in zip(n, layers, strict=True):
            for drawn in layer:
                # uniform: the largest is near the limit, and the standard deviation limit / √3
                assert 0.8 < abs(drawn).max() * np.sqrt(inputs) <= 1.0000001
                assert drawn.std() * np.sqrt(3 * inputs) == pytest.approx(1, abs=0.25)
    again, other = (training.model(data, seed).parameters.flat for seed in (0, 1))
    assert np.array_equal(again, training.model(data, 0).parameters.flat)
    assert not np.isin(again, other).all()


@pytest.mark.parametrize("stops", [(1,), (2, 3), (6,)])
def test_a_stopped_experiment_goes_on_with_the_same_bits(tmp_path, whole, monkeypatch, stops):
    """Kills draws that depend on where a process began, and parts that are lost or kept twice."""
    from numpyvae.support.checkpoints import Checkpoints

    real, calls = Checkpoints.__call__, []

    def stopping(self, vae, history):
        real(self, vae, history)
        calls.append(1)
        if len(calls) in stops:
            raise Stop

    monkeypatch.setattr(Checkpoints, "__call__", stopping)
    for _ in stops:
        with pytest.raises(Stop):
            run(TINY, tmp_path)
    run(TINY, tmp_path)
    assert len(calls) == 10  # two trainings of five epochs: none is made twice
    assert contents(tmp_path) == contents(whole)
    assert (tmp_path / "picture.png").exists()


def test_a_measurement_that_is_stopped_keeps_its_parts(tmp_path, whole, monkeypatch):
    """Kills a long measurement that begins again, and parts in another order."""
    from numpyvae.experiments import measuring

    calls = []
    real = measuring.importance_log_likelihood

    def estimate(vae, x, *args, **settings):
        calls.append(len(x))
        if len(calls) == 3:
            raise Stop
        return real(vae, x, *args, **settings)

    monkeypatch.setattr(measuring, "importance_log_likelihood", estimate)
    with pytest.raises(Stop):
        run(TINY, tmp_path, only=["aevb"])
    run(TINY, tmp_path, only=["aevb"])
    assert calls == [20, 500, 100, 100]
    expected = {name: found for name, found in contents(whole).items() if "aevb" in name}
    assert {
        name: found for name, found in contents(tmp_path).items() if "aevb" in name
    } == expected


def test_a_part_is_that_of_its_rows(tmp_path):
    """Kills a kept part that is taken for other rows, of which there are as many."""
    trained = SimpleNamespace(keeper=Keeper(tmp_path), epoch=3)
    x = np.arange(12.0).reshape(6, 2)
    first = in_parts(trained, "sums", lambda part: part.sum(1), x[:3])
    assert np.array_equal(in_parts(trained, "sums", lambda part: part.sum(1), x[3:]), [13, 17, 21])
    assert np.array_equal(in_parts(trained, "sums", lambda part: 1 / 0, x[:3]), first)


def test_seconds_are_those_of_all_processes(tmp_path, monkeypatch):
    """Kills the time of the last stage alone, and of the last process alone."""
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(core_training, "time", clock)
    outcome = run(TINY, tmp_path, only=["aevb"])
    assert outcome.found[-1].history["seconds"].tolist() == [1, 2, 3, 4, 5]
    assert [f.seconds["training"] for f in outcome.found] == [2, 5]
    kept = sum(
        float(np.load(path)["seconds"]) for path in (tmp_path / "aevb-seed0").glob("L5-00005*")
    )
    (tmp_path / "aevb-seed0/figures-00005.json").unlink()
    again = run(TINY, tmp_path, only=["aevb"]).found[-1].seconds
    assert again["measurement"] >= kept


def test_the_table_compares_finished_trainings_alone(tmp_path):
    """Kills a stage, or a quick version, beside a published figure; an error as the spread."""
    first = run(TINY, tmp_path, seeds=(0, 1), until=2)
    assert not first.results["complete"]
    assert not (tmp_path / "picture.png").exists()
    assert first.claims == []
    last = run(TINY, tmp_path, seeds=(0, 1))
    table = {(row.training, row.epoch): row for row in rows(TINY, last.found, quick=False)}
    assert len(table) == 4  # "curve" is not a line
    curves = [c for c in last.results["curves"] if c["training"] == "aevb"]
    assert [c["seed"] for c in curves] == [0, 1]
    assert all((c["epoch"], c["rows"]) == ([1, 2, 3, 4, 5], 200) for c in curves)
    history = next(f for f in last.found if f.last and f.seed == 1).history
    assert curves[1]["valid_elbo"] == pytest.approx(history["valid_elbo"], abs=0.01)
    line = table["aevb", 5]
    ours = [f.figures["log p(x)"][0] for f in last.found if f.last and f.training.name == "aevb"]
    assert line.ours == pytest.approx(np.mean(ours), abs=1e-12)
    assert line.spread == pytest.approx(np.std(ours, ddof=1), abs=1e-12)
    assert line.difference == line.ours + 40
    assert line.within is (abs(line.ours + 40) <= 0.5)
    assert table["aevb", 2].published is table["iwae", 5].published is None
    assert all(row.published is None for row in rows(TINY, last.found, quick=True))


def test_another_experiment_is_not_mixed_with_that_of_a_folder(tmp_path):
    """Kills figures of two settings in one table."""
    run(TINY, tmp_path, until=2)
    other = replace(TINY, full=replace(PLAN, trainings=[small("aevb", IWAE(2)), small("iwae")]))
    with pytest.raises(ValueError, match="expected what was begun there, with training"):
        run(other, tmp_path)
    with pytest.raises(ValueError, match="with quick false, got true"):
        run(TINY, tmp_path, quick=True)
    # More effort: the models stay, and all of them are measured again.
    before = contents(tmp_path)
    effort = PLAN.effort | {"n_importance": 6}
    run(replace(TINY, full=replace(PLAN, effort=effort)), tmp_path, until=2)
    after = contents(tmp_path)
    assert {n for n in after if after[n] != before[n]} == {
        "table.md",
        "aevb-seed0/figures-00002.json",
        "iwae-seed0/figures-00002.json",
    }


def test_a_model_of_another_experiment_is_taken(tmp_path, whole, monkeypatch):
    """Kills a training that is made twice, and a model of other settings in a table."""
    from numpyvae.experiments import training

    made = []
    real = training.fit
    monkeypatch.setattr(training, "fit", lambda *a, **k: made.append(k["epochs"]) or real(*a, **k))
    finals = [small("aevb").final(), replace(small("iwae", IWAE(3)).final(), batch_size=40)]
    other = replace(TINY, full=replace(PLAN, trainings=finals))
    outcome = run(other, tmp_path / "second", models=[whole])
    assert made == [5]  # iwae alone
    taken = VAE.load(whole / "aevb-seed0/model-00005.npz").parameters.flat
    assert (outcome.found[0].vae.parameters.flat == taken).all()


@pytest.mark.parametrize("patience", [None, 9])
def test_a_stage_of_a_longer_training_is_taken(tmp_path, whole, monkeypatch, patience):
    """Kills a stage that is trained again, and one whose early stopping would have begun anew."""
    from numpyvae.experiments import training

    made = []
    real = training.fit
    monkeypatch.setattr(training, "fit", lambda *a, **k: made.append(k["epochs"]) or real(*a, **k))
    stopping = replace(small("aevb"), patience=patience)
    longer = replace(TINY, full=replace(PLAN, trainings=[stopping]))
    run(longer, tmp_path / "longer")
    first = replace(TINY, full=replace(PLAN, trainings=[replace(stopping, keep=(), epochs=2)]))
    outcome = run(first, tmp_path / "first", models=[tmp_path / "longer"])
    assert made == ([2, 3] if patience is None else [2, 3, 2])
    assert outcome.found[0].epoch == 2
    assert len(outcome.found[0].history) == 2


@pytest.mark.parametrize("accelerator", [None, pytest.param("numba", marks=needs_numba)])
def test_early_stopping_and_monte_carlo_em_go_on_too(accelerator, tmp_path, monkeypatch):
    """Kills a stop that loses the best parameters, or the chains; a compiled model not saved."""
    from numpyvae.support.checkpoints import Checkpoints

    stopping = replace(small("stops").final(), patience=1, optimizer=Adam(0.5), epochs=30)
    chains = replace(small("mcem").final(), data="digits-fixed", method="monte-carlo-em")
    plan = Plan([stopping, chains], {"n_importance": 2, "rows": 20}, "a second")
    experiment = replace(TINY, full=plan)
    whole = run(experiment, tmp_path / "whole", accelerator=accelerator)
    epochs = len(whole.found[0].history)
    assert epochs < 30
    real, calls = Checkpoints.write, []

    def write(self):
        real(self)
        calls.append(1)
        if len(calls) in (1, 4):
            raise Stop

    monkeypatch.setattr(Checkpoints, "write", write)
    for _ in range(2):
        with pytest.raises(Stop):
            run(experiment, tmp_path / "parts", accelerator=accelerator)
    run(experiment, tmp_path / "parts", accelerator=accelerator)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    plain = run(experiment, tmp_path / "plain")
    bounds = [o.found[1].figures["log p(x)"][0] for o in (plain, whole)]
    assert bounds[0] == pytest.approx(bounds[1], abs=0.05)


def test_test_rows_are_drawn_and_the_curve_is_theirs(tmp_path, monkeypatch):
    # kills: the first rows of a sorted test set, other rows in another call, a curve of the first
    data = load_data("digits")
    some = data.some_test_rows(20)
    np.testing.assert_array_equal(some, load_data("digits").some_test_rows(20))
    place = {row.tobytes(): i for i, row in enumerate(data.x_test)}
    places = [place[row.tobytes()] for row in some]
    assert places == sorted(set(places))
    assert places[0] < 300
    assert places[-1] > 1500
    assert data.some_test_rows(None) is data.x_test
    seen = []

    def stop(vae, x, *rest):
        seen.append(x)
        raise Stop

    monkeypatch.setattr(core_training, "mean_elbo_terms", stop)
    with pytest.raises(Stop):
        run(TINY, tmp_path)
    np.testing.assert_array_equal(seen[0], some)


def test_images_are_those_of_the_digits_alone(tmp_path):
    """Kills decoded faces in the results, which must not be passed on, and a mirrored image."""
    vae = VAE(64, 2, (3,), seed=1)
    data, keeper = load_data("digits"), Keeper(tmp_path)
    for name, shown in (("digits", True), ("frey", False)):
        training = replace(small(name).final(), data=name)
        for measure in (EXPERIMENTS["kingma-welling-fig4"], EXPERIMENTS["kingma-welling-fig5"]):
            trained = Trained(training, 0, 5, vae, data, {"rows": 10}, keeper)
            figures = measure.measure(trained)
            assert ("images" in figures) is shown
    images = EXPERIMENTS["kingma-welling-fig4"].measure(
        replace(trained, training=replace(training, data="digits"))
    )["images"]
    corner = vae.decode([[NormalDist().inv_cdf(u / 24) for u in (1, 23)]])  # top left
    assert [int(c, 16) for c in images[0]] == np.rint(15 * corner).ravel().tolist()


def test_damaged_files_are_named(tmp_path):
    """Kills a message without the file and the remedy."""
    run(TINY, tmp_path, only=["aevb"], until=2)
    (tmp_path / "aevb-seed0/figures-00002.json").write_text("{")
    with pytest.raises(ValueError, match=r"figures-00002\.json: expected a file that"):
        run(TINY, tmp_path)
    (tmp_path / "settings.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"settings\.json: expected a file that"):
        run(TINY, tmp_path)


def test_data_that_the_package_does_not_have_are_asked_for(tmp_path, monkeypatch):
    """Kills a download of data that must not be passed on, and another file in their place."""
    monkeypatch.delenv("NUMPYVAE_DATA", raising=False)
    for name in ("frey", "mnist-fixed"):
        with pytest.raises(FileNotFoundError, match=r"NUMPYVAE_DATA, got no folder"):
            load_data(name)
        with pytest.raises(FileNotFoundError, match=r"got none in"):
            load_data(name, tmp_path)
    np.savez(tmp_path / "binarized_mnist_packed.npz", train=np.zeros((2, 98), np.uint8))
    with pytest.raises(ValueError, match="expected arrays train, valid and test"):
        load_data("mnist-fixed", tmp_path)
    for faces in (np.zeros((3, 28, 20), np.uint8), np.zeros((1965, 28, 20))):
        np.savez(tmp_path / "freyfaces.npz", images=faces)
        with pytest.raises(
            ValueError, match=r"expected an array images of shape \(1965, 28, 20\)"
        ):
            load_data("frey", tmp_path)
    (tmp_path / "freyfaces.npz").write_bytes(b"faces")
    with pytest.raises(ValueError, match="expected an npz archive with the array images"):
        load_data("frey", tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_faces_are_grays_of_which_some_are_held_out(tmp_path, save):
    """Kills a reader that refuses the compressed archive in use, and a face in both parts."""
    faces = np.zeros((1965, 28, 20), np.uint8)
    faces[:, 0, :2] = np.stack(np.divmod(np.arange(1965), 256), axis=1)  # each face differs
    save(tmp_path / "freyfaces.npz", images=faces)
    data = load_data("frey", tmp_path)
    assert data.x_train.shape == (1765, 560)
    assert data.x_test.shape == (200, 560)
    numbers = np.concatenate([data.x_train, data.x_test])[:, :2] * 255 @ [256, 1]
    assert sorted(np.round(numbers)) == list(range(1965))


def test_the_command(tmp_path, monkeypatch, capsys):
    """Kills a wrong name without its remedy, and results that are not those of the folder."""
    monkeypatch.setitem(EXPERIMENTS, "tiny", TINY)
    assert main(["reproduce", "--list"]) == 0
    assert "tiny\n  It is small." in capsys.readouterr().out
    assert main(["reproduce"]) == 2
    assert "expected an experiment" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["reproduce", "burda-table"])
    assert "did you mean burda-table1?" in capsys.readouterr().err
    words = ["reproduce", "tiny", "--quick", "--until", "2", "--output", str(tmp_path / "out")]
    assert main([*words, "--only", "avb"]) == 2
    assert "expected some of aevb, iwae, got 'avb'; did you mean aevb?" in capsys.readouterr().err
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out" / "results.json").read_bytes())
    assert not printed["complete"]


@pytest.mark.parametrize(
    ("largest", "holds"), [((-97.0, -98.0), True), ((-80.0, -86.0), True), ((-85.0, -92.0), False)]
)
def test_overfitting_is_not_slow_training(largest, holds):
    """Kills a claim that compares the test bounds alone, the gaps alone, or neighbors alone."""
    from numpyvae.experiments.kingma_welling_bounds import _no_overfitting

    def model(latents, training, test):
        about = SimpleNamespace(name=f"mnist-aevb-{latents}", data="mnist", latent_dim=latents)
        history, figures = {"elbo": np.array([-200.0, training])}, {"test bound": [test, 0.3]}
        return SimpleNamespace(training=about, seed=0, last=True, history=history, figures=figures)

    models = [model(200, *largest), model(2, -95.0, -96.0), model(10, -90.0, -91.5)]
    (claim,) = _no_overfitting([*models, model(20, -92.0, -93.0)])
    assert claim.holds is holds
