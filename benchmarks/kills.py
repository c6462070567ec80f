"""Kill runs at any moment, or fill the disk at any write, and look at what is left.

    python -m benchmarks.kills --kills 1000
    python -m benchmarks.kills --full

Each trial is one process that is killed (SIGKILL), either before one of its operations on the
file system or after a random time, and then others that are killed too, until one is left to
finish. After each kill the run folder must have the results of one run, complete, or none; at the
end it must have those of the uninterrupted run, byte for byte but for the seconds, and no other
file. The trials are of four kinds:

    train      into an empty folder, then `train --resume`
    resume     as `train`, killed up to five times
    overwrite  over an earlier run, whose results must stay until the new ones are complete
    save       `VAE.save` over an earlier model

With --full each operation on the file system in turn fails as on a full disk, once for each kind.
The trials are forks of one process that has all modules loaded.
"""

from __future__ import annotations

import argparse
import csv
import errno
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the trials are tiny

import numpy as np

from benchmarks.options import whole
from numpyvae import VAE, History, plotting  # noqa: F401  (loaded before the forks)
from numpyvae.command import jobs
from numpyvae.command.cli import main as command
from numpyvae.command.runs import RESULTS, RunFolder, is_moving
from numpyvae.support import checkpoints

OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")  # audited by Python
KINDS = ("train", "resume", "overwrite", "save")
Work = Callable[[], int]


class Failed(AssertionError):
    """A folder is not what it must be."""


