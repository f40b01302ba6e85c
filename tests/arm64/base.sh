# Writes an arm64 Debian with Python and pip as an archive: base.sh SUITE ARCHIVE
set -euo pipefail
mirror=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
mirror=${mirror:-$(awk '/^deb /{print $2; exit}' /etc/apt/sources.list)}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --arch=arm64 --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip \
    "$1" "$root" "$mirror" >&2
# As the public image has it: pip may be used, and what this machine trusts is trusted.
rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
for name in python python3; do ln -sf /usr/bin/python3 "$root/usr/local/bin/$name"; done
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,locale}
mkdir -p "$(dirname "$2")"
tar -C "$root" -cf "$2.new" .
mv "$2.new" "$2"
