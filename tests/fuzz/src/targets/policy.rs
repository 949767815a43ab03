//! Policy text.

use guard_policy::{Policy, PolicySource};

pub(crate) fn run(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let source = PolicySource { file: "fuzz.cedar".into(), text: text.to_owned() };
    match Policy::load(std::slice::from_ref(&source)) {
        Ok(policy) => {
            assert_eq!(policy.sources(), [source], "a policy keeps what it was read from");
            true
        }
        Err(error) => {
            assert!(error.to_string().contains("fuzz.cedar"), "it names the file: {error}");
            false
        }
    }
}
