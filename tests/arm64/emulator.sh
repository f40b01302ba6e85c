# Has this machine run programs for arm64, in containers too, until it is restarted: emulator.sh FOLDER
#
# QEMU before 8.1 shows them this machine's /proc/cpuinfo for theirs. ONNX Runtime reads that as an arm64's and
# dies of it (a segmentation fault at `import onnxruntime`, where /sys is there as well). So Debian trixie's.
set -euo pipefail
name=/proc/sys/fs/binfmt_misc/faceferry-arm64
mkdir -p "$1"
cd "$1"
if [ ! -x qemu-aarch64 ]; then
    mirror=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
    mirror=${mirror:-$(awk '/^deb /{print $2; exit}' /etc/apt/sources.list)}
    mkdir -p lists/partial none
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >sources.list
    options=(-o "Dir::Etc::sourcelist=$PWD/sources.list" -o "Dir::Etc::sourceparts=$PWD/none" -o "Dir::State::Lists=$PWD/lists")
    apt-get "${options[@]}" update -qq
    apt-get "${options[@]}" download -qq qemu-user
    dpkg-deb --fsys-tarfile qemu-user_*.deb | tar -x --strip-components=3 ./usr/bin/qemu-aarch64
    rm -rf lists none sources.list qemu-user_*.deb
fi
[ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
[ ! -e "$name" ] || echo -1 >"$name"
# F: it is opened now, for in a container it is not to be found. The last one that is told to the kernel counts.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":${name##*/}:M::$magic:$mask:$PWD/qemu-aarch64:F" >/proc/sys/fs/binfmt_misc/register
