"""A room in which nothing happens, and what cameras, lamps and weather make of it."""

import cv2
import numpy as np

from services.detect.boxes import Floats
from services.detect.codec import GreyImage, encode_jpeg

WIDTH, HEIGHT = 960, 540


class Room:
    """A room of some seed: surfaces, edges and textures, as bright as rooms are."""

    def __init__(self, seed: int = 1) -> None:
        self.chance = np.random.default_rng(seed)
        surfaces = self.chance.uniform(40, 200, (9, 16)).astype(np.float32)
        texture = self.chance.normal(0, 25, (HEIGHT // 4, WIDTH // 4)).astype(np.float32)
        flat = cv2.resize(surfaces, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        soft = cv2.resize(cv2.GaussianBlur(texture, (0, 0), 1), (WIDTH, HEIGHT))
        self.empty: Floats = np.asarray(flat + soft, np.float32)

    def with_head(self, x: float, y: float, size: float, skin: float = 150.0) -> Floats:
        """The room with a head at this place, so many pixels high: an oval with hair and two eyes."""
        across, down = (np.arange(WIDTH) - x) / size, (np.arange(HEIGHT)[:, None] - y) / size
        scene = self.empty.copy()
        is_head = np.hypot(across / 0.8, down) < 0.5
        scene[is_head] = skin
        scene[is_head & (down < -0.25)] = skin / 3
        for eye in (-0.18, 0.18):
            scene[np.hypot(across - eye, down + 0.1) < 0.1] = skin / 3
        return scene

    def in_rain(self, streaks: int) -> Floats:
        """The room behind rain: thin and bright, each picture's its own."""
        rain = np.zeros((HEIGHT, WIDTH), np.float32)
        for _ in range(streaks):
            x, y = int(self.chance.integers(WIDTH)), int(self.chance.integers(HEIGHT))
            cv2.line(rain, (x, y), (x + 2, y + 40), 30.0, 1)
        return self.empty + rain

    def taken(self, scene: Floats, noise: float = 2.0, quality: int = 85) -> GreyImage:
        """A camera's picture of a scene, as a JPEG, decoded at an eighth."""
        noisy = np.clip(scene + noise * self.chance.standard_normal(scene.shape, np.float32), 0, 255).astype(
            np.uint8
        )
        data = np.frombuffer(encode_jpeg(np.dstack([noisy] * 3), quality), np.uint8)
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_REDUCED_GRAYSCALE_8), np.uint8)
