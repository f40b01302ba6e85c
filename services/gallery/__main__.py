from services.common.runtime import lifecycle
from services.common.runtime.logging import configure_logging
from services.common.runtime.settings import load
from services.gallery.service import give_back_what_is_free, serve
from services.gallery.settings import GallerySettings


def main() -> int:
    """Run the gallery service; return its exit status."""
    settings = load(GallerySettings)
    configure_logging("gallery", settings.log_level, settings.log_format)
    give_back_what_is_free()
    return lifecycle.run(serve(settings))


if __name__ == "__main__":
    raise SystemExit(main())
