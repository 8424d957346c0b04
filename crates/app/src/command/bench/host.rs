//! The machine that the figures are of.

use std::path::Path;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Host {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    /// Of the folder that is written to.
    pub file_system: String,
    pub sqlite: &'static str,
}

impl Host {
    pub fn of(scratch: &Path) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let path = scratch.canonicalize().unwrap_or_else(|_| scratch.to_owned());
        Self {
            cpu: cpu_in(&read("/proc/cpuinfo")).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: match read("/proc/sys/kernel/osrelease").trim() {
                "" => std::env::consts::OS.to_owned(),
                release => format!("{} {release}", std::env::consts::OS),
            },
            file_system: file_system_in(&read("/proc/mounts"), &path).unwrap_or_else(unknown),
            sqlite: rusqlite::version(),
        }
    }

    pub fn print(&self) {
        let Self { cpu, cores, kernel, file_system, sqlite } = self;
        say!("{cpu}, {cores} cores, {kernel}, {file_system}, SQLite {sqlite}");
    }
}

fn cpu_in(cpuinfo: &str) -> Option<String> {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(model.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}

/// Of the mount that is nearest above the path; of two at the same place, the later one hides the earlier.
fn file_system_in(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        path.starts_with(at).then(|| (at.len(), format!("{kind} on {device}")))
    });
    mounts.max_by_key(|(length, _)| *length).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_nearest_mount() {
        let mounts = "rootfs / rootfs rw 0 0\n/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/deep xfs rw 0 0\n";
        for (path, expected) in [
            ("/work/x", Some("ext4 on /dev/vda")),
            ("/tmp/x", Some("tmpfs on tmpfs")),
            ("/tmpx", Some("ext4 on /dev/vda")),
            ("/tmp/deep/x", Some("xfs on /dev/vdb")),
            ("relative", None),
        ] {
            assert_eq!(file_system_in(mounts, Path::new(path)).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_processor_is_named_where_it_is() {
        assert_eq!(
            cpu_in("processor\t: 0\nmodel name\t: Xeon (R) 7\nflags : x\n").as_deref(),
            Some("Xeon (R) 7")
        );
        assert_eq!(cpu_in("processor\t: 0\n"), None);
    }
}
