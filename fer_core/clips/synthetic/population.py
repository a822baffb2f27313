"""Random subjects and clips: all random choices are made here, except textures and sensor noise.

Each subject, and each clip of a subject, has its own random stream: subject k of seed s is the same person for any
number of subjects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from fer_core.clips.synthetic.identity import Identity
from fer_core.clips.synthetic.rendering import Pose, Scene
from fer_core.clips.synthetic.units import HABITS, PROTOTYPES, ROW, UNITS
from fer_core.emotions import SIX, Emotion

_SKINS = ((238, 200, 182), (226, 180, 152), (205, 156, 124), (172, 120, 88), (132, 88, 64), (98, 65, 48))
_HAIRS = ((28, 22, 20), (48, 34, 26), (82, 56, 38), (120, 86, 54), (168, 130, 84), (140, 66, 36), (150, 148, 146))
_IRISES = ((58, 36, 22), (84, 54, 30), (98, 84, 50), (84, 104, 84), (92, 122, 146), (112, 130, 138))
_SIZES = ((256, 256), (288, 256), (272, 272), (320, 256), (288, 288), (320, 304))
_STYLES = ("short", "parted", "fringe", "long", "buzz", "curly", "receding", "bald")
_STYLE_ODDS = (0.24, 0.17, 0.12, 0.19, 0.09, 0.1, 0.05, 0.04)

FAINT_SHARE = 1 / 8
MIXED_SHARE = 1 / 20


@dataclass(frozen=True)
class Person:
    """A subject: face, surroundings, and strength of each muscle.

    Args:
        identity: parameters of the face.
        scene: camera, light and surroundings.
        gains: (2, units) factor of each action unit in this person, image left and right.
        rest: (2, units) strengths at rest, because no resting face is quite neutral.
    """

    identity: Identity
    scene: Scene
    gains: np.ndarray
    rest: np.ndarray


@dataclass(frozen=True)
class Script:
    """The course of a clip, frame by frame, from neutral to the apex in the last frame.

    Args:
        units: (n, 2, units) strengths of the action units.
        poses: n head poses.
        gaze: (n, 2) where the pupils look, face units.
        blink: (n,) 0 open .. 1 shut.
        noise_seed: seed of the sensor noise.
    """

    units: np.ndarray
    poses: tuple[Pose, ...]
    gaze: np.ndarray
    blink: np.ndarray
    noise_seed: int

    def __len__(self) -> int:
        return len(self.poses)


def draw_person(seed: int, subject: int) -> Person:
    """Return the person who is subject number `subject`."""
    rng = np.random.default_rng([seed, subject])
    identity = _draw_identity(rng)
    scene = _draw_scene(rng, identity)
    gains = np.exp(rng.normal(0, 0.2, len(UNITS))) * np.exp(rng.normal(0, 0.07, (2, len(UNITS))))
    rest = np.clip(rng.normal(0, 0.09, len(UNITS)), 0, 0.22) * np.ones((2, 1))
    for unit in (25, 26, 5, 20, 9, 16):
        rest[:, ROW[unit]] *= 0.3
    return Person(identity, scene, gains, rest)


def relit(person: Person, skin: tuple[int, int, int], light: float) -> Person:
    """Return the same person with another skin colour and another strength of light; nothing else changes.

    Args:
        skin: sRGB, 0 ... 255.
        light: factor of all light in the scene.
    """
    identity, scene = person.identity, person.scene
    ratio = _linear(skin) / np.array(identity.skin)
    lights = {name: getattr(scene, name) * light for name in ("key", "fill", "sky", "backdrop")}
    return replace(
        person,
        identity=replace(identity, skin=_triple(identity.skin * ratio), lip=_triple(identity.lip * ratio)),
        scene=replace(scene, **lights),
    )


def draw_script(seed: int, subject: int, emotion: Emotion, person: Person) -> Script:
    """Return the script of the subject's clip that shows `emotion`."""
    rng = np.random.default_rng([seed, subject, 1 + SIX.index(emotion)])
    n = int(rng.integers(12, 25))
    target = _draw_target(rng, emotion) * person.gains
    lopsided = 1 + rng.normal(0, 0.08) * np.array([[-1.0], [1.0]])
    target = np.clip(target * lopsided, 0, 1.35)

    lag = np.clip(rng.normal(0, 0.06, len(UNITS)), -0.1, 0.1)
    time = np.linspace(0, 1, n)[:, None]
    start, rise = rng.uniform(0.08, 0.2), rng.uniform(0.42, 0.62)
    ramp = _smooth((time - start - lag) / rise)
    ramp = 0.93 * ramp + 0.07 * time  # still rising, so that the last frame is the apex
    tremor = 1 - 0.03 * np.abs(_drift(rng, n, len(UNITS), 3)) * (time < 0.9)
    units = person.rest + (target - person.rest * (target > 0))[None] * (ramp * tremor)[:, None, :]

    wander = _drift(rng, n, 6, 2) * np.array([0.05, 0.035, 0.035, 0.03, 0.025, 0.012])
    home = rng.normal(0, 1, 6) * np.array([0.09, 0.05, 0.045, 0.03, 0.03, 0.02])
    moves = np.clip(home + wander, [-0.22, -0.12, -0.12, -0.1, -0.1, -0.06], [0.22, 0.12, 0.12, 0.1, 0.1, 0.06])
    nod = {Emotion.SADNESS: 0.05, Emotion.SURPRISE: -0.03, Emotion.FEAR: -0.02, Emotion.ANGER: 0.03}.get(emotion, 0.0)
    moves[:, 1] += nod * rng.uniform(0, 1.2) * time[:, 0]
    poses = tuple(Pose(yaw, pitch, roll, dx, dy, 1 + zoom) for yaw, pitch, roll, dx, dy, zoom in moves)

    gaze = rng.normal(0, 1, 2) * (0.018, 0.008) + _drift(rng, n, 2, 2) * (0.008, 0.004)
    blink = np.zeros(n)
    if rng.random() < 0.35:
        at = rng.uniform(3, n - 4)  # never in the first or the last frame
        blink = np.clip(1.25 - np.abs(np.arange(n) - at) / 1.6, 0, 1)
    return Script(np.clip(units, 0, 1.4), poses, gaze, blink, int(rng.integers(2**31)))


