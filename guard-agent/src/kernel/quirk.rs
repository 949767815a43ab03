//! Where kernels differ in what they keep.

/// Whether a failed fork frees the storage of its parent: seen on 6.1, not on 6.12. Every kernel before
/// the latter is taken for one that does, and so is one whose release cannot be read.
pub(super) fn loses_task_storage(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (6, 12),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::loses_task_storage;

    #[test]
    fn a_kernel_that_may_lose_labels_keeps_them_twice() {
        for release in ["6.1.0-50-cloud-amd64", "5.15.0", "6.11.9", "", "linux", "6"] {
            assert!(loses_task_storage(release), "{release}");
        }
        for release in ["6.12.117+deb13-cloud-amd64", "6.18.0", "7.3.4+deb13-cloud-amd64"] {
            assert!(!loses_task_storage(release), "{release}");
        }
    }
}
