"""Render one frame: move the face, light it, turn the head, project it to the camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fer_core.clips.synthetic.anatomy import Anatomy
from fer_core.clips.synthetic.features import Canvas, draw_eye, draw_mouth
from fer_core.clips.synthetic.identity import WINDOW, Identity

_NECK = 1.5  # point about which the head turns, face units below the eyes


@dataclass(frozen=True)
class Scene:
    """Camera, light and surroundings of a subject.

    Args:
        width, height: frame size, pixels, even.
        ppu: pixels per face unit.
        centre: (x, y) of the point between the eyes, pixels.
        light: unit vector to the key light (x right, y down, z to the camera).
        key, fill, sky: strengths of key light, its opposite, and the ambient light from above.
        warmth: colour of the key light, linear RGB.
        backdrop: (height, width, 3) linear RGB, without the person.
        cloth: clothing colour, linear RGB.
        grain: sensor noise, standard deviation in grey levels.
        blur: lens blur, pixels.
    """

    width: int
    height: int
    ppu: float
    centre: tuple[float, float]
    light: np.ndarray
    key: float
    fill: float
    sky: float
    warmth: np.ndarray
    backdrop: np.ndarray
    cloth: np.ndarray
    grain: float
    blur: float


@dataclass(frozen=True)
class Pose:
    """Head pose: angles in radians (yaw to image right, pitch down, roll clockwise), shift in face units, zoom."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    dx: float = 0.0
    dy: float = 0.0
    zoom: float = 1.0


def seen_at(points: np.ndarray, scene: Scene, pose: Pose) -> np.ndarray:
    """Return the pixel positions, (n, 2), of points of a face at rest, (n, 2) in face units.

    Yaw, pitch and muscles are ignored; they move the points by a few hundredths of the face.
    """
    cos, sin = np.cos(pose.roll) * pose.zoom, np.sin(pose.roll) * pose.zoom
    x, y = points[:, 0], points[:, 1] - _NECK
    turned = np.stack([cos * x - sin * y + pose.dx, sin * x + cos * y + pose.dy + _NECK], axis=1)
    return np.asarray(turned * scene.ppu + scene.centre)


