from services.common.runtime import lifecycle
from services.common.runtime.logging import configure_logging
from services.common.runtime.settings import load
from services.gallery.service import return_free_memory, serve
from services.gallery.settings import GallerySettings


def main() -> int:
    """Run the gallery service; return its exit status."""
    settings = load(GallerySettings)
    configure_logging("gallery", settings.log_level, settings.log_format)
    return_free_memory()
    return lifecycle.run(serve(settings))


if __name__ == "__main__":
    raise SystemExit(main())
