from prometheus_client import Counter, Gauge, Histogram

ANSWER_SECONDS = Histogram(
    "faceferry_gallery_answer_seconds",
    "Until an answer was ready, by what was asked for; events last and are left out.",
    ["page"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
REFUSED = Counter("faceferry_gallery_refused_total", "Requests that were refused, by reason.", ["reason"])
DROPPED = Counter("faceferry_gallery_dropped_total", "News that no page was told of, by reason.", ["reason"])
UNREAD = Counter(
    "faceferry_gallery_unread_total",
    "Faces shown by themselves, for it could not be read whose visit they are of, by reason.",
    ["reason"],
)
ANNOUNCED = Counter("faceferry_gallery_announced_total", "Stored faces that open pages were told of.")
DOWNLOADED = Counter("faceferry_gallery_downloaded_total", "Faces that went into files that were loaded.")
DOWNLOAD_CUT = Counter(
    "faceferry_gallery_download_cut_total", "Files whose loading was cut short, by reason.", ["reason"]
)
LIVE_FAILED = Counter(
    "faceferry_gallery_live_failed_total", "Live pictures that could not be had, by reason.", ["reason"]
)
ERASURES_FAILED = Counter(
    "faceferry_gallery_erasures_failed_total", "Tries to carry out an erasure that could not be finished."
)
VIEWERS = Gauge("faceferry_gallery_viewers", "Open pages that are told of new faces.")
STORE_AVAILABLE = Gauge(
    "faceferry_gallery_store_available", "Whether the last look into the store went well."
)
