"""Encoder outputs of clips, kept in memory and on disk for the next question about the same input.

The key is the encoder's input itself (pixels, spectrogram) with a sample of its weights, so neither a moved file, nor another way to
the same frames, nor a retrained model of the same name is mistaken for another. Losing an entry costs time, never an answer: whatever
cannot be read or written, or is not what the encoder would give, counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omnidrop_cli import fileio

FORMAT = 1
"""Part of every key: raised when the encoders are run in another way."""

MEMORY_BYTES = 10**9
"""Kept in memory: a minute in the papers' layout takes 72 MB with the 7B model in bfloat16."""

DISK_BYTES = 4 * 10**9

_SAMPLES = 64
"""Numbers of every parameter that go into an encoder's fingerprint: training or quantising changes all of them."""


@dataclass(frozen=True, slots=True)
class FeatureShape:
    """What an encoder's output must be: `rows` tokens of `width` values in `dtype`, and which attention received is wanted."""

    rows: int
    width: int
    dtype: torch.dtype
    attention: bool = False
    clip_attention: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class EncoderOutput:
    """Output of one encoder for one clip.

    Attributes:
        rows: (n, d) embeddings in prompt order.
        attention: (n,) float32 attention that each token received in the last layer, inside the encoder's windows, where asked for.
        clip_attention: the same with queries and keys of the whole clip (audio only).
    """

    rows: Tensor
    attention: Tensor | None = None
    clip_attention: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    def to(self, device: torch.device) -> EncoderOutput:
        return EncoderOutput(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        named = {"rows": self.rows, "attention": self.attention, "clip_attention": self.clip_attention}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def fits(self, shape: FeatureShape) -> bool:
        """Whether this is an output of `shape`, as far as sizes and types say."""
        if tuple(self.rows.shape) != (shape.rows, shape.width) or self.rows.dtype != shape.dtype:
            return False
        return all(
            not asked if attention is None else attention.shape == (shape.rows,) and attention.dtype == torch.float32
            for attention, asked in ((self.attention, shape.attention), (self.clip_attention, shape.clip_attention))
        )

    def is_finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in self.tensors().values())


