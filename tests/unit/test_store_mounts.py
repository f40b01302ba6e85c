import os
from pathlib import Path

from services.common.storage.files import OPEN_FOLDER
from services.common.storage.mounts import (
    Mount,
    declared_mount_point,
    is_above,
    mount_point,
    parse_fstab,
    parse_mountinfo,
)

MOUNTINFO = rb"""27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
42 27 7:0 / /mnt/my\040disk rw,relatime shared:1 master:2 - ext4 /dev/loop0 rw
43 42 0:50 /a /mnt/my\040disk/b rw - autofs systemd-1 rw,fd=1
odd line
"""

FSTAB = rb"""# /etc/fstab
UUID=1	/		ext4	errors=remount-ro 0 1
UUID=2	none		swap	sw 0 0
LABEL=my\040faces  /mnt/my\040disk/  exfat  noauto,nofail
server:/faces /srv/faces nfs4
  #/dev/sdb1 /mnt/off ext4 defaults
short
"""


def test_mountinfo_is_read_with_its_escapes_and_optional_fields() -> None:
    assert parse_mountinfo(MOUNTINFO) == {
        "27": Mount("1", Path("/"), "ext4"),
        "42": Mount("27", Path("/mnt/my disk"), "ext4"),
        "43": Mount("42", Path("/mnt/my disk/b"), "autofs"),
    }


def test_fstab_tells_its_mount_points() -> None:
    assert parse_fstab(FSTAB) == [Path("/"), Path("/mnt/my disk"), Path("/srv/faces")]


def test_what_the_kernel_says_of_proc_is_that_it_is_mounted_there() -> None:
    for path in ("/proc", "/proc/self"):
        descriptor = os.open(path, OPEN_FOLDER)
        assert mount_point(descriptor) == Path("/proc")
        os.close(descriptor)


def test_a_descriptor_that_is_none_lies_nowhere() -> None:
    assert mount_point(1_000_000) == Path("/")
    assert declared_mount_point(Path("/no/such/disk")).is_absolute()


def test_a_folder_is_above_what_lies_in_it_alone() -> None:
    assert is_above(Path("/"), Path("/mnt/disk"))
    assert is_above(Path("/mnt"), Path("/mnt/disk"))
    assert not is_above(Path("/mnt/disk"), Path("/mnt/disk"))
    assert not is_above(Path("/mnt/disk/a"), Path("/mnt/disk"))
    assert not is_above(Path("/mnt/dis"), Path("/mnt/disk"))
