//! How much of its 512 bytes of stack a program uses, by its instructions: the deepest chain of its functions.
//!
//! The kernel's own figure is in a log that loaders drop when all went well, and is rounded up per function.

use std::collections::{BTreeMap, BTreeSet};

// include/uapi/linux/bpf.h and bpf_common.h.
const CLASS: u8 = 0x07;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const LD_IMM64: u8 = 0x18;
const CALL: u8 = 0x85;
const MOV64_REG: u8 = 0xbf;
const ADD64_IMM: u8 = 0x07;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
/// `src_reg` of a call of a function, and of its address.
const PSEUDO_CALL: usize = 1;
const PSEUDO_FUNC: usize = 4;
/// The frame's end.
const FRAME: usize = 10;
/// Most functions that call one another: the verifier's own limit is 8.
const CHAIN_MAX: usize = 8;

struct Instruction {
    code: u8,
    dst: usize,
    src: usize,
    off: i16,
    imm: i32,
}

/// Bytes of the deepest chain. `None`: these are no instructions of a program.
pub(crate) fn depth(bytes: &[u8]) -> Option<u64> {
    let program: Vec<_> = bytes.chunks_exact(8).map(read).collect::<Option<_>>()?;
    let calls = calls(&program)?;
    let mut starts: BTreeSet<usize> = calls.iter().map(|(_, to)| *to).collect();
    starts.insert(0);
    let function_of = |at: usize| starts.range(..=at).next_back().copied();
    let mut frames: BTreeMap<usize, u64> = BTreeMap::new();
    for start in &starts {
        let end = starts.range(start + 1..).next().copied().unwrap_or(program.len());
        frames.insert(*start, frame(program.get(*start..end)?));
    }
    let mut callees: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (at, to) in calls {
        callees.entry(function_of(at)?).or_default().insert(to);
    }
    chain(0, &frames, &callees, CHAIN_MAX)
}

fn read(bytes: &[u8]) -> Option<Instruction> {
    let [code, regs, off0, off1, imm @ ..] = bytes else { return None };
    Some(Instruction {
        code: *code,
        dst: usize::from(regs & 0xf),
        src: usize::from(regs >> 4),
        off: i16::from_ne_bytes([*off0, *off1]),
        imm: i32::from_ne_bytes(imm.try_into().ok()?),
    })
}

/// Where functions are called or given on, and which.
fn calls(program: &[Instruction]) -> Option<Vec<(usize, usize)>> {
    let mut calls = Vec::new();
    let mut at = 0;
    while let Some(one) = program.get(at) {
        let distance = match (one.code, one.src) {
            // Compiled: the distance is where a jump has it, and the number of the function behind.
            (CALL, PSEUDO_CALL) if one.off != 0 => Some(i64::from(one.off)),
            (CALL, PSEUDO_CALL) | (LD_IMM64, PSEUDO_FUNC) => Some(i64::from(one.imm)),
            _ => None,
        };
        if let Some(distance) = distance {
            let to = usize::try_from(at as i64 + 1 + distance).ok()?;
            calls.push((at, to));
        }
        at += if one.code == LD_IMM64 { 2 } else { 1 };
    }
    Some(calls)
}

/// The deepest byte that a function names.
fn frame(function: &[Instruction]) -> u64 {
    let mut deepest = 0;
    let mut copies = [false; 16];
    copies[FRAME] = true;
    for one in function {
        let below = match one.code & CLASS {
            LDX if copies[one.src] => one.off.into(),
            ST | STX if copies[one.dst] => one.off.into(),
            _ if one.code == ADD64_IMM && copies[one.dst] => one.imm,
            _ => 0,
        };
        deepest = deepest.max(u64::from(below.min(0).unsigned_abs()));
        match one.code & CLASS {
            ST | STX | JMP | JMP32 => {}
            _ => copies[one.dst] = one.code == MOV64_REG && one.src == FRAME,
        }
    }
    deepest
}

fn chain(
    function: usize,
    frames: &BTreeMap<usize, u64>,
    callees: &BTreeMap<usize, BTreeSet<usize>>,
    left: usize,
) -> Option<u64> {
    let left = left.checked_sub(1)?;
    let mut below = 0;
    for callee in callees.get(&function).into_iter().flatten() {
        below = below.max(chain(*callee, frames, callees, left)?);
    }
    Some(frames.get(&function)? + below)
}

#[cfg(test)]
mod tests {
    use super::depth;

    /// `code`, destination and source, offset, number.
    fn program(instructions: &[(u8, u8, i16, i32)]) -> Vec<u8> {
        let one = |(code, regs, off, imm): &(u8, u8, i16, i32)| {
            let mut bytes = vec![*code, *regs];
            bytes.extend(off.to_ne_bytes());
            bytes.extend(imm.to_ne_bytes());
            bytes
        };
        instructions.iter().flat_map(one).collect()
    }

    const EXIT: (u8, u8, i16, i32) = (0x95, 0, 0, 0);

    #[test]
    fn stores_and_addresses_of_the_frame_count() {
        // *(u64 *)(r10 - 8) = r1; r2 = r10; r2 += -64; r3 += -400 is of no frame.
        let stored = (0x7b, 0x1a, -8, 0);
        assert_eq!(depth(&program(&[stored, EXIT])), Some(8));
        let address = [(0xbf, 0xa2, 0, 0), (0x07, 0x02, 0, -64), (0x07, 0x03, 0, -400), EXIT];
        assert_eq!(depth(&program(&address)), Some(64));
    }

    #[test]
    fn functions_that_call_one_another_add_up_and_the_deepest_chain_counts() {
        let calls = |off, imm| (0x85, 0x10, off, imm);
        let uses = |bytes: i16| (0x7b, 0x1a, -bytes, 0);
        // The first calls both; the second is the deeper one.
        let whole = [uses(16), calls(2, 1), calls(0, 3), EXIT, uses(32), EXIT, uses(100), EXIT];
        assert_eq!(depth(&program(&whole)), Some(116));
        // A callback is given on by its address, which takes two places.
        let callback = [uses(8), (0x18, 0x41, 0, 2), (0, 0, 0, 0), EXIT, uses(24), EXIT];
        assert_eq!(depth(&program(&callback)), Some(32));
    }

    #[test]
    fn what_is_no_program_has_no_depth() {
        assert_eq!(depth(&program(&[(0x85, 0x10, 900, 0), EXIT])), None);
        // A function that calls itself.
        assert_eq!(depth(&program(&[(0x85, 0x10, -1, 0), EXIT])), None);
    }
}
