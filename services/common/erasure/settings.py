from typing import Annotated

from pydantic import Field

from services.common.erasure.entries import Verify
from services.common.errors import SetupError
from services.common.runtime.settings import MayBeInFile, Settings


class ErasureSettings(Settings):
    """The public key that verifies orders to erase."""

    erase_key: Annotated[str | None, MayBeInFile()] = Field(
        None,
        description="the public key (PEM, erase.pub of `faceferry pki erasure`) that verifies orders to "
        "erase faces; default: no orders are accepted",
    )

    def erase_verifier(self) -> Verify | None:
        """Return the function that verifies orders, or None where no key is set.

        Raises:
            SetupError: the key is not a public key.
        """
        if self.erase_key is None:
            return None
        # Loaded only where it is used: it takes some megabytes.
        from services.common.erasure.keys import verifier  # noqa: PLC0415

        try:
            return verifier(self.erase_key)
        except ValueError as error:
            raise SetupError(f"FACEFERRY_ERASE_KEY: {error}") from error