class FeatureStore:
    """Outputs of the encoders by key; the least recently used go first.

    Outputs are copied to the host and written behind: the answer does not wait for either. An interpreter that ends joins the thread
    that does; a process that ends by `os._exit` calls `wait_for_all` first.
    """

    def __init__(self, folder: Path | None = None, *, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES) -> None:
        """`folder` None keeps nothing on disk."""
        self._folder = folder
        self._memory_bytes, self._disk_bytes = memory_bytes, disk_bytes
        self._memory: OrderedDict[str, EncoderOutput] = OrderedDict()
        self._lock = threading.Lock()
        self._fingerprints: dict[int, tuple[Any, bytes]] = {}
        self._writer: ThreadPoolExecutor | None = None
        self._writes: list[Future[None]] = []
        _stores.add(self)

    def key(self, encoder: Any, parts: Iterable[bytes]) -> str:
        """The name of `encoder`'s output for an input that `parts` tell apart from every other."""
        digest = hashlib.sha256(self._fingerprint(encoder))
        for part in parts:
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()

    def get(self, key: str, shape: FeatureShape, device: torch.device) -> EncoderOutput | None:
        """What was put under `key`, on `device`; None where there is nothing or it is not of `shape`."""
        found = self._memory.get(key)
        if found is None or not found.fits(shape):
            found = self._read(key)
        if found is None or not found.fits(shape):
            return None
        self._remember(key, found)
        return found.to(device)

    def put(self, key: str, output: EncoderOutput) -> None:
        """Keep `output`, in memory on the host: the device's memory is needed for the answer. Values that are not finite are not kept."""
        if not output.is_finite():
            return
        self._remember(key, output)
        folder = self._folder if output.nbytes <= self._disk_bytes else None
        if folder is None and not (output.rows.is_cuda and key in self._memory):
            return  # nothing to write, and nothing kept that has to leave the device
        self.wait(unfinished=1)
        self._writer = self._writer or ThreadPoolExecutor(max_workers=1, thread_name_prefix="features")
        ready = None
        if output.rows.is_cuda:
            ready = torch.cuda.Event()
            ready.record()
        self._writes.append(self._writer.submit(self._keep, folder, key, output, ready))

    def _keep(self, folder: Path | None, key: str, output: EncoderOutput, ready: torch.cuda.Event | None) -> None:
        """Replace what is remembered under `key` by a copy on the host, and write it to `folder`; `ready` says when the device has it."""
        with contextlib.suppress(RuntimeError, MemoryError):  # without memory for a copy the entry is lost, the answer is not
            if ready is not None:
                output = self._copied(key, output, ready)
            if folder is not None:
                self._write(folder, key, output)

    def _copied(self, key: str, output: EncoderOutput, ready: torch.cuda.Event) -> EncoderOutput:
        with torch.cuda.stream(torch.cuda.Stream(output.rows.device)):  # the prefill goes on in the other one meanwhile
            torch.cuda.current_stream().wait_event(ready)
            copied = output.to(torch.device("cpu"))
        with self._lock:
            if self._memory.get(key) is output:
                self._memory[key] = copied
        return copied

    def wait(self, unfinished: int = 0) -> None:
        """Wait until at most `unfinished` outputs are still to be copied and written: each is held in memory."""
        self._writes = [write for write in self._writes if not write.done()]
        while len(self._writes) > unfinished:
            self._writes.pop(0).result()

    def close(self) -> None:
        """Wait for everything, and end the thread; the next `put` starts another."""
        self.wait()
        if self._writer is not None:
            self._writer.shutdown()
            self._writer = None

    # ------------------------------------------------------------ memory

    def _remember(self, key: str, output: EncoderOutput) -> None:
        with self._lock:
            self._memory[key] = output
            self._memory.move_to_end(key)
            while sum(kept.nbytes for kept in self._memory.values()) > self._memory_bytes:
                self._memory.popitem(last=False)

    def _fingerprint(self, encoder: Any) -> bytes:
        """A digest of an encoder's configuration and of some numbers of all its parameters."""
        known = self._fingerprints.get(id(encoder))
        if known is None or known[0] is not encoder:
            config = {name: value for name, value in encoder.config.to_dict().items() if not name.startswith("_")}
            digest = hashlib.sha256(f"{FORMAT} {sorted(config.items(), key=lambda item: item[0])}".encode())
            digest.update(fingerprint(encoder))
            known = self._fingerprints[id(encoder)] = (encoder, digest.digest())
        return known[1]

    # ------------------------------------------------------------ disk

    def _path(self, folder: Path, key: str) -> Path:
        return folder / f"{key}.safetensors"

    def _read(self, key: str) -> EncoderOutput | None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if self._folder is None:
            return None
        path = self._path(self._folder, key)
        try:
            found = EncoderOutput(**load_file(path))
            os.utime(path)
        except (OSError, SafetensorError, TypeError, ValueError):
            return None
        return found if found.is_finite() else None

    def _write(self, folder: Path, key: str, output: EncoderOutput) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        with contextlib.suppress(OSError, SafetensorError):  # a full disk is either
            folder.mkdir(parents=True, exist_ok=True)
            self._evict(folder, output.nbytes)
            with fileio.replacing(self._path(folder, key)) as part:
                save_file({name: tensor.contiguous() for name, tensor in output.tensors().items()}, part)

    def _evict(self, folder: Path, needed: int) -> None:
        fileio.remove_abandoned(folder)
        finished = (path for path in folder.glob("*.safetensors") if not path.name.startswith(fileio.PART))
        kept = sorted(((s.st_mtime, s.st_size, path) for path in finished if (s := path.stat())), reverse=True)
        for _, size, path in kept:
            needed += size
            if needed > self._disk_bytes:
                path.unlink(missing_ok=True)


_stores: weakref.WeakSet[FeatureStore] = weakref.WeakSet()


def wait_for_all() -> None:
    """Wait until every store of this process has written its files, and end the threads that did."""
    for store in [*_stores]:
        store.close()


def fingerprint(module: nn.Module) -> bytes:
    """32 bytes that change with the weights: from the names, shapes and types of all parameters and some numbers of each."""
    named = sorted(module.named_parameters(), key=lambda item: item[0])
    sample = [p.detach().flatten()[:: max(1, p.numel() // _SAMPLES)].float() for _, p in named]
    digest = hashlib.sha256(str([(name, tuple(p.shape), p.dtype) for name, p in named]).encode())
    digest.update(torch.cat(sample).cpu().numpy().tobytes())
    return digest.digest()
