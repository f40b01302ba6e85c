from services.common.runtime import lifecycle
from services.common.runtime.logging import configure_logging
from services.common.runtime.settings import load
from services.common.runtime.tracing import traced
from services.forward.service import serve
from services.forward.settings import ForwardSettings


def main() -> int:
    """Run forward; return the exit status."""
    settings = load(ForwardSettings)
    configure_logging("forward", settings.log_level, settings.log_format)
    return lifecycle.run(traced(serve(settings), "forward", settings))


if __name__ == "__main__":
    raise SystemExit(main())
