from services.common.runtime import lifecycle
from services.common.runtime.logging import configure_logging
from services.common.runtime.settings import load
from services.common.runtime.tracing import traced
from services.detect.service import serve
from services.detect.settings import DetectSettings


def main() -> int:
    """Run detect; return the exit status."""
    settings = load(DetectSettings)
    configure_logging("detect", settings.log_level, settings.log_format)
    return lifecycle.run(traced(serve(settings), "detect", settings))


if __name__ == "__main__":
    raise SystemExit(main())
