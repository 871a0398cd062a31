"""Values that can never work are refused where they are read, with the form that can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stubs import NEEDED, planned

from envstart.errors import ConfigError


def read(tmp_path: Path, backend: str, key: str, value: str) -> Any:
    """Return the value as a plan has it."""
    return planned(tmp_path, backend, **{**NEEDED[backend], key: value}).config.value(key)


REFUSED = [
    ("ceph", "CEPH_USER", "client.host1", "has client. before it: write host1 alone"),
    ("rbd", "CEPH_USER", "mds.a", "has mds. before it: it is no client's"),
    ("ceph", "CEPH_MONITORS", "10.0.0.1:66000", "a port is a number from 1 to 65535"),
    ("ceph", "CEPH_MONITORS", "10.0.0.1:", "a port is a number from 1 to 65535"),
    ("ceph", "CEPH_MONITORS", ":6789", "not HOST or HOST:PORT"),
    ("ceph", "CEPH_FS_NAME", "a/b", "has something else than"),
    ("ceph", "CEPH_ROOT_DIR", "jails", "is not an absolute path"),
    ("rbd", "RBD_IMAGE", "rbd/a@snap", "names a snapshot"),
    ("rbd", "RBD_IMAGE", "a", "write POOL/IMAGE"),
    (
        "gluster",
        "GLUSTER_VOLUME",
        "gv0/data",
        "write the volume alone, as in gv0; a directory in it is GLUSTER_ROOT_DIR's",
    ),
    ("gluster", "GLUSTER_VOLUME", "/gv0", "write the volume alone"),
    ("gluster", "GLUSTER_SERVER", "gfs1:/gv0", "is no host name"),
    ("gluster", "GLUSTER_SERVER", "10.0.0.256", "is no IPv4 address"),
    ("gluster", "MOUNT_GLUSTERFS_OPT", "ro,rw", "has both ro and rw"),
    ("hast", "HAST_RESOURCE", "/dev/hast/x", "write the resource's name, not its device"),
    ("hast", "HAST_RESOURCE", "all", "calls every resource"),
    ("iscsi", "ISCSI_PORTAL", "10.0.0.1:0", "a port is a number from 1 to 65535"),
    ("iscsi", "ISCSI_PORTAL", "10.0.0.1:iscsi", "a port is a number from 1 to 65535"),
    ("iscsi", "ISCSI_PORTAL", ":3260", "not HOST or HOST:PORT"),
    ("iscsi", "ISCSI_PORTAL", "[2001:db8::1", "not HOST or HOST:PORT"),
    ("iscsi", "ISCSI_PORTAL", "2001:db8::1::2", "is no IPv6 address"),
    ("iscsi", "ISCSI_PORTAL", "10.0.0.1.2", "is no IPv4 address"),
    ("iscsi", "ISCSI_TARGET", "iqn.", "is no iSCSI name"),
    ("iscsi", "ISCSI_TARGET", "eui.0123", "after eui. 16 hexadecimal digits follow"),
    ("iscsi", "ISCSI_TARGET", "naa.52004567ba64678x", "is no iSCSI name"),
    ("iscsi", "ISCSI_LUN", "-1", "is invalid: expected"),
    ("iscsi", "ISCSI_LUN", "16384", "is invalid: expected"),
    ("iscsi", "VOLUME_OPTIONS", "rw ro", "has both ro and rw"),
    ("geli", "GELI_PROVIDER", "/dev/gpt/x.eli", "write what is encrypted, /dev/gpt/x"),
    ("geli", "GELI_PROVIDER", "/dev/", "is a directory"),
    ("geli", "GELI_PROVIDER", "gpt/x", "is not an absolute path"),
    ("geli", "GELI_KEYFILE", "k", "is not an absolute path"),
    ("nullfs", "NULLFS_ROOT_DIR", "z", "is not an absolute path"),
    ("nullfs", "MOUNT_NULLFS_OPT", "-orw -oro", "has both ro and rw"),
    ("nullfs", "ZFS_CLONE", "/tank/x", "is no dataset"),
    ("nfs", "NFS_SERVER", "nfs://nas", "the path goes into NFS_SERVER_ROOT_DIR"),
    ("nfs", "NFS_SERVER", "nas:/nfs", "the path goes into NFS_SERVER_ROOT_DIR"),
    ("nfs", "NFS_SERVER", "nas:2049", "a port goes into MOUNT_NFS_OPT, as -oport=2049"),
    ("nfs", "NFS_SERVER", "172.16.0.256", "is no IPv4 address"),
    ("nfs", "NFS_SERVER", "172.16.0.1.1", "is no IPv4 address"),
    ("nfs", "NFS_SERVER", "nas..example.com", "is no host name"),
    ("nfs", "NFS_SERVER", "fd00::1::2", "is no IPv6 address"),
    ("nfs", "NFS_SERVER", "[nas]", "is no host name"),
    ("nfs", "MOUNT_NFS_OPT", "-orw -oro", "has both ro and rw"),
    ("nfs", "MOUNT_NFS_OPT", "-oport=nfs", "has port=nfs, which is no number"),
    ("nfs", "MOUNT_NFS_OPT", "-oport=0", "which is no port"),
    ("nfs", "MOUNT_NFS_OPT", "-orsize=32k", "has rsize=32k, which is no number"),
    ("nfs", "MOUNT_NFS_OPT", "-oproto=ipv6", "of protocols there is tcp, udp, tcp6"),
]


@pytest.mark.parametrize(("backend", "key", "value", "words"), REFUSED, ids=[" ".join(row[1:3]) for row in REFUSED])
def test_case_c18_a_value_that_can_never_work(tmp_path: Path, backend: str, key: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, backend, key, value)
    assert f"{key}='{value}' " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "key", "value", "meaning"),
    [
        ("ceph", "CEPH_USER", "clienthost1", "clienthost1"),
        ("ceph", "CEPH_USER", "jails.host1", "jails.host1"),
        (
            "ceph",
            "CEPH_MONITORS",
            "mon1 10.0.0.2:6789 [2001:db8::1]:3300",
            ("mon1", "10.0.0.2:6789", "[2001:db8::1]:3300"),
        ),
        ("ceph", "CEPH_MONITORS", "v2:10.0.0.2:3300", ("v2:10.0.0.2:3300",)),
        (
            "iscsi",
            "ISCSI_PORTAL",
            "san 2001:db8::1 [2001:db8::2] san:860",
            ("san", "2001:db8::1", "[2001:db8::2]", "san:860"),
        ),
        ("iscsi", "ISCSI_TARGET", "iqn.2012-06.com.Example:Jail_1", "iqn.2012-06.com.Example:Jail_1"),
        ("iscsi", "ISCSI_TARGET", "eui.02004567A425678D", "eui.02004567A425678D"),
        ("gluster", "GLUSTER_SERVER", "gfs1 10.0.0.2", ("gfs1", "10.0.0.2")),
        ("nfs", "NFS_SERVER", "nas-1.example.com.", "nas-1.example.com."),
        ("nfs", "NFS_SERVER", "127.1", "127.1"),
        ("nfs", "NFS_SERVER", "fe80::1%em0", "[fe80::1%em0]"),
        ("nfs", "NFS_SERVER", "::ffff:10.0.0.1", "[::ffff:10.0.0.1]"),
        ("nfs", "MOUNT_NFS_OPT", "-oport=2050,rdirplus", ("port=2050", "rdirplus")),
        ("geli", "GELI_PROVIDER", "/images/x.eli", "/images/x.eli"),
    ],
)
def test_case_c18_a_value_that_can_work(tmp_path: Path, backend: str, key: str, value: str, meaning: object) -> None:
    """An upper case letter in an iSCSI name is taken: ctld(8) compares without case, iscsictl(8) only warns."""
    assert read(tmp_path, backend, key, value) == meaning
