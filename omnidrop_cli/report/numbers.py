"""Numbers as people read them.

Knows: how many digits a quantity deserves. Does not know records or tables.
"""

from __future__ import annotations


def seconds(value: float) -> str:
    """0.0042 -> "4.2 ms", 0.42 -> "420 ms", 1.5 -> "1.50 s", 12.34 -> "12.3 s", 754 -> "12:34 min"."""
    if value < 0.0005:
        return "0 s"
    if value < 0.00995:
        return f"{value * 1e3:.1f} ms"
    if value < 0.9995:
        return f"{value * 1e3:.0f} ms"
    if value < 9.995:
        return f"{value:.2f} s"
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}:{rest:02d} min"


def megabytes(value: float) -> str:
    """Of megabytes (1e6 bytes): 0.123 -> "0.12 MB", 21.5 -> "21.5 MB", 5123 -> "5.12 GB"."""
    unit, scaled = ("GB", value / 1e3) if value >= 999.5 else ("MB", value)
    digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{digits}f} {unit}"


def share(value: float) -> str:
    """0.2874 -> "28.7 %", 1 -> "100 %", 0.0004 -> "0.04 %"."""
    percent = value * 100
    if percent >= 99.95 or percent == 0:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.95 else f"{percent:.2f} %"


def times(first: float, second: float) -> str:
    """How many times `first` is `second`: "3.98x", "12.4x", "310x"; "-" where nothing can be said."""
    if first <= 0 or second <= 0:
        return "-"
    ratio = first / second
    return f"{ratio:.{2 if ratio < 9.995 else 1 if ratio < 99.95 else 0}f}x"


def flops(value: float) -> str:
    """1.234e12 -> "1.23 TFLOPs"."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            return f"{value / size:.3g} {unit}FLOPs"
    return f"{value:.0f} FLOPs"
