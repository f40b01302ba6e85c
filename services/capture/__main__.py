from services.capture.service import serve
from services.capture.settings import CaptureSettings
from services.common.runtime import lifecycle
from services.common.runtime.logging import configure_logging
from services.common.runtime.settings import load
from services.common.runtime.tracing import traced


def main() -> int:
    """Run capture; return its exit status."""
    settings = load(CaptureSettings)
    configure_logging("capture", settings.log_level, settings.log_format)
    return lifecycle.run(traced(serve(settings), "capture", settings))


if __name__ == "__main__":
    raise SystemExit(main())
