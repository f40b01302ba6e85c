from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from services.common.runtime.settings import CommaSeparated, DeviceSettings, LooksSettings
from services.common.runtime.traces_settings import TracesSettings
from services.common.sealing.keys import read_recipient
from services.detect.detector_choice import DetectorName
from services.detect.providers import ProviderName


def _seal_to(keys: tuple[str, ...]) -> tuple[str, ...]:
    for key in keys:
        read_recipient(key)
    return keys


class DetectSettings(DeviceSettings, LooksSettings, TracesSettings):
    """detect: finds faces in the frames of all cameras of a device."""

    detector: DetectorName = Field(
        "auto",
        description="yunet; centerface, whose model pip gets; haar; or auto: the first of these that can be "
        "had, with a warning where that is not yunet",
    )
    model: str = Field(
        "yunet_n", description="of yunet: yunet_n, yunet_s, or the path of an ONNX file of that family"
    )
    model_dir: Path | None = Field(None, description="where models are looked for before the user's cache")
    providers: Annotated[tuple[ProviderName, ...], CommaSeparated] = Field(
        ("auto",),
        min_length=1,
        description="ONNX Runtime's execution providers in order: tensorrt, cuda, cpu; auto: cuda if this "
        "ONNX Runtime has it, else cpu; one that is named and missing is an error",
    )
    detection_size_px: int = Field(
        640,
        ge=0,
        le=8192,
        description="the long side of the picture in which faces are looked for, in pixels; smaller frames "
        "are enlarged, at most twice; 0: full size, for small faces in wide scenes",
    )
    score_threshold: float = Field(
        0.7, gt=0, le=1, description="the least score of a face, 0 to 1; haar has no scores"
    )
    skip_still: bool = Field(
        True,
        description="whether a live frame that does not differ from the last one looked at goes without a "
        "look, but for one every half second; with FACEFERRY_KEEP=every none does",
    )
    look_at_parts: bool = Field(
        True,
        description="whether a look may cover only what has changed, and the places where somebody was; the "
        "whole is looked at every two seconds; on a processor alone, and only with FACEFERRY_SKIP_STILL",
    )
    min_face_px: int = Field(0, ge=0, description="the least width and height of a face in pixels; 0: any")
    max_faces: int = Field(200, ge=0, le=10_000, description="faces of one frame, the best first; 0: all")
    crop_margin: float = Field(
        0.5,
        ge=0,
        le=4,
        description="how much more than the face is cut on each side, in parts of its size; 0.5 is what "
        "recognisers need to align a face, 0.25 saves a third of the bytes",
    )
    exif: bool = Field(
        True, description="whether pictures say when and by which camera they were taken, for photo managers"
    )
    crop_format: Literal["jpeg", "png"] = Field(
        "jpeg", description="jpeg, or png: lossless, ten times larger"
    )
    crop_quality: int = Field(95, ge=1, le=100, description="of a JPEG crop, 1 to 100")
    max_crop_bytes: int = Field(
        1_500_000,
        ge=16_384,
        description="a larger crop is halved in size until it fits, for brokers refuse large packets",
    )
    threads: int = Field(
        0, ge=0, le=256, description="frames worked on at once; 0: 1 on one core, 2 on 2, 3 on 4, 9 on 12"
    )
    decode_timeout_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="a picture that takes unusually much (very large, or coded as no camera does) is decoded "
        "in a process of its own, which is ended after so many seconds, and the frame dropped",
    )
    metadata: Literal["full", "plain", "none"] = Field(
        "full",
        description="what goes with a face beside its visit: full; plain: all but its landmarks, which can "
        "be taken for geometry; none: neither box nor score nor anything else that was measured",
    )
    seal_to: Annotated[tuple[str, ...], CommaSeparated, AfterValidator(_seal_to)] = Field(
        (),
        description="public keys (age1...), separated by commas: faces are sealed before they leave this "
        "process, and only who holds one of the private keys can look; empty: they are not sealed",
    )
    seal_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="goes into sealing, so that who has a picture cannot tell which sealed one it is; the "
        "same for all detects of this device, or a recording that is played again is stored again",
    )
    max_custody_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1,
        description="faces in memory that forward has not receipted; when they take more, no frame is taken",
    )
    max_custody_faces: int = Field(10_000, ge=1, description="the same as a number of faces")
    max_cameras: int = Field(256, ge=1, description="cameras that may have frames waiting at once")
    frame_max_age_s: float = Field(
        2.0,
        ge=0,
        description="live frames that come this much later than their camera's others are dropped, in "
        "seconds; 0: never",
    )

    @model_validator(mode="after")
    def _check_providers(self) -> Self:
        if "auto" in self.providers and len(self.providers) > 1:
            raise ValueError("FACEFERRY_PROVIDERS: auto stands alone")
        return self
