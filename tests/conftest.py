"""What every test gets: a home of its own, no settings from outside, few threads, and real clips on demand."""

from __future__ import annotations

import os
import shutil
import signal
from importlib.util import find_spec

import pytest

# Set before torch is imported: the suite shares small machines, and thread pools on tiny tensors only cost time.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton's own interpreter runs its kernels on the CPU

from tests.clips import Clips

_XDG = {
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "XDG_STATE_HOME": ".local/state",
}


def pytest_configure() -> None:
    """Property tests have no time limit: a busy machine is no failure.

    A shell starts background jobs with Ctrl-C ignored, and so would be every process the tests interrupt.
    """
    if find_spec("hypothesis"):  # the tests of a GPU and of the lowest versions need none
        from hypothesis import HealthCheck, settings

        settings.register_profile("omnidrop", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
        settings.load_profile("omnidrop")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """`clips["speech_video"]` is the path of a real clip; the names are the keys of `tests.clips.RECIPES`."""
    return Clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(autouse=True)
def _isolated_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's home, caches or settings."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for variable, folder in _XDG.items():
        monkeypatch.setenv(variable, str(home / folder))
    for variable in [name for name in os.environ if name.startswith("OMNIDROP_")]:
        monkeypatch.delenv(variable)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, so that a mistake shows early; tests of the GPU are skipped where there is none."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
    wanting = [item for item in items if item.get_closest_marker("gpu") is not None]
    if wanting:
        import torch

        if not torch.cuda.is_available():
            for item in wanting:
                item.add_marker(pytest.mark.skip(reason="needs CUDA"))
