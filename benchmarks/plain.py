"""What one writes first: a loop with `cv2.FaceDetectorYN` on the full frame that saves each face.

    python -m benchmarks.plain CLIP MODEL FOLDER

The model is YuNet with fixed sides, which OpenCV 4 can load. Prints one JSON object: frames, faces, seconds,
cpu_s.
"""

import json
import resource
import sys
import time
from pathlib import Path

import cv2

THRESHOLD = 0.7
"""Ours, too."""


def save_faces(clip: Path, model: Path, folder: Path) -> tuple[int, int]:
    """Save each face of each frame as a JPEG; return the number of frames and of faces."""
    capture = cv2.VideoCapture(str(clip))
    frames = faces = 0
    detector: cv2.FaceDetectorYN | None = None
    while True:
        is_there, frame = capture.read()
        if not is_there:
            return frames, faces
        frames += 1
        height, width = frame.shape[:2]
        detector = detector or cv2.FaceDetectorYN.create(str(model), "", (width, height), THRESHOLD)
        found = detector.detect(frame)[1]
        for left, top, wide, high in () if found is None else found[:, :4].clip(0).astype(int):
            faces += 1
            cv2.imwrite(str(folder / f"{faces}.jpg"), frame[top : top + high, left : left + wide])


def main() -> None:
    """Run and print what it took."""
    clip, model, folder = map(Path, sys.argv[1:4])
    folder.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    before, began_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    frames, faces = save_faces(clip, model, folder)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"frames": frames, "faces": faces, "seconds": time.monotonic() - began_s, "cpu_s": cpu_s}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
