"""A block in which transformers and bitsandbytes build, read or write a model: silent, and one thread at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_turn = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers and bitsandbytes; transformers is as before afterwards. Other threads wait.

    While it loads a model, transformers replaces functions of the process (`PreTrainedModel.tie_weights`, `torch.linspace`, the default
    dtype) and puts back what it found. Of two loads at once the later one finds the replacement of the other and leaves it for good:
    after that a tied output matrix is reported as missing. Verbosity is the process's own as well.

    bitsandbytes stays at errors: it warns again at every product of a quantised layer.
    """
    from transformers.utils import logging as transformers_logging

    with _turn:
        verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        try:
            yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            if bars:
                transformers_logging.enable_progress_bar()
