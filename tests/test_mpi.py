"""Ranks that are processes, started by mpiexec: bits, a rank that is killed, a rank that fails."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ranks import results_of, rows

import numpyvae

ROOT = Path(numpyvae.__file__).parent.parent
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
MPIEXEC = MPIEXEC or shutil.which("mpiexec")
pytestmark = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason='needs an MPI: pip install "numpyvae[mpi]" mpich',
)
AS_ROOT = {  # Open MPI refuses root, as in a container, and more ranks than cores
    f"{prefix}_ALLOW_RUN_AS_ROOT{suffix}": "1"
    for prefix in ("OMPI", "PRTE")
    for suffix in ("", "_CONFIRM")
} | {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}

# Rank 1 is killed, or fails, in the third epoch.
DIES = """
import os, signal, sys
from numpyvae.command.cli import main
from numpyvae.estimators import DataParallel

def at(self, epochs):
    if self.comm.Get_rank() == 1 and 2 <= epochs < float("inf"):
        {what}
    return self

DataParallel.at = at
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def mpiexec(tmp_path):
    """A function that starts ranks, and returns the finished process."""
    np.save(tmp_path / "x.npy", rows(60))

    def start(n, *words):
        return subprocess.run(
            [MPIEXEC, "-n", str(n), sys.executable, *words],
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, **AS_ROOT, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
            timeout=120,
            text=True,
            errors="replace",
        )

    return start


COMMAND = ("-m", "mpi4py", "-m", "numpyvae")
SMALL = ("--hidden", "3", "--latent-dim", "1", "--eval-importance", "2", "--epochs", "4")
TRAIN = ("train", "--dataset", "x.npy", *SMALL, "--data-parallel", "--output")


def test_ranks_give_the_same_bits_and_one_may_be_killed(mpiexec, tmp_path):
    # kills: bits of one number of ranks, a job that hangs after a kill, and a folder that is lost
    for n in (1, 2, 4):
        run = mpiexec(n, *COMMAND, *TRAIN, f"of-{n}")
        assert run.returncode == 0, run.stderr
        assert run.stdout.count("Written to") == 1  # kills: every rank prints
    expected = results_of(tmp_path / "of-1")
    assert results_of(tmp_path / "of-2") == expected
    assert results_of(tmp_path / "of-4") == expected

    killed = mpiexec(
        2, "-c", DIES.format(what="os.kill(os.getpid(), signal.SIGKILL)"), *TRAIN, "k"
    )
    assert killed.returncode != 0
    assert "Traceback" not in killed.stderr
    run = mpiexec(4, *COMMAND, "train", "--resume", "k")
    assert run.returncode == 0, run.stderr
    assert results_of(tmp_path / "k") == expected


def test_a_rank_that_fails_ends_the_job_with_its_line(mpiexec, tmp_path):
    # kills: ranks that wait forever, and an error of a rank that is silent
    run = mpiexec(2, "-c", DIES.format(what='raise OSError("disk is gone")'), *TRAIN, "run")
    assert run.returncode != 0
    assert run.stderr.count("numpyvae: rank 1: error: disk is gone") == 1
    assert (tmp_path / "run" / "unfinished" / "checkpoint.npz").exists()


def test_wrong_usage_is_said_once(mpiexec):
    # kills: a message for each rank, and an exit code that mpiexec loses
    run = mpiexec(2, *COMMAND, *TRAIN, "run", "--hidde", "3")
    assert run.returncode == 2
    assert run.stderr.count("numpyvae train: error: expected an option") == 1


def test_the_script_of_the_page_runs_on_ranks(mpiexec, tmp_path):
    # kills: a script whose ranks all write, and a renamed function on the page
    page = (ROOT / "docs" / "data-parallel.md").read_text("utf-8")
    (tmp_path / "train.py").write_text(re.search(r"```py\n(.*?)```", page, re.S)[1], "utf-8")
    found = []
    for n in (1, 2):
        run = mpiexec(n, "-m", "mpi4py", "train.py")
        assert run.stdout.count(f"{n} ranks, objective -") == 1, run.stderr
        found.append((tmp_path / "model.npz").read_bytes())
    assert found[0] == found[1]
