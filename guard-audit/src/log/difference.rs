//! What differs between two texts, line by line: for a person who reads how a policy changed.

/// Pairs of lines that are compared, at most: above it the whole text counts as replaced.
const PAIRS_MAX: usize = 4_000_000;

/// Lines that are gone (`-`) and lines that are new (`+`), in order.
pub(super) fn difference(before: &str, after: &str) -> Vec<(char, String)> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[same..], &new[same..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
    let gone = |line: &&str| ('-', (*line).to_owned());
    let come = |line: &&str| ('+', (*line).to_owned());
    if old.len().saturating_mul(new.len()) > PAIRS_MAX {
        return old.iter().map(gone).chain(new.iter().map(come)).collect();
    }
    // The longest common subsequence of what follows each pair of lines.
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for (a, left) in old.iter().enumerate().rev() {
        for (b, right) in new.iter().enumerate().rev() {
            common[a * width + b] = match left == right {
                true => common[(a + 1) * width + b + 1] + 1,
                false => common[(a + 1) * width + b].max(common[a * width + b + 1]),
            };
        }
    }
    let (mut a, mut b, mut out) = (0, 0, Vec::new());
    while let (Some(left), Some(right)) = (old.get(a), new.get(b)) {
        if left == right {
            (a, b) = (a + 1, b + 1);
        } else if common[(a + 1) * width + b] >= common[a * width + b + 1] {
            out.push(gone(left));
            a += 1;
        } else {
            out.push(come(right));
            b += 1;
        }
    }
    out.extend(old[a..].iter().map(gone));
    out.extend(new[b..].iter().map(come));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(before: &str, after: &str) -> String {
        difference(before, after).iter().map(|(sign, line)| format!("{sign}{line} ")).collect()
    }

    #[test]
    fn what_is_gone_and_what_is_new_is_said_and_nothing_else() {
        assert_eq!(lines("a\nb\nc", "a\nb\nc"), "");
        assert_eq!(lines("", "a\nb"), "+a +b ");
        assert_eq!(lines("a\nb", ""), "-a -b ");
        assert_eq!(lines("a\nb\nc\nd", "a\nx\nc\ny\nd"), "-b +x +y ");
        let many = |line: &str| format!("{line}\n").repeat(2100);
        let all = difference(&many("a"), &many("b"));
        assert_eq!(all.len(), 4200, "too many pairs: all of it is replaced");
    }

    proptest! {
        #[test]
        fn without_the_new_and_with_the_gone_lines_each_text_comes_out(
            before in prop::collection::vec("[abc]", 0..12),
            after in prop::collection::vec("[abc]", 0..12),
        ) {
            let out = difference(&before.join("\n"), &after.join("\n"));
            let count = |sign: char| out.iter().filter(|(s, _)| *s == sign).count();
            prop_assert_eq!(before.len() - count('-'), after.len() - count('+'));
            for (lines, sign) in [(&before, '-'), (&after, '+')] {
                // What it names stands in its text, in this order.
                let mut rest = lines.iter();
                for (_, line) in out.iter().filter(|(s, _)| *s == sign) {
                    prop_assert!(rest.any(|l| l == line));
                }
            }
        }
    }
}
