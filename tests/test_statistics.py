"""Standard errors: s/√n with n − 1, and none for one row, in numbers and in words."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from numpyvae import VAE, bounds, diagnostics
from numpyvae.command import reports
from numpyvae.command.measuring import evaluate
from numpyvae.command.preparation import prepare
from numpyvae.support.statistics import mean_and_error, plus_minus

ROOT = Path(__file__).parents[1]


def test_the_standard_error_divides_by_n_minus_one():
    # kills: n in place of n − 1, a deviation that is not divided by √n
    mean, error = mean_and_error(np.array([1.0, 2.0, 6.0]))
    assert (mean, error) == (3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2 / 3)))
    mean, error = mean_and_error(np.array([-4.0]))
    assert mean == -4
    assert math.isnan(error)


def test_a_mean_of_one_row_says_that_it_has_no_standard_error():
    # kills: "± 0.00", "± nan"
    assert plus_minus(1.234, 0.5, 2) == "1.23 ± 0.50"
    for missing in (None, math.nan):
        assert plus_minus(1.234, missing, 2) == "1.23 (one row: no standard error)"
    vae = VAE(4, 2, (3,))
    x, z = bounds.simulate(vae, 1)
    for text in (
        str(bounds.annealed_log_likelihood(vae, x, 5, 2, posterior=z)),
        str(diagnostics.elbo_surgery(vae, x)),
        str(diagnostics.decompose_gap(vae, x, [-3.0], n_samples=2, max_iterations=2)),
    ):
        assert "one row: no standard error" in text
        assert "±" not in text
        assert "nan" not in text


def test_the_report_of_one_row():
    # kills: "± 0.00" and "0 of 10 active" from one row
    data, vae = prepare("digits", "bernoulli"), VAE(64, 2, (5,))
    one = evaluate(vae, data, n_importance=3, seed=0, test_rows=1)
    assert one["test_log_likelihood_se"] is None
    assert one["active_units"] is None
    text = reports.report(one)
    assert "1 test row (one row: no standard error), nats" in text
    assert "Active latents: one row does not tell" in text
    assert "±" not in text
    two = evaluate(vae, data, n_importance=3, seed=0, test_rows=2)
    values = bounds.importance_log_likelihood(vae, data.x_test, 3)
    assert two["active_units"] >= 0
    assert f"± {two['test_log_likelihood_se']:.2f}" in reports.report(two)
    everything = evaluate(vae, data, n_importance=3, seed=0)
    expected = values.std(ddof=1) / math.sqrt(len(values))
    assert everything["test_log_likelihood_se"] == pytest.approx(expected, rel=1e-9)


def test_active_units_divide_by_n_minus_one_and_refuse_one_row():
    # kills: n; and "collapsed" as the answer to a question that one row does not settle
    vae = VAE(1, 1, ())
    vae.parameters.flat[:] = 0
    vae.parameters["encoder.W0"][0, 0] = 1
    x = np.array([[0.0], [1.0]])  # variance 1/4 with n, 1/2 with n − 1
    assert diagnostics.active_units(vae, x, 0.4).tolist() == [True]
    with pytest.raises(ValueError, match="x: expected at least two rows, got 1") as caught:
        diagnostics.active_units(vae, x[:1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["numpyvae", "tutorials", "benchmarks", "docs"])
def test_no_other_standard_error_is_computed(folder):
    # kills: a copy of the formula, which may divide by n
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.name == "statistics.py":
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            spread = ".std(" in line and ("sqrt(" in line or "** 0.5" in line or "**0.5" in line)
            assert not spread, f"{path.name}: {line.strip()}"
