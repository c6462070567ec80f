"""Flip bits in files and cut them: each reader must refuse the file, or read the same bytes.

    python -m benchmarks.damage [--flips 3000] [--truncations 300] [--json]

The kinds of files are a model, a checkpoint of a training, an .npz archive (stored and compressed)
and a gzipped IDX file. A
refusal must be one ValueError or OSError of one line that names the file. All else counts as
wrong, and the command then ends with exit code 1. A .npy file has no checksum, so that most flips
change its values unseen: it is measured too, and not counted as wrong.
"""

from __future__ import annotations

import argparse
import gzip
import json
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.options import whole
from numpyvae import VAE, History
from numpyvae.datasets import read_data, read_idx
from numpyvae.support.preparation import Preparation

Read = Callable[[Path], bytes]


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 17, (40, 8, 8)).astype(np.uint8)
    return {"x_train": x, "y_train": np.arange(40) % 10, "x_test": x[::3], "extra": np.arange(3.0)}


def _write_model(path: Path) -> None:
    vae = VAE(6, 2, (3,), likelihood="gaussian:learned", seed=1)
    raw = np.random.default_rng(0).normal(5, 2, (20, 6))
    vae.preparation = Preparation.fitted(raw, "standardize", names=tuple("abcdef"))
    vae.save(path)


def _read_model(path: Path) -> bytes:
    vae = VAE.load(path)
    header, arrays = vae.preparation.stored()
    parts = [repr(vae), repr(vae.parameters.epochs), repr(header)]
    return b"".join(
        [p.encode() for p in parts]
        + [vae.parameters.flat.tobytes()]
        + [arrays[name].tobytes() for name in sorted(arrays)]
    )


def _write_checkpoint(path: Path) -> None:
    rows = [{"epoch": float(i), "elbo": -9.0 - i, "seconds": 0.25 * i} for i in range(1, 4)]
    rng = np.random.default_rng(0)
    state = {"m": rng.normal(size=20), "v": rng.random(20), "t": np.array(9.0)}
    History(rows, state, rng.normal(size=20), rng.normal(size=20)).save(path)


def _read_checkpoint(path: Path) -> bytes:
    history = History.load(path)
    parts = [history.optimizer_state[name] for name in sorted(history.optimizer_state)]
    parts += [history.best_parameters, history.last_parameters]
    kept = [repr(None if p is None else (p.shape, p.dtype.str)).encode() for p in parts]
    kept.append(repr((history.rows, sorted(history.optimizer_state))).encode())
    return b"".join(kept + [p.tobytes() for p in parts if p is not None])


def _write_npz(path: Path) -> None:
    np.savez(path, **_arrays())


def _write_compressed(path: Path) -> None:
    np.savez_compressed(path, **_arrays())


def _write_npy(path: Path) -> None:
    np.save(path, _arrays()["x_train"])


def _read_data(path: Path) -> bytes:
    data = read_data(path)
    parts = [data.x_train, data.y_train, data.x_valid, data.x_test, data.y_test]
    kept = [repr(None if p is None else (p.shape, p.dtype.str)).encode() for p in parts]
    return b"".join(kept + [np.ascontiguousarray(p).tobytes() for p in parts if p is not None])


def _write_idx(path: Path) -> None:
    x = _arrays()["x_train"]
    data = bytes([0, 0, 8, 3]) + struct.pack(">3I", *x.shape) + x.tobytes()
    path.write_bytes(gzip.compress(data, mtime=0))


def _read_idx(path: Path) -> bytes:
    x = read_idx(path)
    return repr((x.shape, x.dtype.str)).encode() + x.tobytes()


KINDS: dict[str, tuple[str, Callable[[Path], None], Read]] = {
    "model": ("model.npz", _write_model, _read_model),
    "checkpoint": ("checkpoint.npz", _write_checkpoint, _read_checkpoint),
    "npz": ("x.npz", _write_npz, _read_data),
    "npz compressed": ("x.npz", _write_compressed, _read_data),
    "idx.gz": ("images-idx3-ubyte.gz", _write_idx, _read_idx),
    "npy": ("x.npy", _write_npy, _read_data),
}
UNCHECKED = {"npy"}  # formats without a checksum


def outcome(path: Path, read: Read, right: bytes) -> str:
    """Return "refused", "equal", or what went wrong."""
    try:
        same = read(path) == right
    except (ValueError, OSError) as error:
        message = str(error)
        if "\n" in message or str(path) not in message:
            return f"{type(error).__name__}: {message[:100]!r}"
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:100]!r}"
    return "equal" if same else "other values"


def damaged(whole_file: bytes, flips: int, truncations: int, seed: int):
    """Yield damaged copies of a file: one bit flipped, then cut short."""
    rng = np.random.default_rng(seed)
    bits = 8 * len(whole_file)
    for bit in rng.permutation(bits)[:flips] if flips <= bits else rng.integers(0, bits, flips):
        copy = bytearray(whole_file)
        copy[bit // 8] ^= 1 << int(bit % 8)
        yield "flip", bytes(copy)
    for length in rng.integers(0, len(whole_file), truncations):
        yield "truncation", whole_file[:length]


def measure(kind: str, flips: int, truncations: int, seed: int = 0) -> dict:
    """Damage one kind of file in many ways, and count what its reader does."""
    name, write, read = KINDS[kind]
    counts: dict[str, Counter] = {"flip": Counter(), "truncation": Counter()}
    start, slowest = time.perf_counter(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path)
        right, intact = read(path), path.read_bytes()
        for how, data in damaged(intact, flips, truncations, seed):
            path.unlink()  # a memory map of the file before stays as it is
            path.write_bytes(data)
            before = time.perf_counter()
            counts[how][outcome(path, read, right)] += 1
            slowest = max(slowest, time.perf_counter() - before)
    wrong = sum(n for c in counts.values() for key, n in c.items() if key not in _FINE)
    return {
        "kind": kind,
        "bytes": len(intact),
        **{how: dict(c) for how, c in counts.items()},
        "wrong": wrong,
        "slowest": slowest,
        "seconds": time.perf_counter() - start,
    }


_FINE = ("refused", "equal")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--flips", type=whole, default=300, help="number of flipped bits (default: 300)")
    add("--truncations", type=whole, default=30, help="number of cut files (default: 30)")
    add("--seed", type=int, default=0, help="seed of the damage (default: 0)")
    add("--json", action="store_true", help="print the results as JSON")
    args = parser.parse_args(argv)
    rows = [measure(kind, args.flips, args.truncations, args.seed) for kind in KINDS]
    if args.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(
                f"{row['kind']:15} {row['bytes']:6} bytes  flips {row['flip']}  truncations "
                f"{row['truncation']}  slowest {1e3 * row['slowest']:.0f} ms"
            )
    return int(any(row["wrong"] for row in rows if row["kind"] not in UNCHECKED))


if __name__ == "__main__":
    sys.exit(main())
