"""Several processes at one fit, each on a device of its own: every one computes a share of each optimizer batch.

All hold the whole model and the whole plan, and do the same except for their share; their gradients are added up, so
that all take the same step and stay equal. The first is the one that writes. The processes are children of the one that
calls, on this machine alone: they speak over the loopback, by gloo on processors and by NCCL on CUDA. One that dies
takes the others with it, and the fit goes on from its checkpoint.

Tried on processors only; CUDA is written by torch's documentation.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn

from koboshi_tools import KoboshiError, UsageError

from .batches import MicroBatch, OptimizerBatch, micro_batches
from .rows import TokenRow

_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_PATIENCE = timedelta(hours=1)
_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Team:
    """The place of this process in a fit: `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process leaves files and tells progress."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """Return the device of this process, where `device` is that of the fit: of several CUDA devices its own."""
        if self.size == 1 or device.type != "cuda":
            return device
        return torch.device("cuda", self.rank)

    def share(self, batch: OptimizerBatch, max_tokens: int) -> Sequence[MicroBatch]:
        """Return what this process computes of an optimizer batch: all shares together are the batch, each row once."""
        if self.size == 1:
            return batch
        rows = [row for micro in batch for row, own in zip(micro.rows, micro.own, strict=True) if own]
        shares: list[list[TokenRow]] = [[] for _ in range(self.size)]
        loads = [0] * self.size
        for row in sorted(rows, key=_cost, reverse=True):
            least = loads.index(min(loads))
            shares[least].append(row)
            loads[least] += _cost(row)
        return micro_batches(shares[self.rank], max_tokens=max_tokens)

    def follow(self, choice: bool) -> bool:
        """Return what the first process chose."""
        (chosen,) = self.add_up([], [float(choice and self.writes)])
        return chosen > 0

    def add_up(self, parameters: Iterable[nn.Parameter], values: Sequence[float]) -> list[float]:
        """Add the gradients of all processes up in place, and return the sums of `values`."""
        if self.size == 1:
            return list(values)
        wanted = list(parameters)
        grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in wanted]
        whole = torch.cat([*(grad.flatten() for grad in grads), torch.tensor(values)])
        dist.all_reduce(whole)
        parts = torch.split(whole, [grad.numel() for grad in grads] + [len(values)])
        for parameter, part in zip(wanted, parts, strict=False):
            parameter.grad = part.view_as(parameter)
        found: list[float] = parts[-1].tolist()
        return found


ALONE = Team()


@contextmanager
def team_of(size: int, work: Callable[[Team], object]) -> Iterator[Team]:
    """Start `size` - 1 processes that do `work` beside this one, and yield the place of this one.

    `work` is pickled. Raises UsageError for more processes than there are CUDA devices, if any, KoboshiError if one of
    them dies; Ctrl-C and any error here end them all.
    """
    if size == 1:
        yield ALONE
        return
    devices = torch.cuda.device_count()
    if 0 < devices < size:
        raise UsageError(f"there are {devices} CUDA devices for {size} processes", hint=f"Set processes to {devices}.")
    os.environ.update(GLOO_SOCKET_IFNAME=_LOOPBACK, NCCL_SOCKET_IFNAME=_LOOPBACK)
    with tempfile.TemporaryDirectory(prefix="koboshi-team-") as folder:
        meeting = Path(folder) / "meeting"
        spawning = multiprocessing.get_context("spawn")
        places = [Team(rank, size) for rank in range(1, size)]
        members = [spawning.Process(target=_member, args=(place, meeting, work), daemon=True) for place in places]
        for member in members:
            member.start()
        try:
            _join(Team(0, size), meeting)
            yield Team(0, size)
            # The others hear of the end before the connections go.
            dist.barrier()
        except RuntimeError as error:
            raise KoboshiError(
                f"a process of the fit died: {_codes(members) or str(error).splitlines()[0]}",
                hint="Run the same command again: it goes on from the last checkpoint.",
            ) from error
        finally:
            _leave()
            _end(members)


def _member(place: Team, meeting: Path, work: Callable[[Team], object]) -> None:
    # Whoever called ends it; Ctrl-C would give a second trace.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _join(place, meeting)
    try:
        work(place)
        dist.barrier()
    finally:
        _leave()


def _join(place: Team, meeting: Path) -> None:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    threads = max(1, torch.get_num_threads() // place.size)
    torch.set_num_threads(threads)
    dist.init_process_group(
        backend, init_method=meeting.as_uri(), rank=place.rank, world_size=place.size, timeout=_PATIENCE
    )


def _leave() -> None:
    # A group whose connections are gone cannot be left in order.
    with suppress(RuntimeError, AssertionError, ValueError):
        dist.destroy_process_group()


def _end(members: Sequence[BaseProcess]) -> None:
    for member in members:
        member.join(_END_S)
        if member.is_alive():
            member.kill()
            member.join()


def _codes(members: Sequence[BaseProcess]) -> str:
    ended = [f"{member.name} ended with {member.exitcode}" for member in members if member.exitcode]
    return ", ".join(ended)


def _cost(row: TokenRow) -> int:
    return len(row.ids) + (0 if row.twin is None else len(row.twin.ids))
