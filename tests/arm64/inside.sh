# What is done in the machine; /run/share is ours. First what a newcomer does, then some of the tests.
#
#   inside.sh WHEELS CLIPS MODELS TEST...
set -u
project=$PWD wheels=$1 clips=$2 models=$3
shift 3
# Debian's packages were unpacked, not installed: nobody has chosen between these libraries, which ffmpeg needs.
export LD_LIBRARY_PATH=/usr/lib/aarch64-linux-gnu/blas:/usr/lib/aarch64-linux-gnu/lapack
export FACEFERRY_MODEL_DIR=$models FACEFERRY_TEST_PATIENCE=30 PYTHONDONTWRITEBYTECODE=1

step() { printf '\n=== %s (%d s)\n' "$*" "$SECONDS"; }

step 'up --once, with its installing'
mkdir /root/faceferry
tar -x -C /root/faceferry -f /run/share/project.tar
cd /root/faceferry || exit 1
unset FACEFERRY_VENV # the tool's own, in which the tests' packages are there already
env PIP_NO_INDEX=1 PIP_FIND_LINKS="$wheels" XDG_STATE_HOME=/root/state FACEFERRY_DEVICE=edge FACEFERRY_KEEP=every \
    ./scripts/up --shared no --once --json --timeout 900 --source "$clips/face-demographics-walking-and-pause.mp4" \
    --store file:///root/faces >/run/share/up.json 2>/run/share/up.log
echo $? >/run/share/up.status
tail -n 40 /run/share/up.log
tar -c -C /root -f /run/share/faces.tar faces

step 'tests'
cd "$project" || exit 1
export PATH=/opt/venv/bin:$PATH FACEFERRY_KEEP=every
[ ! -e /run/share/s3-server ] || export FACEFERRY_TEST_S3_SERVER=/run/share/s3-server
exec python -m pytest -n0 -p no:cacheprovider -o timeout=1200 -v --durations=10 \
    --junit-xml=/run/share/outcomes.xml "$@"
