//! On what kind of file system a path lies, as the operating system's table of mounts says.
//!
//! Only judges: what follows from it is `place`'s business. Where there is no such table (it is Linux's), nothing is
//! known and nothing is refused.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// What a file system keeps of what SQLite relies on: flushes that reach a disk, locks, and memory that is shared by all
/// who have the file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Local,
    /// The upper layer of a container: a real disk, and gone with the container.
    Layered,
    /// Memory.
    Volatile,
    /// Somebody's program or a virtual machine's host stands between the file and the disk.
    Passed,
    /// Other machines may have the same files.
    Network,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub kind: Kind,
    /// As the table calls it: `ext4`, `nfs4`, …
    pub name: String,
}

const NETWORK: [&str; 24] = [
    "9p",
    "acfs",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "panfs",
    "prl_fs",
    "smb2",
    "smb3",
    "smbfs",
    "vboxsf",
    "vmhgfs",
    "weka",
];

/// Programs behind FUSE that write to another machine.
const NETWORK_PROGRAMS: [&str; 18] = [
    "blobfuse",
    "ceph",
    "curlftpfs",
    "davfs",
    "gcsfuse",
    "geesefs",
    "glusterfs",
    "goofys",
    "juicefs",
    "mountpoint-s3",
    "nfs",
    "rclone",
    "s3fs",
    "seaweedfs",
    "smbnetfs",
    "sshfs",
    "vmhgfs-fuse",
    "weed",
];

/// The file system under `path`, which is absolute and has no links in it.
pub(super) fn of(path: &Path) -> Option<Mount> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    find(&table, path)
}

/// Of what is mounted at or above the path, the nearest; of two at one place, the one mounted last.
fn find(table: &[u8], path: &Path) -> Option<Mount> {
    let mut found: Option<(usize, Mount)> = None;
    for line in table.split(|byte| *byte == b'\n') {
        let Some((point, name)) = parse(line) else { continue };
        let depth = point.components().count();
        if path.starts_with(&point) && found.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            found = Some((depth, Mount { kind: kind_of(&name), name }));
        }
    }
    found.map(|(_, mount)| mount)
}

/// The place and the kind in a line: `36 35 98:0 /root /place options [optional…] - kind source options`.
fn parse(line: &[u8]) -> Option<(PathBuf, String)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = unescaped(fields.nth(4)?);
    let mut rest = fields.skip_while(|field| *field != b"-");
    let kind = String::from_utf8_lossy(rest.nth(1)?).into_owned();
    Some((PathBuf::from(OsString::from_vec(point)), kind))
}

/// Blanks and backslashes stand as `\` and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

fn kind_of(name: &str) -> Kind {
    let program = name.strip_prefix("fuse.");
    match name {
        "tmpfs" | "ramfs" | "devtmpfs" => Kind::Volatile,
        "overlay" | "aufs" => Kind::Layered,
        "fuse" | "fuseblk" | "virtiofs" => Kind::Passed,
        _ if NETWORK.contains(&name) || program.is_some_and(|p| NETWORK_PROGRAMS.contains(&p)) => {
            Kind::Network
        }
        _ if program.is_some() => Kind::Passed,
        _ => Kind::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 25 0:27 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684092k
41 27 0:31 / /srv rw shared:5 master:2 - nfs4 filer:/export rw,vers=4.2
42 41 8:1 / /srv/local rw - xfs /dev/sda1 rw
43 27 0:32 / /mnt/old rw - ext4 /dev/sdb rw
44 27 0:33 / /mnt/old rw - cifs //server/share rw
45 27 0:34 / /mnt/with\\040blank\\134 rw - fuse.sshfs host: rw
46 27 0:35 / /mnt/drive rw - fuseblk /dev/sdc1 rw
47 27 0:36 / /var/lib/docker/x rw - overlay overlay rw
48 27 0:37 / /mnt/c rw - 9p drvfs rw
49 27 0:38 / /mnt/enc rw - fuse.gocryptfs /crypt rw
a line that is none
";

    #[test]
    fn the_nearest_mount_that_was_made_last_decides() {
        for (path, kind, name) in [
            ("/home/ana", Kind::Local, "ext4"),
            ("/dev/shm", Kind::Volatile, "tmpfs"),
            ("/dev/shm/a", Kind::Volatile, "tmpfs"),
            ("/dev/shmoo", Kind::Local, "ext4"),
            ("/srv/bot", Kind::Network, "nfs4"),
            ("/srv/local/bot", Kind::Local, "xfs"),
            ("/mnt/old/x", Kind::Network, "cifs"),
            ("/mnt/with blank\\/x", Kind::Network, "fuse.sshfs"),
            ("/mnt/drive/x", Kind::Passed, "fuseblk"),
            ("/mnt/enc/x", Kind::Passed, "fuse.gocryptfs"),
            ("/var/lib/docker/x/app", Kind::Layered, "overlay"),
            ("/mnt/c/bot", Kind::Network, "9p"),
        ] {
            let found = find(TABLE.as_bytes(), Path::new(path));
            assert_eq!(found, Some(Mount { kind, name: name.to_owned() }), "{path}");
        }
        assert_eq!(find(b"", Path::new("/")), None);
    }
}
