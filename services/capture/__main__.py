from services.capture.service import serve
from services.capture.settings import CaptureSettings
from services.common import lifecycle
from services.common.logging import configure_logging
from services.common.settings import load
from services.common.tracing import traced


def main() -> int:
    """Run capture; return its exit status."""
    settings = load(CaptureSettings)
    configure_logging("capture", settings.log_level, settings.log_format)
    return lifecycle.run(traced(serve(settings), "capture", settings))


if __name__ == "__main__":
    raise SystemExit(main())
