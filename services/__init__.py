import os

# Where one of these is set, the Prometheus library keeps its numbers in files of that folder, for programs of
# many processes, and fails where there is none. Each service is one process and shows its own.
for _name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
    os.environ.pop(_name, None)
