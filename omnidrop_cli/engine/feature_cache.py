"""What the towers made of a clip, kept for the next question about it: in memory, and on disk under the content's hash.

Knows: how to recognise the same input to the same tower, how much may be kept, and how to write a file that is whole or absent.
Does not know: clips, prompts, how a tower runs.

The key is the tower's input itself (pixels, spectrogram) with a sample of the tower's weights, so neither a moved file, nor
another way to the same frames, nor a retrained model of the same name is ever mistaken. Losing an entry costs time, never an answer:
whatever cannot be read, written or trusted counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omnidrop_cli import fileio

FORMAT = 1
"""Part of every key: raised when the towers are run in another way."""

MEMORY_BYTES = 10**9
"""Kept in memory: a minute in the papers' layout takes 72 MB with the 7B model in bfloat16."""

DISK_BYTES = 4 * 10**9

_SAMPLES = 64
"""Numbers of every parameter that go into a tower's print: training or quantising changes all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class TowerOutput:
    """`rows` (n, d) of one tower in prompt order, and what each received of the last layer's attention, (n,) float32, where asked."""

    rows: Tensor
    attention: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self._tensors().values())

    def to(self, device: torch.device) -> TowerOutput:
        return TowerOutput(**{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        return {"rows": self.rows} if self.attention is None else {"rows": self.rows, "attention": self.attention}


class FeatureStore:
    """Outputs of the towers by key; the least recently used go first. `folder` None keeps nothing on disk."""

    def __init__(self, folder: Path | None = None, *, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES) -> None:
        self._folder = folder
        self._memory_bytes, self._disk_bytes = memory_bytes, disk_bytes
        self._memory: OrderedDict[str, TowerOutput] = OrderedDict()
        self._prints: dict[int, tuple[Any, bytes]] = {}

    def key(self, tower: Any, parts: Iterable[bytes]) -> str:
        """The name of `tower`'s output for an input that `parts` tell apart from every other."""
        digest = hashlib.sha256(self._print(tower))
        for part in parts:
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()

    def get(self, key: str, rows: int, attention: bool, device: torch.device) -> TowerOutput | None:
        """What was put under `key`, on `device`, if it has `rows` rows and, where asked, their attention."""
        found = self._memory.get(key) or self._read(key)
        if found is None or len(found.rows) != rows or (attention and found.attention is None):
            return None
        self._remember(key, found)
        return found.to(device)

    def put(self, key: str, output: TowerOutput) -> None:
        """Keep `output`. In memory it lies on the host: the device has better use for the room."""
        output = output.to(torch.device("cpu"))
        self._remember(key, output)
        self._write(key, output)

    # ------------------------------------------------------------ memory

    def _remember(self, key: str, output: TowerOutput) -> None:
        self._memory[key] = output
        self._memory.move_to_end(key)
        while sum(kept.nbytes for kept in self._memory.values()) > self._memory_bytes:
            self._memory.popitem(last=False)

    def _print(self, tower: Any) -> bytes:
        """A digest of a tower's configuration and of some numbers of all its parameters."""
        known = self._prints.get(id(tower))
        if known is None or known[0] is not tower:
            config = {name: value for name, value in tower.config.to_dict().items() if not name.startswith("_")}
            digest = hashlib.sha256(f"{FORMAT} {sorted(config.items(), key=lambda item: item[0])}".encode())
            digest.update(fingerprint(tower))
            known = self._prints[id(tower)] = (tower, digest.digest())
        return known[1]

    # ------------------------------------------------------------ disk

    def _path(self, folder: Path, key: str) -> Path:
        return folder / f"{key}.safetensors"

    def _read(self, key: str) -> TowerOutput | None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if self._folder is None:
            return None
        path = self._path(self._folder, key)
        try:
            found = TowerOutput(**load_file(path))
            os.utime(path)
        except (OSError, SafetensorError, TypeError, ValueError):
            return None
        return found

    def _write(self, key: str, output: TowerOutput) -> None:
        from safetensors.torch import save_file

        folder = self._folder
        if folder is None or output.nbytes > self._disk_bytes:
            return
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._make_room(folder, output.nbytes)
            with fileio.replacing(self._path(folder, key)) as part:
                save_file({name: tensor.contiguous() for name, tensor in output._tensors().items()}, part)

    def _make_room(self, folder: Path, needed: int) -> None:
        fileio.remove_abandoned(folder)
        finished = (path for path in folder.glob("*.safetensors") if not path.name.startswith(fileio.PART))
        kept = sorted(((s.st_mtime, s.st_size, path) for path in finished if (s := path.stat())), reverse=True)
        for _, size, path in kept:
            needed += size
            if needed > self._disk_bytes:
                path.unlink(missing_ok=True)


def fingerprint(module: nn.Module) -> bytes:
    """32 bytes that change with the weights: from the names, shapes and types of all parameters and some numbers of each."""
    named = sorted(module.named_parameters(), key=lambda item: item[0])
    sample = [p.detach().flatten()[:: max(1, p.numel() // _SAMPLES)].float() for _, p in named]
    digest = hashlib.sha256(str([(name, tuple(p.shape), p.dtype) for name, p in named]).encode())
    digest.update(torch.cat(sample).cpu().numpy().tobytes())
    return digest.digest()