def fork(work: Work, arm: Callable[[], None] = lambda: None, seconds: float | None = None):
    """Do the work in a process of its own; return (code, what it wrote to standard error).

    The code is −9 for a process that was killed. `arm` is called in the process before the work;
    after `seconds` the process is killed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        sys.stderr = os.fdopen(writer, "w")
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        code = 70
        try:
            arm()
            code = work()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(writer)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said


def at_operation(
    folder: Path, number: int, act: Callable[[], None], seen: list[str] | None = None
) -> Callable[[], None]:
    """Return a function that makes a process act before its operation `number` in `folder`."""
    seen, prefix = [] if seen is None else seen, str(folder)

    def watch(event: str, args: tuple) -> None:
        path = args[0] if event in OPERATIONS else None
        inside = isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(prefix)
        if inside:
            seen.append(event)
            if len(seen) == number:
                act()

    return lambda: sys.addaudithook(watch)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Trials:
    """Two runs, with all bytes that they end with, and the trials.

    Parameters
    ----------
    base : Path
        An empty folder.
    seed : int
    draw : bool
        Draw the pictures; else an empty file stands for each.
    """

    def __init__(self, base: Path, seed: int = 0, draw: bool = True) -> None:
        self.base, self.rng, self.trials = base, np.random.default_rng(seed), 0
        self.counts: Counter = Counter()
        self.draw = draw
        np.save(base / "x.npy", self.rng.integers(0, 2, (40, 3, 3)))
        VAE(9, 1, (3,)).save(base / "one.npz")
        VAE(9, 2, (4,), seed=1).save(base / "two.npz")
        self.operations, self.seconds = 0, 0.0  # of a run that nobody kills
        self.old = self.uninterrupted(base / "old", latent_dim=2)  # it has one more picture
        self.new = self.uninterrupted(base / "new", latent_dim=1)

    def train(self, folder: Path, *more: str, latent_dim: int = 1) -> Work:
        """Return the work of `train` into a folder."""
        args = ["--dataset", str(self.base / "x.npy"), "--hidden", "3", "--epochs", "4"]
        args += ["--latent-dim", str(latent_dim), "--batch-size", "9", "--eval-importance", "2"]
        args += ["--validation", "0.2", "--patience", "9", "--output", str(folder)]
        return lambda: self.command("train", *args, *more)

    def command(self, *args: str) -> int:
        """Run the command in a process that ends with it."""
        checkpoints._SECONDS = checkpoints._SHARE = 0.0  # a checkpoint in each epoch
        if not self.draw:
            jobs.pictures = touch_pictures
        return command(args)

    def uninterrupted(self, folder: Path, latent_dim: int) -> dict[str, object]:
        start = time.perf_counter()
        code, said = fork(self.train(folder, latent_dim=latent_dim))
        self.seconds = time.perf_counter() - start
        if code or said:
            raise Failed(f"the run that nobody kills ends with {code}: {said}")
        found, twin = contents(folder), self.base / "twin"
        seen: list[str] = []
        arm = at_operation(twin, 0, die, seen)

        def counted() -> int:
            code = self.train(twin, latent_dim=latent_dim)()
            print(len(seen), file=sys.stderr)
            return code

        self.operations = int(fork(counted, arm)[1])
        if contents(twin) != found:
            raise Failed("two equal runs end with other bytes")
        shutil.rmtree(twin)
        return found

    def kill(self, work: Work, folder: Path) -> None:
        """Kill the work somewhere, if it does not end before."""
        if self.rng.random() < 0.5:
            number = int(self.rng.integers(1, self.operations + 1))
            code, said = fork(work, at_operation(folder, number, die))
        else:
            code, said = fork(work, seconds=self.rng.uniform(0, self.seconds))
        self.counts["killed" if code == -signal.SIGKILL else "came to its end"] += 1
        if code not in (0, -signal.SIGKILL):
            raise Failed(f"a process that was to be killed ends with {code}: {said}")

    def check(self, folder: Path, *allowed: dict) -> None:
        """Raise Failed unless the folder has the results of one of these runs, or is midway."""
        if is_moving(folder):
            self.counts["killed among the moves"] += 1
            return
        if contents(folder) not in allowed:
            raise Failed(f"{folder}: {sorted(contents(folder))} are those of no single run")
        if (folder / "model.npz").exists():
            VAE.load(folder / "model.npz")
        run = RunFolder(folder)
        if run.is_unfinished():
            self.counts["unfinished"] += 1
            run.load_checkpoint()

    def go_on(self, folder: Path, over_old: bool) -> Work:
        """Return the work that continues the run in the folder, or begins it."""
        begun = RunFolder(folder).is_unfinished() or contents(folder) == self.new
        if begun or is_moving(folder):
            return lambda: self.command("train", "--resume", str(folder))
        return self.train(folder, *(["--overwrite"] if over_old else []))

    def run(self, kind: str) -> None:
        """Do one trial."""
        self.trials += 1
        with tempfile.TemporaryDirectory(dir=self.base) as place:
            folder = Path(place, "run")
            (self.save if kind == "save" else self.run_folder)(folder, kind)
        self.counts[kind] += 1

    def run_folder(self, folder: Path, kind: str) -> None:
        over_old = kind == "overwrite"
        allowed = [self.new, self.old if over_old else {}]
        if over_old:
            self.copy_old(folder)
        for _ in range(int(self.rng.integers(2, 6)) if kind == "resume" else 1):
            self.kill(self.go_on(folder, over_old), folder)
            self.check(folder, *allowed)
        code, said = fork(self.go_on(folder, over_old))
        self.must_be_new(folder, code, said)

    def must_be_new(self, folder: Path, code: int, said: str) -> None:
        if code:
            raise Failed(f"{folder}: the run that goes on ends with {code}: {said}")
        if contents(folder) != self.new:
            names = [n for n in RESULTS if contents(folder).get(n) != self.new.get(n)]
            raise Failed(f"{folder}: {names} are not those of the uninterrupted run")
        if extra := {p.name for p in folder.iterdir()} - set(self.new):
            raise Failed(f"{folder}: {sorted(extra)} should not be there")

    def copy_old(self, folder: Path) -> None:
        folder.mkdir()
        for name in self.old:
            (folder / name).write_bytes((self.base / "old" / name).read_bytes())

    def save(self, folder: Path, kind: str) -> None:
        folder.mkdir()
        one, two = (VAE.load(self.base / f"{name}.npz") for name in ("one", "two"))
        allowed = [(self.base / f"{name}.npz").read_bytes() for name in ("one", "two")]
        path = folder / "model.npz"
        one.save(path)

        def work() -> int:
            two.save(path)
            return 0

        code, _ = fork(work, at_operation(folder, int(self.rng.integers(1, 4)), die))
        self.counts["killed" if code == -signal.SIGKILL else "came to its end"] += 1
        VAE.load(path)
        if path.read_bytes() not in allowed:
            raise Failed(f"{path} is neither the old model nor the new one")
        work()
        if [p.name for p in folder.iterdir()] != ["model.npz"]:
            raise Failed(f"{folder}: {[p.name for p in folder.iterdir()]} after another save")

    def fail(self, over_old: bool, number: int) -> None:
        """Let one operation fail as on a full disk."""
        with tempfile.TemporaryDirectory(dir=self.base) as place:
            folder = Path(place, "run")
            if over_old:
                self.copy_old(folder)
            work = self.train(folder, *(["--overwrite"] if over_old else []))
            code, said = fork(work, at_operation(folder, number, no_space))
            self.must_be_whole(folder, code, said, over_old)
            begun = (folder / "unfinished" / "settings.json").exists()
            if code and (begun or not over_old):
                code_after, said_after = fork(self.go_on(folder, over_old))
                self.must_be_new(folder, code_after, said_after)
        self.counts["disk full, over an earlier run" if over_old else "disk full"] += 1

    def must_be_whole(self, folder: Path, code: int, said: str, over_old: bool) -> None:
        """Raise Failed unless a run on a full disk leaves one line and the old results."""
        lines = said.splitlines()
        if code not in (0, 1) or "Traceback" in said or any("numpyvae: " not in s for s in lines):
            raise Failed(f"on a full disk the command ends with {code}: {said}")
        if code and len(lines) != 1:
            raise Failed(f"on a full disk the command says {said}")
        if code:
            self.check(folder, self.old if over_old else {}, self.new)
        left = list(folder.rglob(".writing-*")) if folder.exists() else []
        if left:
            raise Failed(f"on a full disk {left} are left")


def touch_pictures(vae: VAE, history: History, data: object, output: Path) -> None:
    """Write an empty file for each picture."""
    names = RESULTS[4:] if vae.latent_dim == 2 else RESULTS[4:-1]
    for name in names:
        (output / name).touch()


def contents(folder: Path) -> dict[str, object]:
    """Return the results in a run folder by name, without what differs between equal runs."""
    found: dict[str, object] = {}
    for name in RESULTS:
        if (folder / name).exists():
            found[name] = without_seconds(name, (folder / name).read_bytes())
    return found


def without_seconds(name: str, data: bytes) -> object:
    if name == "summary.json":
        summary = json.loads(data, parse_constant=lambda word: 1 / 0)
        return [item for item in summary.items() if "seconds" not in item[0]]
    if name == "history.csv":
        rows = csv.DictReader(io.StringIO(data.decode()))
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    return data


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=whole, default=40, help="number of kills (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--full", action="store_true", help="fill the disk instead")
    parser.add_argument("--no-pictures", action="store_true", help="draw no pictures")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as base:
        trials = Trials(Path(base), args.seed, draw=not args.no_pictures)
        if args.full:
            for over_old in (False, True):
                for number in range(1, trials.operations + 1):
                    trials.fail(over_old, number)
        else:
            while trials.counts["killed"] < args.kills:
                trials.run(KINDS[trials.trials % len(KINDS)])
    for what, count in trials.counts.items():
        print(f"{count:6d}  {what}")


if __name__ == "__main__":
    main()
