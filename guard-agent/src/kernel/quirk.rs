//! Where kernels differ in what they keep.

/// The first release of Debian's 6.12 that was seen to keep it. Earlier ones may, nobody has looked.
const KEPT_SINCE_6_12: u32 = 117;

/// Whether a failed fork may free the storage of its parent: seen on 6.1.0-50 and 6.18.15, not on 6.12.117 and
/// 7.3.4. It is a mend that some stable series have, so a higher number is no proof: what was not seen to keep
/// it, or has a release that cannot be read, is taken for one that does not.
pub(super) fn loses_task_storage(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(6)), Some(Ok(12)), Some(Ok(patch))) => patch < KEPT_SINCE_6_12,
        (Some(Ok(major)), Some(Ok(minor)), _) => (major, minor) < (7, 3),
        _ => true,
    }
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
