//! Where kernels differ in what they keep.

/// The first release of Debian's 6.12 that was seen to keep it. Earlier ones may, nobody has looked.
const KEPT_SINCE_6_12: u32 = 117;

/// Whether a failed fork may free the storage of its parent: seen on 6.1.0-50 and 6.18.15, not on 6.12.117 and
/// 7.3.4. It is a mend that some stable series have, so a higher number is no proof: what was not seen to keep
/// it, or has a release that cannot be read, is taken for one that does not.
pub(super) fn loses_task_storage(release: &str) -> bool {
    match numbers(release) {
        [Some(6), Some(12), Some(patch)] => patch < KEPT_SINCE_6_12,
        _ => is_before(release, (7, 3)),
    }
}

/// Whether a release is older than another; one that cannot be read is.
pub(super) fn is_before(release: &str, other: (u32, u32)) -> bool {
    match numbers(release) {
        [Some(major), Some(minor), _] => (major, minor) < other,
        _ => true,
    }
}

/// The first three numbers of a release, as far as they are there.
fn numbers(release: &str) -> [Option<u32>; 3] {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    [(); 3].map(|()| parts.next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::loses_task_storage;

    #[test]
    fn a_kernel_that_may_lose_labels_keeps_them_twice() {
        for release in [
            "6.1.0-50-cloud-amd64",
            "5.15.0",
            "6.11.9",
            "6.12.0",
            "6.12-rc1",
            "6.18.15+deb13-cloud-amd64",
            "6.18.0",
            "7.2.9",
            "",
            "linux",
            "6",
        ] {
            assert!(loses_task_storage(release), "{release}");
        }
        for release in ["6.12.117+deb13-cloud-amd64", "7.3.4+deb13-cloud-amd64", "7.10.0"] {
            assert!(!loses_task_storage(release), "{release}");
        }
    }
}
