from services.common.runtime import lifecycle
from services.common.runtime.logging import configure_logging
from services.common.runtime.settings import load
from services.common.runtime.tracing import traced
from services.store.service import serve
from services.store.settings import StoreSettings


def main() -> int:
    """Run the store service; return its exit status."""
    settings = load(StoreSettings)
    configure_logging("store", settings.log_level, settings.log_format)
    return lifecycle.run(traced(serve(settings), "store", settings))


if __name__ == "__main__":
    raise SystemExit(main())
