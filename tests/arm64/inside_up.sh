# What a newcomer does, in the machine; /run/share is ours: inside_up.sh WHEELS CLIP MODELS
set -u
# Debian's packages were unpacked, not installed: nobody has chosen between these libraries, which ffmpeg needs.
export LD_LIBRARY_PATH=/usr/lib/aarch64-linux-gnu/blas:/usr/lib/aarch64-linux-gnu/lapack
mkdir /root/faceferry
tar -x -C /root/faceferry -f /run/share/project.tar
cd /root/faceferry || exit 1
unset FACEFERRY_VENV # the tool's own, in which the tests' packages are there already
env PIP_NO_INDEX=1 PIP_FIND_LINKS="$1" FACEFERRY_MODEL_DIR="$3" XDG_STATE_HOME=/root/state FACEFERRY_DEVICE=edge \
    FACEFERRY_KEEP=every ./scripts/up --shared no --once --json --timeout 900 --source "$2" --store file:///root/faces \
    >/run/share/up.json 2>/run/share/up.log
status=$?
cat /run/share/up.log
tar -c -C /root -f /run/share/faces.tar faces
exit $status
