"""Frames of a timeline: emoji, shapes, digits and signs on plain, noisy and photographic-looking backgrounds. Needs Pillow.

Fonts: Noto Color Emoji (Google, SIL Open Font License 1.1) and DejaVu (Bitstream Vera licence). The same timeline gives the same frames.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from omnidrop_cli.errors import OmnidropError
from omnidrop_cli.nano.world.scenario import CELL_PX, Scenario, Show
from omnidrop_cli.nano.world.vocabulary import COLOURS, OBJECTS, Item

EMOJI_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
TEXT_FONTS = Path("/usr/share/fonts/truetype/dejavu")
FACES = ("DejaVuSans-Bold.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSans.ttf")
SPRITE_PX = 96
FRAMES_PER_S = 2

Frames = NDArray[np.uint8]


def render(timeline: Scenario, scale: int = 1, fps: int = FRAMES_PER_S) -> Frames:
    """uint8 (T, 3, H, W), `fps` frames a second; `scale` 1 is the model's own size of 28 pixels a cell."""
    rng = np.random.default_rng(timeline.look)
    height, width = (cells * CELL_PX * scale for cells in timeline.cells)
    back = background(rng, height, width, scale)
    grain = float(rng.choice([0.0, rng.uniform(1, 8)]))
    # Sprites are drawn before any frame, so that what a frame rate asks for changes no random draw.
    sprites = [_sprite(show.item, rng) for show in timeline.shows]
    sized = [_resize(sprite, show, scale) for sprite, show in zip(sprites, timeline.shows, strict=True)]
    frames = np.empty((round(timeline.duration_s * fps), 3, height, width), np.uint8)
    for number in range(len(frames)):
        now = number / fps
        picture = back.copy()
        for show, sprite in zip(timeline.shows, sized, strict=True):
            if show.start_s <= now < show.end_s:
                _paste(picture, sprite, show.centre(now))
        if grain:
            picture += np.random.default_rng([timeline.look, number]).normal(0, grain, (*picture.shape[:2], 1)).astype(np.float32)
        frames[number] = picture.clip(0, 255).astype(np.uint8).transpose(2, 0, 1)
    return frames


