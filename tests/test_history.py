"""`History`: columns, rows and loops over it; the error that contains one."""

import copy
import json
import pickle

import numpy as np
import pytest

from numpyvae import VAE, Adam, EarlyStopping, History, NonFiniteError, fit

ROWS = [{"epoch": 1, "elbo": -9.0}, {"epoch": 2, "elbo": -8.0, "valid_elbo": -8.5}]


def endless():
    raise AssertionError("the loop goes on beyond the rows")


@pytest.mark.parametrize("rows", [[], ROWS], ids=["empty", "two rows"])
def test_every_loop_over_a_history_ends(rows):
    """Kills iteration by __getitem__ with 0, 1, 2, …, which never raises an IndexError."""
    history = History(list(rows))
    assert len(history) == len(rows)
    assert list(history) == rows
    found = []
    for row in history:
        found.append(row)
        if len(found) > len(rows):
            endless()
    assert found == rows
    assert list(np.asarray(history, dtype=object)) == rows
    assert np.asarray(history).shape == (len(rows),)
    assert bool(history) == bool(rows)
    assert (ROWS[0] in history) == bool(rows)


@pytest.mark.parametrize("index", [0, -1, slice(1), np.int64(0), None, ("elbo",)])
def test_the_error_for_an_index_names_the_rows(index):
    """Kills NaN, an empty column or a bare KeyError for a row by its number."""
    for history in (History(), History(ROWS)):
        with pytest.raises(TypeError, match=r"^column: expected a name.*history\.rows") as caught:
            history[index]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["loss", "valid_kl", "ELBO", ""])
def test_the_error_for_a_missing_column_names_the_columns(column):
    """Kills a column of NaN for a name that is misspelt."""
    history = fit(VAE(4, 2, (3,)), np.eye(4), epochs=1)
    with pytest.raises(KeyError) as caught:
        history[column]
    for name in ("elbo", "reconstruction", "kl", "objective", "seconds"):
        assert name in str(caught.value)


def test_a_column_that_some_rows_have_is_nan_in_the_others():
    history = History(ROWS)
    assert np.array_equal(history["valid_elbo"], [np.nan, -8.5], equal_nan=True)
    assert history["epoch"].tolist() == [1, 2]
    assert History()["elbo"].shape == (0,)


def test_the_error_keeps_its_message_and_fields_when_it_is_copied():
    """Kills an error from another process without its epoch, step or history."""
    error = NonFiniteError("ELBO and gradient", 3, 7, "encoder.W0", History(list(ROWS)))
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(twin) == str(error)
        assert (twin.epoch, twin.step, twin.parameter) == (3, 7, "encoder.W0")
        assert twin.history.rows == ROWS


# On disk.


def run(epochs, vae, **more):
    settings = {"batch_size": 3, "x_valid": 1 - np.eye(6), "callbacks": [EarlyStopping(4)]}
    return fit(vae, np.eye(6), epochs=epochs, optimizer=Adam(0.05), **settings, **more)


def same(one, other):
    def arrays(history):
        found = dict(history.optimizer_state)
        found |= {"best": history.best_parameters, "last": history.last_parameters}
        return {
            name: a if a is None else (a.dtype, a.shape, a.tobytes()) for name, a in found.items()
        }

    assert one.rows == other.rows
    assert [list(map(type, row.values())) for row in one] == [
        list(map(type, row.values())) for row in other
    ]
    assert one.stopped_early is other.stopped_early
    assert arrays(one) == arrays(other)


@pytest.mark.parametrize("epochs", [1, 4, 40])
def test_a_history_from_its_file_is_the_history(epochs, tmp_path):
    """Kills a rounded figure, a part that is left out, True that comes back as 1."""
    history = run(epochs, VAE(6, 2, (5,)))
    assert history.stopped_early is (epochs == 40)
    history.save(tmp_path / "h")
    assert [p.name for p in tmp_path.iterdir()] == ["h"]
    same(History.load(tmp_path / "h"), history)
    again = History.load(str(tmp_path / "h"))
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "h").read_bytes()


def test_a_history_without_rows_or_arrays_is_written_and_read(tmp_path):
    History().save(tmp_path / "h")
    same(History.load(tmp_path / "h"), History())