def _draw_target(rng: np.random.Generator, emotion: Emotion) -> np.ndarray:
    """Return the strengths at the apex, (units,): prototype, habits and intensity; some mixed with a second emotion."""
    target = _blend(rng, emotion)
    strength = rng.uniform(0.75, 1.15)
    if rng.random() < FAINT_SHARE:
        strength = rng.uniform(0.28, 0.5)
    if rng.random() < MIXED_SHARE:
        other = rng.choice([e for e in SIX if e is not emotion])
        target = np.maximum(0.65 * target, 0.55 * _blend(rng, Emotion(other)))
    return target * strength


def _blend(rng: np.random.Generator, emotion: Emotion) -> np.ndarray:
    target = np.zeros(len(UNITS))
    for unit, amount in PROTOTYPES[emotion].items():
        target[ROW[unit]] = amount * np.clip(rng.normal(1, 0.2), 0.35, 1.5)
    for unit, odds, amount in HABITS[emotion]:
        if rng.random() < odds:
            target[ROW[unit]] = max(target[ROW[unit]], amount * rng.uniform(0.6, 1.2))
    return target


def _draw_identity(rng: np.random.Generator) -> Identity:
    def around(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.normal(), -2, 2))

    tone = rng.uniform(0, 1) ** 1.3
    skin = _between(_SKINS, tone) * np.exp(rng.normal(0, 0.02, 3))
    hair = _between(_HAIRS[:3], rng.uniform(0, 1)) if tone > 0.5 else _linear(_HAIRS[rng.integers(len(_HAIRS))])
    iris = _between(_IRISES[:2], rng.uniform(0, 1)) if tone > 0.5 else _linear(_IRISES[rng.integers(len(_IRISES))])
    lip = skin * np.array([0.86, 0.5, 0.52]) * np.exp(rng.normal(0, 0.08, 3)) * rng.uniform(0.8, 1.0)
    style = str(rng.choice(_STYLES, p=_STYLE_ODDS))
    female = rng.random() < (0.85 if style in ("long", "fringe") else 0.3)
    long_hair = style in ("long",) or (female and style in ("fringe", "parted", "curly"))
    return Identity(
        seed=int(rng.integers(2**31)),
        cheek=around(1.0, 0.03),
        jaw=around(0.76 if female else 0.82, 0.035),
        chin_y=around(1.6 if female else 1.66, 0.05),
        chin_square=around(3.6 if female else 4.4, 0.5),
        skull_top=around(-1.5, 0.05),
        eye_x=around(0.44, 0.018),
        eye_half=around(0.225, 0.01),
        eye_tilt=around(0.06, 0.05),
        lid_up=around(0.088, 0.007),
        lid_low=around(0.058, 0.005),
        crease=max(0.02, around(0.05, 0.016)),
        brow_y=around(-0.31 if female else -0.28, 0.025),
        brow_arch=around(0.075 if female else 0.05, 0.018),
        brow_slant=around(0.0, 0.025),
        brow_thick=around(0.03 if female else 0.042, 0.007),
        brow_dark=float(rng.uniform(0.3, 1)),
        ridge=around(0.035 if female else 0.065, 0.012),
        nose_tip=around(0.52, 0.04),
        nose_half=around(0.225 + 0.03 * tone, 0.02),
        nose_high=around(0.3, 0.03),
        mouth_y=around(0.96, 0.035),
        mouth_half=around(0.355, 0.022),
        lip_up=around(0.085 + 0.03 * tone, 0.014),
        lip_low=around(0.115 + 0.035 * tone, 0.016),
        cheekbone=around(0.07, 0.02),
        age=float(rng.beta(1.6, 2.2)),
        stubble=0.0 if female else float(rng.uniform(0, 0.3) * (rng.random() < 0.7)),
        freckles=float(rng.uniform(0, 0.35) * (tone < 0.35)),
        lash=float(rng.uniform(0.5, 1.0) if female else rng.uniform(0, 0.45)),
        skin=_triple(skin),
        lip=_triple(lip),
        iris=_triple(iris * 1.15),
        hair=_triple(hair),
        hair_style=style,
        hairline=around(-1.0, 0.06) - (0.25 if style == "receding" else 0.0),
        hair_volume={"buzz": 0.04, "bald": 0.01, "curly": 0.26, "receding": 0.06}.get(style, around(0.14, 0.03)),
        hair_length=float(rng.uniform(0.9, 2.2)) if long_hair else 0.05,
    )