class Portrait:
    """A subject before the camera: everything that is the same in all frames."""

    def __init__(self, identity: Identity, anatomy: Anatomy, scene: Scene) -> None:
        self.identity, self.anatomy, self.scene = identity, anatomy, scene
        self._body = _draw_body(identity, scene)
        h, w = scene.height, scene.width
        xs, ys = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
        self._x = (xs - np.float32(scene.centre[0])) / np.float32(scene.ppu)
        self._y = (ys - np.float32(scene.centre[1])) / np.float32(scene.ppu)

    def frame(
        self, units: np.ndarray, pose: Pose, gaze: tuple[float, float], blink: float, noise: np.ndarray
    ) -> np.ndarray:
        """Return one frame, (height, width, 3) uint8 RGB.

        Args:
            units: (2, units) strengths of the action units, image left and right, about 0..1.
            pose: head pose.
            gaze: where the pupils look, face units right and down.
            blink: 0 open .. 1 shut.
            noise: (height, width, 3) float32 standard normal.
        """
        turn = _rotation(pose)
        light = turn.T @ self.scene.light
        canvas, cover = self._move(units)
        i = self.identity
        for side in (0, 1):
            draw_eye(canvas, i, 2 * side - 1, units[side], gaze, blink, self.scene.light)
        draw_mouth(canvas, i, units)
        self._comb(canvas)
        lit = self._light(canvas, light.astype(np.float32), turn.T.astype(np.float32))
        seen = self._look(np.dstack([lit, cover]), canvas.z, pose)
        linear = self._body + (seen[..., :3] - self._body) * seen[..., 3:]
        if self.scene.blur > 0:
            linear = cv2.GaussianBlur(linear, (0, 0), self.scene.blur)
        picture = cv2.sqrt(np.clip(linear, 0, 1)) * 255 + noise * self.scene.grain
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def _move(self, units: np.ndarray) -> tuple[Canvas, np.ndarray]:
        """Return the canvas with the skin moved by the muscles, and the coverage of the head, (h, w)."""
        a = self.anatomy
        h, w = a.height.shape
        strengths = units.reshape(-1).astype(np.float32)
        # einsum, not BLAS: the sum must not depend on the number of threads
        field = np.einsum("k,kn->n", strengths, a.pushes).reshape(3, *a.coarse)
        ch, cw = a.coarse
        gx, gy = np.meshgrid(np.arange(cw, dtype=np.float32), np.arange(ch, dtype=np.float32))
        scale = np.float32(cw / (WINDOW[1] - WINDOW[0]))
        dx, dy = field[0] * scale, field[1] * scale
        sx, sy = gx - dx, gy - dy
        for _ in range(3):  # solve p = q - u(p): the point p whose skin moves to q
            sx, sy = (
                gx - cv2.remap(dx, sx, sy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
                gy - cv2.remap(dy, sx, sy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
            )
        rise = cv2.remap(field[2], sx, sy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        back = cv2.resize(np.dstack([sx - gx, sy - gy, rise]), (w, h), interpolation=cv2.INTER_CUBIC)
        ratio = np.float32(a.grid.ppu) / scale
        xs, ys = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
        mx, my = xs + back[..., 0] * ratio, ys + back[..., 1] * ratio
        creased = a.height.copy()
        for row, place, crease in a.furrows:
            if strengths[row] > 0:
                creased[place] += strengths[row] * crease
        z = cv2.remap(creased, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) + back[..., 2]
        skin = cv2.remap(a.skin, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        gloss = cv2.remap(a.gloss, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        cover = skin[..., 3]
        rgb = a.behind[..., :3] + (skin[..., :3] - a.behind[..., :3]) * cover[..., None]
        z = a.behind_z + (z - a.behind_z) * cover
        canvas = Canvas(a.grid, z, rgb, gloss * (0.25 + 0.75 * cover), np.zeros_like(z))
        return canvas, 1 - (1 - a.behind[..., 3]) * (1 - cover) * (1 - a.front[..., 3])

    def _comb(self, c: Canvas) -> None:
        """Draw the front hair over the face."""
        a = self.anatomy
        cover = a.front[..., 3]
        c.lay(cover, a.front[..., :3], 0.2)
        c.z += (a.front_z - c.z) * cv2.GaussianBlur(cover, (0, 0), 0.04 * c.grid.ppu)
        c.glint *= 1 - cover

    def _light(self, c: Canvas, light: np.ndarray, back: np.ndarray) -> np.ndarray:
        """Return the lit head, (h, w, 3) linear RGB: key, fill and sky light, shadows, hollows, highlights."""
        s = self.scene
        ppu = c.grid.ppu
        z = cv2.GaussianBlur(c.z, (0, 0), 0.7)
        zx = cv2.Sobel(z, cv2.CV_32F, 1, 0, ksize=3, scale=ppu / 8)
        zy = cv2.Sobel(z, cv2.CV_32F, 0, 1, ksize=3, scale=ppu / 8)
        inverse = 1 / np.sqrt(1 + zx * zx + zy * zy)

        def facing(d: np.ndarray) -> np.ndarray:
            return np.asarray((d[2] - zx * d[0] - zy * d[1]) * inverse)

        soft = 0.18  # skin scatters light past the edge of the lit side
        key = np.clip((facing(light) + soft) / (1 + soft), 0, None) * _shadow(z, light, ppu)
        other = back @ np.array([-s.light[0], s.light[1] * 0.3, abs(s.light[2])], np.float32)
        fill = np.clip(facing(other / np.linalg.norm(other)), 0, None)
        up = back @ np.array([0, -0.8, 0.6], np.float32)
        hollow = np.clip(1 + 3.2 * (z - _wide_blur(z, 0.1 * ppu)) + 1.2 * (z - _wide_blur(z, 0.3 * ppu)), 0.3, 1.25)
        ambient = s.sky * (0.62 + 0.38 * facing(up)) * hollow  # never 0: chest and cheeks reflect light
        shine = np.clip(facing(_halfway(light)), 0, 1) ** 2
        shine = (shine * shine) ** 2
        shine = (shine * shine) * c.gloss * key * 0.16
        white = (s.key * key)[..., None] * s.warmth + (s.fill * fill * hollow + ambient)[..., None]
        return np.asarray(c.rgb * white + (shine * s.key + c.glint)[..., None], dtype=np.float32)

    def _look(self, head: np.ndarray, z: np.ndarray, pose: Pose) -> np.ndarray:
        """Return the head, (h, w, 4), as the camera sees it in `pose`, (height, width, 4)."""
        cos, sin = np.cos(pose.roll) / pose.zoom, np.sin(pose.roll) / pose.zoom
        neck = np.float32(_NECK)
        x, y = self._x - np.float32(pose.dx), self._y - np.float32(pose.dy) - neck
        x, y = x * np.float32(cos) + y * np.float32(sin), y * np.float32(cos) - x * np.float32(sin) + neck
        ppu = np.float32(self.anatomy.grid.ppu)
        depth = cv2.GaussianBlur(z, (0, 0), 2.5) - 0.35
        mx, my = x, y
        for _ in range(3):
            at = cv2.remap(
                depth, (mx - WINDOW[0]) * ppu, (my - WINDOW[2]) * ppu, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            mx = (x - at * np.float32(np.sin(pose.yaw))) / np.float32(np.cos(pose.yaw))
            my = (y - at * np.float32(np.sin(pose.pitch))) / np.float32(np.cos(pose.pitch))
        return cv2.remap(
            head, (mx - WINDOW[0]) * ppu, (my - WINDOW[2]) * ppu, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )


def _rotation(pose: Pose) -> np.ndarray:
    """Return the (3, 3) rotation of head coordinates into camera coordinates."""
    cy, sy = np.cos(pose.yaw), np.sin(pose.yaw)
    cp, sp = np.cos(pose.pitch), np.sin(pose.pitch)
    cr, sr = np.cos(pose.roll), np.sin(pose.roll)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(roll @ pitch @ yaw)


def _halfway(light: np.ndarray) -> np.ndarray:
    half = light + np.array([0, 0, 1], np.float32)
    return np.asarray(half / np.linalg.norm(half))


def _wide_blur(z: np.ndarray, sigma: float) -> np.ndarray:
    """Return a Gaussian blur, computed at a quarter of the size."""
    small = cv2.resize(z, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return cv2.resize(small, z.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _shadow(z: np.ndarray, light: np.ndarray, ppu: float) -> np.ndarray:
    """Return the share of key light at each point, (h, w): 1, or less in cast shadows (nose, brow, lips).

    Whether a point lies in shadow is found by steps over the height field towards the light.
    """
    small = cv2.resize(z, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    flat = float(np.hypot(light[0], light[1]))
    if flat < 1e-3:
        return np.ones_like(z)
    climb = float(light[2]) / flat
    worst = np.zeros_like(small)
    for step in (0.05, 0.09, 0.14, 0.2, 0.28, 0.38):
        shift = np.array(
            [[1, 0, -light[0] / flat * step * ppu / 2], [0, 1, -light[1] / flat * step * ppu / 2]], np.float32
        )
        ahead = cv2.warpAffine(small, shift, small.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        np.maximum(worst, (ahead - small - step * climb) / (0.06 + 0.2 * step), out=worst)
    dark = cv2.GaussianBlur(np.clip(worst, 0, 1), (0, 0), 0.02 * ppu / 2 + 0.6)
    return 1 - 0.7 * cv2.resize(dark, z.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _draw_body(i: Identity, s: Scene) -> np.ndarray:
    """Return backdrop, neck and shoulders, (height, width, 3) linear RGB."""
    xs, ys = np.meshgrid(np.arange(s.width, dtype=np.float32), np.arange(s.height, dtype=np.float32))
    x, y = (xs - s.centre[0]) / s.ppu, (ys - s.centre[1]) / s.ppu
    picture = s.backdrop.copy()
    ax = np.abs(x)

    def lay(distance: np.ndarray, colour: np.ndarray, relief: np.ndarray) -> None:
        zx = np.gradient(relief, 1 / s.ppu, axis=1)
        zy = np.gradient(relief, 1 / s.ppu, axis=0)
        facing = (s.light[2] - zx * s.light[0] - zy * s.light[1]) / np.sqrt(1 + zx**2 + zy**2)
        bright = s.key * np.clip(facing + 0.15, 0, None) / 1.15 + s.sky * 0.8
        cover = np.clip(distance * s.ppu + 0.5, 0, 1)[..., None]
        picture[...] = picture + (colour * bright[..., None] - picture) * cover

    slope = np.clip(1.75 + 0.1 * ax + 0.22 * np.clip(ax - 0.5, 0, None) ** 1.2, None, 3.2)
    round_ = np.sqrt(np.clip(1 - (ax / 2.4) ** 2, 0.02, 1))
    neck = 0.8 * i.jaw + 0.25 * np.clip(y - 1.55, 0, 1) ** 1.5
    skin = np.array(i.skin, np.float32) * np.array([0.95, 0.88, 0.85], np.float32)
    under = 0.35 + 0.65 * np.clip((y - i.chin_y - 0.05) / 0.5, 0, 1)
    tube = 0.6 * np.sqrt(np.clip(1 - (ax / np.maximum(neck, 0.1)) ** 2, 0, 1))
    lay(np.minimum(neck - ax, y - 0.7), skin * under[..., None], tube)
    collar = np.maximum(slope, 2.05 - 0.55 * ax**2)
    lay(np.minimum(y - collar, 2.6 - ax), s.cloth, round_ * 1.2)
    return picture.astype(np.float32)
