//! What the programs cost the kernel's verifier.

use crate::{
    Trouble,
    scenario::{Stage, expect},
    system, verified,
};
use guard_vm_wire::budget::{parse, problems};

/// By the beginning of the kernel's release.
const BUDGETS: [(&str, &str); 4] = [
    ("6.1.", include_str!("../../../../budgets/6.1.toml")),
    ("6.12.", include_str!("../../../../budgets/6.12.toml")),
    ("6.18.", include_str!("../../../../budgets/6.18.toml")),
    ("7.3.", include_str!("../../../../budgets/7.3.toml")),
];

pub(super) fn within(_: &mut Stage) -> Result<(), Trouble> {
    let release = system::kernel_release();
    let budget = BUDGETS.iter().find(|(kernel, _)| release.starts_with(kernel));
    let (_, text) = budget.ok_or_else(|| format!("no budget for Linux {release}"))?;
    let found = problems(&verified::programs()?, &parse(text)?);
    let renew = "if that is as it should be: `cargo xtask budgets --write`";
    expect(found.is_empty(), format!("{}; {renew}", found.join("; ")))
}
