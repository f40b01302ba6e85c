# Some of the tests, in the machine; /run/share is ours: inside_tests.sh SECONDS TEST...
#
# After so many seconds no more are run; what became of those before is reported all the same.
set -u
seconds=$1
export FACEFERRY_MODEL_DIR=/run/share/models FACEFERRY_KEEP=every PYTHONDONTWRITEBYTECODE=1
export FACEFERRY_TEST_PATIENCE=30 FACEFERRY_TEST_MASKS=50 # it is slow: longer waits, fewer cases of one kind
export LD_LIBRARY_PATH=/usr/lib/aarch64-linux-gnu/blas:/usr/lib/aarch64-linux-gnu/lapack # as in inside_up.sh
export PATH=/opt/venv/bin:$PATH
[ ! -e /run/share/s3-server ] || export FACEFERRY_TEST_S3_SERVER=/run/share/s3-server
shift
exec timeout --signal=INT --kill-after=120 "$seconds" python -m pytest -n 2 --dist worksteal -p no:cacheprovider \
    -o timeout=1200 -v --color=no --durations=10 --junit-xml=/run/share/outcomes.xml "$@"
