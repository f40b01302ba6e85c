class FaceferryError(Exception):
    """The root of every error this project raises."""


class SetupError(FaceferryError):
    """Something that only the user can mend: said in one line, exit status 2."""


class Refused(FaceferryError):
    """A message that can never be accepted, however often it is sent.

    Args:
        reason: a short constant such as `id_mismatch`; a metric label, part of the protocol.
        detail: what exactly was wrong, for a log line. Never contains payload bytes.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
