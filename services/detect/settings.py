from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from services.common.runtime.settings import CommaSeparated
from services.common.runtime.shared_settings import DeviceSettings, LooksSettings, TracesSettings
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
        description="yunet; centerface, whose model pip can download; haar; or auto: the first of these that "
        "is available, with a warning if that is not yunet",
    )
    model: str = Field(
        "yunet_n", description="of yunet: yunet_n, yunet_s, or the path of an ONNX file of that family"
    )
    model_dir: Path | None = Field(None, description="a folder to search for models before the user's cache")
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
        description="the long side to which a frame is scaled to look for faces, in pixels; smaller frames "
        "are enlarged, at most twice; 0: full size, for small faces in wide scenes",
    )
    score_threshold: float = Field(
        0.7, gt=0, le=1, description="the least score of a face, 0 to 1; haar has no scores"
    )
    skip_still: bool = Field(
        True,
        description="whether live frames that do not differ from the last one looked at are skipped, except "
        "one every half second; with FACEFERRY_KEEP=every none is",
    )
    look_at_parts: bool = Field(
        True,
        description="whether a look may cover only what has changed and the places where faces were; the "
        "whole is looked at every two seconds; on a CPU only, and only with FACEFERRY_SKIP_STILL",
    )
    min_face_px: int = Field(0, ge=0, description="the least width and height of a face in pixels; 0: any")
    max_faces: int = Field(200, ge=0, le=10_000, description="faces of one frame, the best first; 0: all")
    crop_margin: float = Field(
        0.5,
        ge=0,
        le=4,
        description="how much is cut beyond the face on each side, as a fraction of its size; 0.5 is what "
        "recognisers need to align a face, 0.25 saves a third of the bytes",
    )
    exif: bool = Field(
        True, description="whether images hold the time and the camera as EXIF data, for photo managers"
    )
    crop_format: Literal["jpeg", "png"] = Field(
        "jpeg", description="jpeg, or png: lossless, ten times larger"
    )
    crop_quality: int = Field(95, ge=1, le=100, description="of a JPEG crop, 1 to 100")
    max_crop_bytes: int = Field(
        1_500_000,
        ge=16_384,
        description="a larger crop is halved in width and height until it fits, as brokers bound packets",
    )
    threads: int = Field(
        0, ge=0, le=256, description="frames worked on at once; 0: 1 on one core, 2 on 2, 3 on 4, 9 on 12"
    )
    decode_timeout_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="a picture that is costly to decode (very large, or coded as no camera does) is decoded "
        "in a process of its own; after this many seconds that is killed, and the frame dropped",
    )
    metadata: Literal["full", "plain", "none"] = Field(
        "full",
        description="what is sent with a face besides its visit: full; plain: all but its landmarks, which "
        "can be taken for geometry; none: neither box nor score nor anything else that was measured",
    )
    seal_to: Annotated[tuple[str, ...], CommaSeparated, AfterValidator(_seal_to)] = Field(
        (),
        description="public keys (age1...), separated by commas: faces are sealed before they leave this "
        "process, and only holders of a private key can open them; empty: they are not sealed",
    )
    seal_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="goes into sealing, so that a holder of an image cannot recognise its sealed face; "
        "the same for all detects of this device, or a recording that is played again is stored again",
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
        description="live frames that come this many seconds later than their camera's others are dropped; "
        "0: never",
    )

    @model_validator(mode="after")
    def _check_providers(self) -> Self:
        if "auto" in self.providers and len(self.providers) > 1:
            raise ValueError("FACEFERRY_PROVIDERS: auto stands alone")
        return self