def test_a_run_goes_on_from_the_file_of_its_history(tmp_path):
    """Kills a moment, a step count or best parameters that the file loses."""
    whole = VAE(6, 2, (5,))
    expected = run(9, whole)
    for cut in (1, 5):
        vae = VAE(6, 2, (5,))
        run(cut, vae).save(tmp_path / "h")
        vae.save(tmp_path / "m")
        vae = VAE.load(tmp_path / "m")
        history = run(9 - cut, vae, resume=History.load(tmp_path / "h"))
        assert vae.parameters.flat.tobytes() == whole.parameters.flat.tobytes()
        assert [{**row, "seconds": 0} for row in history] == [
            {**row, "seconds": 0} for row in expected
        ]


def test_the_text_in_the_file_is_strict_json(tmp_path):
    """Kills NaN and Infinity, which other readers of JSON refuse, and their loss."""
    rows = [{"a": np.nan, "b": np.inf, "c": -np.inf, "d": np.float32(0.1), "e": np.bool_(True)}]
    History(rows).save(tmp_path / "h")
    with np.load(tmp_path / "h", allow_pickle=False) as file:
        json.loads(str(file["header"]), parse_constant=pytest.fail)
    (row,) = History.load(tmp_path / "h").rows
    assert np.isnan(row["a"])
    assert (row["b"], row["c"], row["d"], row["e"]) == (np.inf, -np.inf, float(rows[0]["d"]), True)
    with pytest.raises(TypeError, match="expected numbers to save, got 'x' in column 'note'"):
        History([{"note": "x"}]).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def refused(path, *words):
    with pytest.raises(ValueError) as caught:
        History.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: expected")
    for word in words:
        assert word in message


HEADER = {
    "format": "numpyvae history, version 1",
    "rows": [{"epoch": 1}],
    "stopped_early": False,
    "arrays": {"best_parameters": [3]},
}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "numpyvae model, version 1"},
        {"rows": {"epoch": 1}},
        {"rows": [1]},
        {"rows": [{"epoch": None}]},
        {"rows": [{"epoch": "one"}]},
        {"rows": [{"epoch": []}]},
        {"stopped_early": 0},
        {"arrays": {"best_parameters": [3.0]}},
        {"arrays": {"best_parameters": [True]}},
        {"arrays": {"best_parameters": [-3]}},
        {"arrays": {"best_parameters": 3}},
        {"arrays": {"best_parameters": [4]}},
        {"arrays": {"encoder.W0": [3]}},
        {"arrays": {"best_parameters": [3], "optimizer_state.m": [3]}},
        {"arrays": []},
        {"arrays": {}},
    ],
    ids=range(16),
)
def test_a_header_that_save_does_not_write_is_refused(change, tmp_path):
    """Kills a header that is believed: rows, shapes or names that fit nothing."""
    np.savez(tmp_path / "ok.npz", header=json.dumps(HEADER), best_parameters=np.ones(3))
    assert History.load(tmp_path / "ok.npz").best_parameters.tolist() == [1, 1, 1]
    header = json.dumps(HEADER | change)
    np.savez(tmp_path / "h.npz", header=header, best_parameters=np.ones(3))
    refused(tmp_path / "h.npz", "got")


def test_other_files_are_refused_in_one_line(tmp_path):
    """Kills a model read as a history, NaN in a state, and what is no JSON at all."""
    VAE(4, 2, (3,)).save(tmp_path / "model.npz")
    refused(tmp_path / "model.npz", "History.save")
    for text in ("", "[" * 100_000, "NaN", json.dumps(HEADER).replace("1}", "NaN}")):
        np.savez(tmp_path / "h.npz", header=text, best_parameters=np.ones(3))
        refused(tmp_path / "h.npz")
    np.savez(tmp_path / "h.npz", header=json.dumps(HEADER), best_parameters=[0, np.nan, 1])
    refused(tmp_path / "h.npz", "finite")
    with pytest.raises(FileNotFoundError, match="no such file"):
        History.load(tmp_path / "none.npz")


def test_a_damaged_history_is_refused_or_equal(tmp_path):
    """Kills a flipped bit or a lost end that trains on as another run."""
    history = run(2, VAE(6, 1, ()))
    path = tmp_path / "h"
    history.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    harmless = 0
    for i, bit in zip(rng.integers(0, len(whole), 300), rng.integers(0, 8, 300)):
        flipped = bytearray(whole)
        flipped[i] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            found = History.load(path)
        except ValueError:
            refused(path)
        else:
            harmless += 1  # a time stamp, say
            same(found, history)
    assert harmless < 60
    for length in rng.integers(0, len(whole), 40):
        path.write_bytes(whole[:length])
        refused(path)
