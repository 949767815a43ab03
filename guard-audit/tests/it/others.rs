//! Crates that are not ours and that the writer does not use: ct-merkle for the tree and its proofs, ring
//! for the signatures. What is left to us is to take files apart, as docs/evidence.md says.

use crate::support::{drafts, filled, key};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use guard_audit::log::{Dir, Log, LogKey, Proof, TileHashes};
use ring::{digest, signature};
use sha2_11::Sha256;
use std::{fs, path::Path};

/// Entries of the log: two complete bundles and a third.
const SIZE: u64 = 600;

/// Size and root of a checkpoint that `key` has signed.
fn signed(text: &str, key: &str) -> Result<RootHash<Sha256>, &'static str> {
    let (body, signatures) = text.split_once("\n\n").ok_or("no signature")?;
    let mut parts = key.splitn(3, '+');
    let (name, id, public) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let public = BASE64_STANDARD.decode(public).unwrap();
    assert_eq!(public[0], 1, "Ed25519");
    // signed-note: the first four bytes of SHA-256 of the name, a line's end, and the key.
    let of_key = [name.as_bytes(), b"\n", &public].concat();
    let expected = hex::encode(&digest::digest(&digest::SHA256, &of_key).as_ref()[..4]);
    assert_eq!(id, expected, "the key's id");
    let public = signature::UnparsedPublicKey::new(&signature::ED25519, &public[1..]);
    let signature = signatures
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("\u{2014} {name} ")))
        .map(|signature| BASE64_STANDARD.decode(signature).unwrap())
        .find(|signature| hex::encode(&signature[..4]) == id)
        .ok_or("not by this key")?;
    public.verify(format!("{body}\n").as_bytes(), &signature[4..]).map_err(|_| "a wrong one")?;
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(lines[0], name);
    let root: [u8; 32] = BASE64_STANDARD.decode(lines[2]).unwrap().try_into().unwrap();
    Ok(RootHash::new(root.into(), lines[1].parse().unwrap()))
}

/// Every leaf of the log, from its bundles of entries.
fn leaves(log: &Path, size: u64) -> Vec<Vec<u8>> {
    let mut leaves = Vec::new();
    while (leaves.len() as u64) < size {
        let number = leaves.len() / 256;
        let name = match size - leaves.len() as u64 {
            rest @ ..256 => format!("tile/entries/{number:03}.p/{rest}"),
            _ => format!("tile/entries/{number:03}"),
        };
        let bytes = fs::read(log.join(name)).unwrap();
        let mut rest = &bytes[..];
        while let Some((len, after)) = rest.split_first_chunk() {
            let (leaf, after) = after.split_at(usize::from(u16::from_be_bytes(*len)));
            leaves.push(leaf.to_vec());
            rest = after;
        }
    }
    leaves
}

fn tree(leaves: &[Vec<u8>]) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    leaves.iter().for_each(|leaf| tree.push(leaf.clone()));
    tree
}

fn log(dir: &Path) -> (Log<Dir>, LogKey, String) {
    let key = key();
    let (mut log, mut head) = filled(Dir::new(dir), &key, SIZE - 100);
    crate::support::commit(&mut log, &mut head, &drafts(SIZE - 100, 100)).unwrap();
    let checkpoint = fs::read_to_string(dir.join("checkpoint")).unwrap();
    (log, key, checkpoint)
}

#[test]
fn other_peoples_crates_find_the_signed_root_and_no_other_once_anything_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, key, checkpoint) = log(dir.path());
    let root = signed(&checkpoint, key.verifier().as_str()).unwrap();
    let mut leaves = leaves(dir.path(), SIZE);
    assert_eq!((root.num_leaves(), leaves.len() as u64), (SIZE, SIZE));
    assert!(tree(&leaves).root() == root);
    for at in [0, 255, 256, 599] {
        leaves[at][9] ^= 1;
        assert!(tree(&leaves).root() != root, "entry {at}, one bit");
        leaves[at][9] ^= 1;
    }
    leaves.swap(3, 4);
    assert!(tree(&leaves).root() != root, "two entries in another order");
    leaves.swap(3, 4);
    let gone = leaves.remove(300);
    assert!(tree(&leaves).root() != root, "an entry less");
    leaves.insert(300, gone);
    assert!(tree(&leaves).root() == root);
    let other = crate::support::key();
    assert_eq!(signed(&checkpoint, other.verifier().as_str()), Err("not by this key"));
    let larger = checkpoint.replacen("\n600\n", "\n601\n", 1);
    assert_eq!(signed(&larger, key.verifier().as_str()), Err("a wrong one"));
}

#[test]
fn other_peoples_crates_take_our_proofs_for_their_entry_and_tree_only() {
    let dir = tempfile::tempdir().unwrap();
    let (log, key, _) = log(dir.path());
    let storage = log.storage();
    let leaves = leaves(dir.path(), SIZE);
    for index in [0, 1, 255, 256, 511, 512, 598, 599_u64] {
        let text = Proof::make(&*storage, log.head(), index).unwrap().to_text();
        let (proof, checkpoint) = text.split_once("\n\n").unwrap();
        let mut lines = proof.lines();
        assert_eq!(lines.next(), Some("c2sp.org/tlog-proof@v1"));
        assert_eq!(lines.next(), Some(&*format!("index {index}")));
        let hashes: Vec<u8> =
            lines.flat_map(|hash| BASE64_STANDARD.decode(hash).unwrap()).collect();
        let root = signed(checkpoint, key.verifier().as_str()).unwrap();
        let proof = InclusionProof::<Sha256>::try_from_bytes(hashes).unwrap();
        let leaf = |index: u64| &leaves[usize::try_from(index).unwrap()];
        root.verify_inclusion(leaf(index), index, &proof).unwrap();
        root.verify_inclusion(leaf((index + 1) % SIZE), index, &proof).unwrap_err();
        root.verify_inclusion(leaf(index), (index + 1) % SIZE, &proof).unwrap_err();
    }
    let whole = tree(&leaves).root();
    for size in [1, 255, 256, 300, 512, 599_usize] {
        let hashes = TileHashes::new(&*storage, SIZE).consistency(size as u64).unwrap();
        let proof = ConsistencyProof::<Sha256>::try_from_bytes(hashes.concat()).unwrap();
        let before = tree(&leaves[..size]).root();
        whole.verify_consistency(&before, &proof).unwrap();
        let mut changed = leaves[..size].to_vec();
        changed[size - 1][9] ^= 1;
        whole.verify_consistency(&tree(&changed).root(), &proof).unwrap_err();
    }
}