def _paste(picture: NDArray[np.float32], sprite: NDArray[np.float32], centre: tuple[float, float]) -> None:
    """Blend RGBA `sprite` (h, w, 4) onto (H, W, 3), cut at the frame's edge."""
    high, wide = sprite.shape[:2]
    left, top = round(centre[0] * picture.shape[1] - wide / 2), round(centre[1] * picture.shape[0] - high / 2)
    y0, y1, x0, x1 = max(0, top), min(picture.shape[0], top + high), max(0, left), min(picture.shape[1], left + wide)
    part = sprite[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = part[..., 3:] / 255
    picture[y0:y1, x0:x1] += alpha * (part[..., :3] - picture[y0:y1, x0:x1])


def _resize(sprite: Image.Image, show: Show, scale: int) -> NDArray[np.float32]:
    side = max(4, round(show.size * CELL_PX * scale))
    return np.asarray(sprite.resize((side, side), Image.Resampling.BICUBIC), np.float32)


# ---------------------------------------------------------------- things


def _sprite(item: Item, rng: np.random.Generator) -> Image.Image:
    """Square RGBA picture of an item; emoji always look the same, the rest varies in tint, face and outline."""
    if item.kind == "object":
        return _emoji(item.name)
    tint = tuple(int(np.clip(c + rng.normal(0, 10), 0, 255)) for c in COLOURS[item.colour or "white"])
    dark = sum(tint) < 380
    if item.kind == "shape":
        return _shape(item.name, tint, (235, 235, 235) if dark else (25, 25, 25))
    light = bool(rng.random() < 0.5)
    ink, paper = ((15, 15, 20), (245, 245, 240)) if light else ((250, 250, 250), tuple(int(c) for c in rng.integers(0, 90, 3)))
    return _text(item.text.upper(), FACES[int(rng.integers(len(FACES)))], ink, paper)


@lru_cache(maxsize=256)
def _emoji(name: str) -> Image.Image:
    font = _font(EMOJI_FONT, 109, "apt-get install fonts-noto-color-emoji")
    canvas = Image.new("RGBA", (136, 136))
    ImageDraw.Draw(canvas).text((0, 4), chr(int(OBJECTS[name], 16)), font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise OmnidropError(f"{EMOJI_FONT} has no picture of {name}", "use Debian's fonts-noto-color-emoji")
    return _square(canvas.crop(box))


def _square(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    square = Image.new("RGBA", (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square.resize((SPRITE_PX, SPRITE_PX), Image.Resampling.BICUBIC)


def _shape(name: str, fill: tuple[int, ...], edge: tuple[int, int, int]) -> Image.Image:
    big = SPRITE_PX * 2
    canvas = Image.new("RGBA", (big, big))
    draw = ImageDraw.Draw(canvas)
    low, high, mid = 8, big - 8, big / 2
    turn = np.arange(10) * np.pi / 5 - np.pi / 2
    reach = np.where(np.arange(10) % 2 == 0, 1.0, 0.42) * (mid - 6)
    third = big / 3
    corners: dict[str, list[tuple[float, float]]] = {
        "square": [(low, low), (high, low), (high, high), (low, high)],
        "triangle": [(mid, low), (high, high), (low, high)],
        "diamond": [(mid, 2), (high - 16, mid), (mid, big - 2), (low + 16, mid)],
        "star": [(mid + r * np.cos(t), mid + r * np.sin(t)) for r, t in zip(reach, turn, strict=True)],
        "cross": [(third, low), (2 * third, low), (2 * third, third), (high, third), (high, 2 * third), (2 * third, 2 * third),
                  (2 * third, high), (third, high), (third, 2 * third), (low, 2 * third), (low, third), (third, third)],
    }  # fmt: skip
    if name == "circle":
        draw.ellipse((low, low, high, high), fill=fill, outline=edge, width=8)
    else:
        draw.polygon(corners[name], fill=fill, outline=edge, width=8)
    return canvas.resize((SPRITE_PX, SPRITE_PX), Image.Resampling.BICUBIC)


def _text(text: str, face: str, ink: tuple[int, ...], paper: tuple[int, ...]) -> Image.Image:
    font = _font(TEXT_FONTS / face, 80 if len(text) == 1 else 40, "apt-get install fonts-dejavu-core fonts-dejavu-extra")
    left, top, right, bottom = font.getbbox(text)
    plate = Image.new("RGBA", (int(right - left) + 14, int(bottom - top) + 14), (*paper[:3], 255))
    ImageDraw.Draw(plate).text((7 - left, 7 - top), text, font=font, fill=(*ink[:3], 255))
    return _square(plate)


@lru_cache(maxsize=16)
def _font(file: Path, size: int, hint: str) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(str(file), size)
    except OSError as error:
        raise OmnidropError(f"{file}: cannot open the font ({error})", hint) from error


# ---------------------------------------------------------------- backgrounds


def background(rng: np.random.Generator, height: int, width: int, scale: int = 1) -> NDArray[np.float32]:
    """(H, W, 3): plain, a gradient, speckled, striped, or like an out-of-focus photograph (a 1/f spectrum in related colours)."""
    kind = rng.choice(["plain", "gradient", "speckle", "stripes", "photo"], p=[0.2, 0.15, 0.15, 0.1, 0.4])
    first, second = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    if kind == "plain":
        return np.full((height, width, 3), first, np.float32)
    if kind == "gradient":
        return np.asarray(first + (along - along.min())[..., None] * (second - first), np.float32)
    if kind == "stripes":
        wave = 0.5 + 0.5 * np.sin(along * rng.uniform(15, 60))
        return np.asarray(first + 0.5 * wave[..., None] * (second - first), np.float32)
    slope = 0.0 if kind == "speckle" else float(rng.uniform(0.9, 1.6))
    # The field is drawn at the model's size and enlarged, so that a clip looks the same at every scale.
    field = _fractal(rng, height // scale, width // scale, slope)
    field = field.repeat(scale, 0).repeat(scale, 1) if kind == "speckle" else _enlarge(field, height, width)
    amount = float(rng.uniform(10, 30)) if kind == "speckle" else float(rng.uniform(25, 60))
    mix = rng.normal(size=(3, 3)) * 0.35 + np.array([1.0, 0.9, 0.7])[:, None] / 3
    return np.asarray(first * 0.7 + 35 + amount * field @ mix.T, np.float32)


def _fractal(rng: np.random.Generator, height: int, width: int, slope: float) -> NDArray[np.float64]:
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** -slope
    layers = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) * radius, (height, width)) for _ in range(3)]
    return np.stack([(layer - layer.mean()) / (layer.std() + 1e-9) for layer in layers], -1)


def _enlarge(field: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    planes = [Image.fromarray(field[..., c].astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
    return np.stack([np.asarray(plane, np.float64) for plane in planes], -1)
