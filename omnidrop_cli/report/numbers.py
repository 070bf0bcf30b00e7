"""Numbers as text for people: a quantity in, digits and a unit out."""

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


def clock(value: float, *, fine: bool = False) -> str:
    """A place in a clip: 65 -> "1:05", 3725 -> "1:02:05", with `fine` 65.25 -> "1:05.2"."""
    tenths = round(value * 10) if fine else round(value) * 10
    minutes, rest = divmod(tenths, 600)
    tail = f".{rest % 10}" if fine else ""
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest // 10:02d}{tail}" if hours else f"{minutes}:{rest // 10:02d}{tail}"


def seconds_span(low: float, high: float, like: float) -> str:
    """ "402-498": two durations in the unit in which `seconds` writes `like`, without the unit."""
    if like < 0.9995:
        return f"{low * 1e3:.0f}-{high * 1e3:.0f}" if like >= 0.00995 else f"{low * 1e3:.1f}-{high * 1e3:.1f}"
    if like < 99.95:
        digits = 2 if like < 9.995 else 1
        return f"{low:.{digits}f}-{high:.{digits}f}"
    return "-".join(seconds(max(value, 99.95)).removesuffix(" min") for value in (low, high))


def megabytes(value: float) -> str:
    """Of megabytes (1e6 bytes): 0.123 -> "0.12 MB", 21.5 -> "21.5 MB", 5123 -> "5.12 GB"."""
    unit, scaled = ("GB", value / 1e3) if value >= 999.5 else ("MB", value)
    digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{digits}f} {unit}"


def age(value: float) -> str:
    """A time long past, in the largest unit that leaves at least one: 7200 -> "2 hours", 90000 -> "1 day", 20 -> "just now"."""
    for unit, size in (("year", 365 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if value >= size:
            count = int(value // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "just now"


def share(value: float) -> str:
    """0.2874 -> "28.7 %", 1 -> "100 %", 0.0004 -> "0.04 %"."""
    scaled = value * 100
    if scaled >= 99.95 or scaled == 0:
        return f"{scaled:.0f} %"
    return f"{scaled:.1f} %" if scaled >= 0.95 else f"{scaled:.2f} %"


def percent(value: float) -> str:
    """`share` with two digits at most: 0.2874 -> "29 %", 0.004 -> "0.4 %"."""
    return f"{value * 100:.0f} %" if value >= 0.0095 or value == 0 else f"{value * 100:.1g} %"


def times(first: float, second: float) -> str:
    """How many times `first` is `second`: "3.98x", "12.4x", "310x"; "-" where either is not positive."""
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


def flops_short(value: float) -> str:
    """1.234e12 -> "1.23 T", for tables whose row names the quantity."""
    return flops(value).removesuffix("FLOPs").rstrip()
