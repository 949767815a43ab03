//! libFuzzer's driver, called as a library: one binary has all targets.

use anyhow::Result;
use guard_fuzz::Target;
use std::{
    ffi::{CString, c_char, c_int},
    sync::OnceLock,
};

type Callback = extern "C" fn(*const u8, usize) -> c_int;

unsafe extern "C" {
    /// `compiler-rt/lib/fuzzer/FuzzerInterface.h` of LLVM 22.
    fn LLVMFuzzerRunDriver(
        argc: *mut c_int,
        argv: *mut *mut *mut c_char,
        callback: Callback,
    ) -> c_int;
}

static TARGET: OnceLock<Target> = OnceLock::new();

/// One input. A panic cannot leave an `extern "C"` function: it aborts, and libFuzzer keeps the input.
extern "C" fn one_input(data: *const u8, size: usize) -> c_int {
    // SAFETY: libFuzzer passes `size` readable bytes, and a pointer that may be null for none.
    let bytes = if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, size) } };
    if let Some(target) = TARGET.get() {
        (target.run)(bytes);
    }
    0
}

/// Runs `target` with libFuzzer's own options; does not return.
pub(crate) fn run(target: Target, options: &[&str]) -> Result<()> {
    TARGET.get_or_init(|| target);
    let own = ["guard-fuzz".to_owned(), format!("-max_len={}", target.max_len)];
    let all = own.into_iter().chain(options.iter().map(|option| (*option).to_owned()));
    let args = all.map(CString::new).collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<*mut c_char> = args.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
    let mut argc = c_int::try_from(pointers.len())?;
    pointers.push(std::ptr::null_mut());
    let mut argv = pointers.as_mut_ptr();
    // SAFETY: `argc` strings that live as long as `args`, then a null pointer, as main() gets them; libFuzzer
    // does not write to the strings.
    let status = unsafe { LLVMFuzzerRunDriver(&raw mut argc, &raw mut argv, one_input) };
    std::process::exit(status)
}
