"""How methods are written."""

from __future__ import annotations

import pytest

from omnidrop_cli.config import PruningConfig
from omnidrop_cli.errors import UsageError
from omnidrop_cli.evaluate.method_specs import parse


def test_methods() -> None:
    methods = parse(["none, omnidrop@0.3", "omnidrop@paper-20,random@0.3:a=1:b=x"], seed=7)
    assert [method.label for method in methods] == ["none", "omnidrop@0.3", "omnidrop@paper-20", "random@0.3:a=1:b=x"]
    assert [method.choice for method in methods] == [
        PruningConfig("none", seed=7),
        PruningConfig("omnidrop", keep=0.3, seed=7),
        PruningConfig("omnidrop", preset="paper-20", seed=7),
        PruningConfig("random", keep=0.3, options={"a": "1", "b": "x"}, seed=7),
    ]


@pytest.mark.parametrize(
    "text", ["", " , ", "none,none", "omnidrop@0.3,omnidrop@0.30", "@0.3", "omnidrop@", "omnidrop:beta", "omnidrop@0.3:"]
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse([text])
