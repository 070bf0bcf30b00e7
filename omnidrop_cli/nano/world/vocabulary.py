"""The vocabulary of nano's world: every picture, colour, written sign and spoken word, by its plain English name.

Each name is one token of the nano tokenizer, so a media token can be trained towards the embedding row of its name.
"""

from __future__ import annotations

from dataclasses import dataclass

OBJECTS: dict[str, str] = dict(
    pair.split(":")
    for pair in (  # noqa: SIM905
        "dog:1F415 cat:1F408 horse:1F40E cow:1F404 pig:1F416 sheep:1F411 rabbit:1F407 mouse:1F401 elephant:1F418 lion:1F981 "
        "bear:1F43B panda:1F43C monkey:1F412 frog:1F438 snake:1F40D turtle:1F422 fish:1F41F whale:1F433 shark:1F988 octopus:1F419 "
        "crab:1F980 snail:1F40C bee:1F41D butterfly:1F98B spider:1F577 bird:1F426 duck:1F986 owl:1F989 penguin:1F427 chicken:1F414 "
        "apple:1F34E banana:1F34C lemon:1F34B grapes:1F347 strawberry:1F353 cherry:1F352 pineapple:1F34D tomato:1F345 carrot:1F955 "
        "corn:1F33D mushroom:1F344 bread:1F35E cheese:1F9C0 egg:1F95A pizza:1F355 burger:1F354 cake:1F370 cookie:1F36A candy:1F36C "
        "car:1F697 bus:1F68C truck:1F69A train:1F682 bicycle:1F6B2 plane:2708 rocket:1F680 helicopter:1F681 ship:1F6A2 boat:26F5 "
        "tractor:1F69C ambulance:1F691 tree:1F333 palm:1F334 cactus:1F335 sunflower:1F33B rose:1F339 leaf:1F341 sun:2600 moon:1F319 "
        "cloud:2601 rainbow:1F308 snowflake:2744 fire:1F525 volcano:1F30B house:1F3E0 castle:1F3F0 tent:26FA key:1F511 lock:1F512 "
        "hammer:1F528 scissors:2702 umbrella:2602 clock:23F0 phone:1F4F1 camera:1F4F7 book:1F4D5 pencil:270F lamp:1F4A1 bell:1F514 "
        "guitar:1F3B8 trumpet:1F3BA violin:1F3BB drum:1F941 ball:26BD trophy:1F3C6 gift:1F381 balloon:1F388 crown:1F451 hat:1F3A9 "
        "shoe:1F45F shirt:1F455 dress:1F457 glasses:1F453 ring:1F48D heart:2764 skull:1F480 ghost:1F47B robot:1F916 alien:1F47D "
        "baby:1F476 snowman:26C4 pumpkin:1F383 anchor:2693 magnet:1F9F2 candle:1F56F chair:1FA91 door:1F6AA computer:1F4BB "
        "microscope:1F52C medal:1F3C5 flag:1F6A9"
    ).split()
)
"""Name to code point of a Noto Color Emoji."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "orange": (245, 135, 25),
    "yellow": (245, 220, 40),
    "green": (40, 165, 60),
    "blue": (35, 80, 215),
    "purple": (135, 50, 175),
    "white": (250, 250, 250),
    "black": (15, 15, 15),
}
"""Name to sRGB centre; drawings vary a little around it."""

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
DIGITS = tuple("0123456789")
SIGNS = ("exit", "open", "sale", "free", "help", "push", "pull", "news", "live", "game", "wait", "slow")
"""Short words that are drawn, never spoken."""

WORDS = tuple(
    (  # noqa: SIM905
        "river mountain window table garden summer winter morning evening doctor teacher soldier captain farmer engine money "
        "paper kitchen mirror pillow blanket ladder basket bottle copper silver thunder danger freedom wisdom history music "
        "village island desert valley ocean harbor forest tunnel station market office hotel hospital library museum theater "
        "pepper butter sugar coffee question answer monday friday october november hello welcome goodbye maybe never together"
    ).split()
)
"""Words that are spoken, never drawn: what a token names also tells its modality."""

NOTHING, SILENCE, NOISE, BEEP = "nothing", "silence", "noise", "beep"
"""Names for media tokens that show or sound of no item."""

PLACES = ("left", "right", "top", "bottom")
"""Where on the screen a thing is; a media token may carry them with the thing's name."""

MAX_NUMBER = 60
"""Largest number in an answer: a second of a clip, or a count."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can be seen. `kind` is object, shape, digit or sign; only shapes have a colour worth asking for."""

    kind: str
    name: str
    colour: str | None = None

    @property
    def text(self) -> str:
        """How questions and answers call it: "dog", "red circle", "7", "exit"."""
        return f"{self.colour} {self.name}" if self.colour else self.name

    @property
    def phrase(self) -> str:
        """How a sentence refers to it: "the dog", "the number 7", "the sign exit"."""
        prefix = {"digit": "the number ", "sign": "the sign "}.get(self.kind, "the ")
        return prefix + self.text

    @property
    def classes(self) -> tuple[str, ...]:
        """Vocabulary words a media token showing it should stand for."""
        return (self.colour, self.name) if self.colour else (self.name,)


def items() -> list[Item]:
    """Everything that can be seen: objects, shapes in every colour, digits and signs."""
    return [
        *(Item("object", name) for name in OBJECTS),
        *(Item("shape", shape, colour) for shape in SHAPES for colour in COLOURS),
        *(Item("digit", digit) for digit in DIGITS),
        *(Item("sign", sign) for sign in SIGNS),
    ]


def media_classes() -> list[str]:
    """Every word a media token may stand for, in a fixed order."""
    return [*OBJECTS, *COLOURS, *SHAPES, *DIGITS, *SIGNS, *WORDS, NOTHING, SILENCE, NOISE, BEEP, *PLACES]
