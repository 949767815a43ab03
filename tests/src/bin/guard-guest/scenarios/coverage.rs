//! What guard-agent says of how far it enforces.

use crate::{
    Trouble, guard,
    scenario::{Stage, expect},
    system::kernel_release,
};

/// The actions of which an attached program does not see everything, each with a reason.
pub(super) fn degraded() -> Result<Vec<String>, Trouble> {
    let status = guard::status();
    let rows = status["coverage"].as_array().ok_or_else(|| format!("no coverage: {status}"))?;
    let degraded = rows.iter().filter(|row| row["state"] == "degraded");
    let told = degraded.filter(|row| row["reason"].as_str().is_some_and(|why| !why.is_empty()));
    Ok(told.filter_map(|row| row["action"].as_str().map(str::to_owned)).collect())
}

pub(super) fn told(_: &mut Stage) -> Result<(), Trouble> {
    let mut expected = vec!["exec", "open", "map", "setid"];
    // The one of the matrix that sends files past the hook, whatever guard-agent thinks.
    if kernel_release().starts_with("6.1.") {
        expected.insert(3, "send");
    }
    let degraded = degraded()?;
    expect(degraded == expected, format!("degraded is {degraded:?}, expected {expected:?}"))?;
    let status = guard::status();
    let rows = status["coverage"].as_array().cloned().unwrap_or_default();
    let absent: Vec<_> = rows.iter().filter(|row| row["state"] == "absent").collect();
    expect(absent.is_empty(), format!("not enforced: {absent:?}"))
}
