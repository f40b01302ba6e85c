from services.common.errors import FaceferryError


class BadParquet(FaceferryError):
    """It is no Parquet, or none that was written here."""
