# Writes a bare Debian as an archive, with this machine's mirror and what its apt asks for: debootstrap.sh SUITE ARCHIVE
set -euo pipefail
mirror=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
mirror=${mirror:-$(awk '/^deb /{print $2; exit}' /etc/apt/sources.list)}
mkdir -p "$(dirname "$2")"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase "$1" "$root" "$mirror" >/dev/null
# As the public images have it: no list of packages, and none of them kept.
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb
apt-config dump | grep -E '^Acquire::(https?::|Check-)' >"$root/etc/apt/apt.conf.d/90this-machine" || true
chmod 755 "$root" # mktemp's folder is its maker's alone
tar -C "$root" -czf "$2.new" .
mv "$2.new" "$2"
