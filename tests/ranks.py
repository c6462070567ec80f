"""Ranks without MPI: each is a thread, with the part of a communicator that the package uses."""

from __future__ import annotations

import json
import pickle
import queue
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np


class Failed(Exception):
    """Another rank has failed, so that this one would wait forever."""


class Request:
    def __init__(self, world, done):
        self.world, self.done, self.is_done = world, done, False

    def Test(self):
        if not self.is_done:
            if self.world.failed.is_set():
                raise Failed
            self.is_done = self.done()
        return self.is_done


class World:
    def __init__(self, size):
        self.size, self.failed = size, threading.Event()
        self.mail = defaultdict(queue.Queue)  # (from, to) → messages
        self.arrived = 0


class Comm:
    """What mpi4py calls a communicator, seen from one rank. `sent` has the bytes of messages."""

    def __init__(self, world, rank):
        self.world, self.rank, self.sent, self.aborted = world, rank, [], None

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.world.size

    def Isend(self, buffer, dest, tag):
        self.sent.append(buffer.nbytes)
        self.world.mail[self.rank, dest].put(buffer.copy())
        return Request(self.world, lambda: True)

    def Irecv(self, buffer, source, tag):
        def done():
            try:
                buffer[:] = self.world.mail[source, self.rank].get_nowait()
            except queue.Empty:
                return False
            return True

        return Request(self.world, done)

    def bcast(self, thing):
        if self.rank == 0:
            for other in range(1, self.world.size):
                self.world.mail["bcast", other].put(pickle.dumps(thing))
            return thing
        for _ in range(1000):  # ten seconds
            try:
                return pickle.loads(self.world.mail["bcast", self.rank].get(timeout=0.01))
            except queue.Empty:
                if self.world.failed.is_set():
                    break
        raise Failed

    def Ibarrier(self):
        self.world.arrived += 1
        return Request(self.world, lambda: self.world.arrived == self.world.size)

    def Abort(self, code):
        self.aborted = code


def alone(rank=0, size=1):
    """The communicator of one rank."""
    return Comm(World(size), rank)


def on_ranks(size, work):
    """Return [work(comm)] of ranks that work at the same time, or raise what the first raised."""
    world = World(size)

    def one(rank):
        try:
            return work(Comm(world, rank))
        except BaseException:
            world.failed.set()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(one, rank) for rank in range(size)]
    errors = [future.exception() for future in futures]
    errors.sort(key=lambda error: isinstance(error, Failed))
    for error in errors:
        if error is not None:
            raise error
    return [future.result() for future in futures]


def rows(n, width=6, seed=0):
    """Return n rows of zeros and ones."""
    return np.random.default_rng([seed, 21]).integers(0, 2, (n, width)).astype(np.float32)


def results_of(folder):
    """Return the results of a run without what differs between equal runs."""
    summary = json.loads((folder / "summary.json").read_text())
    kept = {k: v for k, v in summary.items() if "seconds" not in k}
    return kept, *((folder / name).read_bytes() for name in ("model.npz", "settings.json"))
