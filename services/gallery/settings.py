from typing import Self

from pydantic import Field, SecretStr, model_validator

from services.common.erasure.entries import Sign, Verify
from services.common.erasure.settings import ErasureSettings
from services.common.runtime.access import MIN_TOKEN_LENGTH, is_loopback
from services.common.runtime.addresses import HostName
from services.common.runtime.shared_settings import CloudSettings, RetentionSettings
from services.common.sealing.keys import read_identities
from services.common.storage.settings import ObjectStoreSettings
from services.gallery.live_client import read_places


class GallerySettings(CloudSettings, RetentionSettings, ErasureSettings, ObjectStoreSettings):
    """Shows the stored faces in a browser; only reads, unless it may erase."""

    gallery_host: HostName = Field(
        "127.0.0.1", description="where the page listens; the rest of the network: 0.0.0.0"
    )
    gallery_port: int = Field(8000, ge=0, le=65535, description="its port; 0: any free one, said in the log")
    gallery_token: SecretStr | None = Field(
        None,
        description=f"the token for looking at pages, {MIN_TOKEN_LENGTH} characters or more; "
        "required where the page listens beyond this machine",
    )
    gallery_seal_identity: SecretStr | None = Field(
        None,
        description="private keys (AGE-SECRET-KEY-1...), one a line, with which sealed faces are shown; "
        "without them a lock is",
    )
    gallery_live: str = Field(
        "",
        description="where devices show what their cameras see, as DEVICE=http://HOST:PORT with commas "
        "between: their capture's FACEFERRY_HTTP_PORT; empty: no live pictures",
    )
    live_token: SecretStr | None = Field(None, description="the token that they ask for")
    gallery_erase_token: SecretStr | None = Field(
        None,
        description="a second token, for erasing faces from their pages; without it pages cannot erase; it "
        "needs FACEFERRY_ERASE_SIGNING_KEY",
    )
    erase_signing_key: SecretStr | None = Field(
        None, description="the private key (PEM, erase.key) that the gallery orders erasures with"
    )
    gallery_page_faces: int = Field(60, ge=1, le=500, description="faces on a page")
    gallery_max_viewers: int = Field(64, ge=1, description="open pages that are told of new faces")
    gallery_link_s: int = Field(
        300, ge=1, le=604_800, description="seconds that a link into the bucket is good for"
    )
    gallery_feed_link_s: int = Field(
        86_400,
        ge=60,
        le=604_800,
        description="seconds for which a feed's address of an image is valid without a token, "
        "or up to twice as many",
    )

    @property
    def identities(self) -> list[bytes]:
        """The private keys that open sealed faces."""
        secret = self.gallery_seal_identity
        return [] if secret is None else read_identities(secret.get_secret_value())

    @model_validator(mode="after")
    def _check_identities(self) -> Self:
        try:
            _ = self.identities
        except ValueError as error:
            raise ValueError(f"FACEFERRY_GALLERY_SEAL_IDENTITY: {error}") from None
        return self

    @property
    def live_places(self) -> dict[str, str]:
        """The root URL of each device's capture, by device."""
        return read_places(self.gallery_live)

    @model_validator(mode="after")
    def _check_live(self) -> Self:
        try:
            _ = self.live_places
        except ValueError as error:
            raise ValueError(f"FACEFERRY_GALLERY_LIVE: {error}") from None
        return self

    @property
    def erasing(self) -> tuple[str, tuple[Sign, Verify]] | None:
        """The token for erasing, and the functions of the key; None where pages may not erase.

        Raises:
            ValueError: the key is not a private key.
        """
        if self.gallery_erase_token is None or self.erase_signing_key is None:
            return None
        from services.common.erasure.keys import signer  # noqa: PLC0415 - loaded only where it is used

        return self.gallery_erase_token.get_secret_value(), signer(self.erase_signing_key.get_secret_value())

    @model_validator(mode="after")
    def _check_erasing(self) -> Self:
        token = self.gallery_erase_token.get_secret_value() if self.gallery_erase_token else ""
        if (self.gallery_erase_token is None) != (self.erase_signing_key is None):
            raise ValueError("FACEFERRY_GALLERY_ERASE_TOKEN and FACEFERRY_ERASE_SIGNING_KEY go together")
        if self.gallery_erase_token is not None and len(token) < MIN_TOKEN_LENGTH:
            raise ValueError(f"FACEFERRY_GALLERY_ERASE_TOKEN has less than {MIN_TOKEN_LENGTH} characters")
        if token and self.gallery_token is not None and token == self.gallery_token.get_secret_value():
            raise ValueError("FACEFERRY_GALLERY_ERASE_TOKEN is the same as FACEFERRY_GALLERY_TOKEN")
        try:
            _ = self.erasing
        except ValueError as error:
            raise ValueError(f"FACEFERRY_ERASE_SIGNING_KEY: {error}") from None
        return self

    @model_validator(mode="after")
    def _check_token(self) -> Self:
        token = self.gallery_token.get_secret_value() if self.gallery_token else ""
        if token and len(token) < MIN_TOKEN_LENGTH:
            raise ValueError(f"FACEFERRY_GALLERY_TOKEN has less than {MIN_TOKEN_LENGTH} characters")
        if not token and not is_loopback(self.gallery_host):
            raise ValueError(
                f"FACEFERRY_GALLERY_TOKEN (or _FILE) is not set, and the page listens on {self.gallery_host}"
            )
        return self
