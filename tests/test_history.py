"""`History`: columns, rows and loops over it; the error that contains one."""

import copy
import pickle

import numpy as np
import pytest

from numpyvae import VAE, History, NonFiniteError, fit

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