def _draw_scene(rng: np.random.Generator, identity: Identity) -> Scene:
    width, height = _SIZES[rng.integers(len(_SIZES))]
    ppu = height * rng.uniform(0.225, 0.255)
    centre = (width * rng.uniform(0.46, 0.54), height * rng.uniform(0.43, 0.48))
    azimuth, elevation = rng.uniform(-0.95, 0.95), rng.uniform(0.25, 0.9)
    light = np.array(
        [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], np.float32
    )
    key, fill, sky = float(rng.uniform(0.75, 1.2)), float(rng.uniform(0.05, 0.2)), float(rng.uniform(0.28, 0.5))
    # automatic exposure makes up for part of the darkness of dark skin
    exposure = float(0.62 * (0.45 / np.mean(identity.skin)) ** 0.38 * rng.uniform(0.85, 1.12))
    warm = rng.normal(0, 0.05)
    return Scene(
        width=width,
        height=height,
        ppu=ppu,
        centre=centre,
        light=light,
        key=key * exposure,
        fill=fill * exposure,
        sky=sky * exposure,
        warmth=np.array([1.04 + warm, 1.0, 0.94 - warm], np.float32),
        backdrop=_draw_backdrop(rng, width, height),
        cloth=(_linear(rng.integers(25, 200, 3)) * 0.8).astype(np.float32),
        grain=rng.uniform(1.0, 4.0),
        blur=rng.uniform(0.0, 0.7),
    )


def _draw_backdrop(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return a wall with a gradient and some blurred furniture, (height, width, 3) float32 linear RGB."""
    a, b = (_linear(rng.integers(40, 215, 3) * 0.5 + rng.integers(30, 110)) for _ in range(2))
    slope = np.linspace(0, 1, width)[None, :] * rng.uniform(-1, 1) + np.linspace(0, 1, height)[:, None]
    slope = (slope - slope.min()) / np.ptp(slope)
    wall = (a + (b - a) * slope[..., None]).astype(np.float32)
    for _ in range(int(rng.integers(0, 6))):
        corner = rng.integers((0, 0), (width, height))
        size = rng.integers(15, 90, 2)
        colour = _linear(rng.integers(20, 230, 3)) * 0.7
        cv2.rectangle(wall, corner.tolist(), (corner + size).tolist(), colour.tolist(), -1)
    return cv2.GaussianBlur(wall, (0, 0), float(rng.uniform(2, 7)))


def _drift(rng: np.random.Generator, n: int, channels: int, knots: int) -> np.ndarray:
    """Return smooth random curves about 0 of standard deviation about 1, (n, channels)."""
    points = rng.normal(0, 1, (knots + 2, channels))
    at = np.linspace(0, knots + 1, n)
    low = np.minimum(at.astype(int), knots)
    part = _smooth(at - low)[:, None]
    return points[low] * (1 - part) + points[low + 1] * part


def _smooth(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _linear(srgb: np.ndarray | tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(srgb, np.float64) / 255) ** 2  # gamma 2: rendering takes the square root


def _between(palette: tuple[tuple[int, int, int], ...], at: float) -> np.ndarray:
    place = at * (len(palette) - 1)
    low = min(int(place), len(palette) - 2)
    return _linear(palette[low]) + (_linear(palette[low + 1]) - _linear(palette[low])) * (place - low)


def _triple(colour: np.ndarray) -> tuple[float, float, float]:
    r, g, b = np.clip(colour, 0.004, 0.95)
    return float(r), float(g), float(b)
