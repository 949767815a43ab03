#!/usr/bin/env python3
"""Verifies a bundle or a directory of Guard's evidence log, by docs/evidence.md alone.

Python's standard library and nothing else; it shares no code with Guard. Exit status 0: it holds;
1: it does not, and a line says where.

    verify.py (BUNDLE.tar | DIRECTORY) VERIFIER_KEY
"""

import base64
import hashlib
import json
import os
import struct
import sys
import tarfile

ERASED = 0xFFFFFFFF
EMPTY = hashlib.sha256(b"").digest()


class Bad(Exception):
    pass


def need(condition, problem):
    if not condition:
        raise Bad(problem)


# --- Ed25519, RFC 8032, verification only -----------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g = 2 * a[3] * b[3] * D % P
    h = 2 * a[2] * b[2] % P
    w, x, y, z = f - e, h - g, h + g, f + e
    return (w * x % P, y * z % P, x * y % P, w * z % P)


def times(n, point):
    out = (0, 1, 1, 0)
    while n:
        if n & 1:
            out = add(out, point)
        point, n = add(point, point), n >> 1
    return out


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    need(y < P, "a point out of range")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    need((x * x - square) % P == 0, "not a point")
    need(x or not sign, "not a point")
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


Y = 4 * pow(5, P - 2, P) % P
BASE = decompress((Y).to_bytes(32, "little"))


def signed(public, message, signature):
    try:
        need(len(signature) == 64, "a signature of another length")
        a, r = decompress(public), decompress(signature[:32])
    except Bad:
        return False
    s = int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = times(s, BASE), add(r, times(k, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (
        left[1] * right[2] - right[1] * left[2]
    ) % P == 0


# --- Notes, checkpoints, keys -----------------------------------------------------------------


def b64(text):
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, "base64 that is not canonical")
    return data


class Key:
    def __init__(self, text):
        self.text = text
        self.name, self.id, key = text.split("+", 2)
        key = b64(key)
        need(key[:1] == b"\x01" and len(key) == 33, "not an Ed25519 verifier key")
        self.public = key[1:]
        digest = hashlib.sha256(self.name.encode() + b"\n" + key).digest()
        need(digest[:4].hex() == self.id, "a key's id is not its own")


class Checkpoint:
    def __init__(self, data):
        text = data.decode()
        body, found, lines = text.partition("\n\n")
        need(found and text.endswith("\n"), "a checkpoint without signatures")
        self.body = body + "\n"
        parts = body.split("\n")
        need(len(parts) == 3, "a checkpoint has three lines")
        self.origin, self.size, self.root = parts[0], int(parts[1]), b64(parts[2])
        need(str(self.size) == parts[1] and len(self.root) == 32, "a malformed checkpoint")
        self.signatures = []
        for line in lines.splitlines():
            dash, name, value = line.split(" ")
            need(dash == "\u2014", "a malformed signature line")
            value = b64(value)
            self.signatures.append((name, value[:4].hex(), value[4:]))

    def by(self, key):
        return key.name == self.origin and any(
            (name, id) == (key.name, key.id) and signed(key.public, self.body.encode(), value)
            for name, id, value in self.signatures
        )


class Trust:
    """Keys, each with the size up to which it signs."""

    def __init__(self, key):
        self.keys = [(key, float("inf"))]

    def check(self, checkpoint, where):
        good = any(checkpoint.size <= until and checkpoint.by(key) for key, until in self.keys)
        need(good, where + ": not signed by a key that counts")

    def hand_over(self, checkpoint, payload):
        record = json.loads(payload)
        need(record["event"] == "log_key_rotated", "a handover that names no key")
        old = [key for key, until in self.keys if key.text == record["old"]]
        if not old:
            return
        new = Key(record["new"])
        need(checkpoint.by(old[0]) and checkpoint.by(new), "a handover not signed by both keys")
        self.keys = [
            (key, checkpoint.size if key is old[0] else until) for key, until in self.keys
        ] + [(new, float("inf"))]


# --- Trees, RFC 6962 --------------------------------------------------------------------------


def leaf_hash(data):
    return hashlib.sha256(b"\0" + data).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def split(n):
    return 1 << (n - 1).bit_length() - 1


def range_root(low, high, start, leaves, proof):
    if high <= start or low >= start + len(leaves):
        need(proof, "the range's proof is too short")
        return proof.pop(0)
    if high - low == 1:
        return leaves[low - start]
    middle = low + split(high - low)
    left = range_root(low, middle, start, leaves, proof)
    return node(left, range_root(middle, high, start, leaves, proof))


def inclusion_root(index, size, leaf, proof):
    if size == 1:
        need(not proof, "an inclusion proof that is too long")
        return leaf
    need(proof, "an inclusion proof that is too short")
    half = split(size)
    if index < half:
        return node(inclusion_root(index, half, leaf, proof[:-1]), proof[-1])
    return node(proof[-1], inclusion_root(index - half, size - half, leaf, proof[:-1]))


def consistent(old, new, proof):
    if old.size == 0 or old.size == new.size:
        return not proof and (old.size == 0 or old.root == new.root)

    def roots(m, n, proof, whole):
        if m == n:
            if whole:
                return old.root, old.root
            need(len(proof) == 1, "a consistency proof of another length")
            return proof[0], proof[0]
        need(proof, "a consistency proof that is too short")
        half = split(n)
        if m <= half:
            a, b = roots(m, half, proof[:-1], whole)
            return a, node(b, proof[-1])
        a, b = roots(m - half, n - half, proof[:-1], False)
        return node(proof[-1], a), node(proof[-1], b)

    need(old.size < new.size, "a checkpoint newer than the last")
    return roots(old.size, new.size, proof, True) == (old.root, new.root)


# --- Entries ----------------------------------------------------------------------------------


def leaves_of(name, data):
    at, out = 0, []
    while at < len(data):
        (length,) = struct.unpack_from(">H", data, at)
        need(at + 2 + length <= len(data), name + ": ends inside entry %d of it" % len(out))
        out.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return out


def payloads_of(name, data):
    at, out = 0, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        at += 4
        if length == ERASED:
            out.append(None)
            continue
        need(at + 32 + length <= len(data), name + ": ends inside payload %d of it" % len(out))
        out.append((data[at : at + 32], data[at + 32 : at + 32 + length]))
        at += 32 + length
    return out


class Chain:
    """Hosts' chains and payloads, entry by entry."""

    def __init__(self, start):
        self.whole, self.index = start == 0, start
        self.prev, self.sequence, self.time, self.erased = {}, {}, 0, 0

    def entry(self, leaf, payload):
        where = "entry %d: " % self.index
        said = json.loads(leaf)
        need(json.dumps(said, separators=(",", ":")).encode() == leaf, where + "its bytes")
        need(said["v"] == 1, where + "its version")
        need(said["time"] >= self.time, where + "logged before the entry before it")
        self.time = said["time"]
        if payload is None:
            self.erased += 1
        else:
            digest = hashlib.sha256(payload[0] + payload[1]).hexdigest()
            need(digest == said["payload"], where + "its payload is not what was logged")
        host, boot = said["host"], (said["host"], said["boot"])
        prev = self.prev.get(host, "00" * 32 if self.whole else said["prev"])
        need(said["prev"] == prev, where + "its host's chain")
        due = self.sequence.get(boot, 0 if self.whole else said["seq"] - 1) + 1
        need(said["seq"] == due, where + "a gap in its host's sequence")
        self.prev[host], self.sequence[boot] = leaf_hash(leaf).hex(), said["seq"]
        self.index += 1


def bundle(path, key):
    with tarfile.open(path, "r:") as archive:
        files = {}
        for member in archive:
            need(member.isfile() and member.name not in files, member.name + ": unexpected")
            files[member.name] = archive.extractfile(member).read()
    text = files["guard-bundle"].decode()
    lines = text.split("\n")
    start, end = int(lines[1].split("from ")[1]), int(lines[2].split("to ")[1])
    need(text == "guard-bundle@v1\nfrom %d\nto %d\n" % (start, end), "guard-bundle: malformed")

    def hashes(name):
        lines = files[name].decode().split("\n")
        need(lines.pop() == "", name + ": its last line has no end")
        return [b64(line) for line in lines]

    head, trust = Checkpoint(files["checkpoint"]), Trust(key)
    for line in files["keys"].decode().splitlines():
        Key(line)
    for name in sorted(files):
        if name.startswith("handover/") and name.endswith(".tlog-proof"):
            stem = name[: -len(".tlog-proof")]
            text, _, note = files[name].decode().partition("\n\n")
            first, index, *proof = text.split("\n")
            need(first == "c2sp.org/tlog-proof@v1", name)
            older, index = Checkpoint(note.encode()), int(index.split("index ")[1])
            need(index + 1 == older.size, name + ": not the last entry")
            leaf = files[stem + ".leaf"]
            root = inclusion_root(index, older.size, leaf_hash(leaf), [b64(h) for h in proof])
            need(root == older.root, name + ": not in its tree")
            need(consistent(older, head, hashes(stem + ".consistency")), name + ": another log")
            salt, payload = payloads_of(stem + ".payload", files[stem + ".payload"])[0]
            digest = hashlib.sha256(salt + payload).hexdigest()
            need(digest == json.loads(leaf)["payload"], name + ": its payload")
            trust.hand_over(older, payload)
    trust.check(head, "checkpoint")
    if "checkpoint.cosigned" in files:
        seen = Checkpoint(files["checkpoint.cosigned"])
        proof = hashes("checkpoint.cosigned.consistency")
        need(consistent(seen, head, proof), "checkpoint.cosigned: another log")
    chain, found = Chain(start), []
    while chain.index < end:
        at = "%020d" % chain.index
        leaves = leaves_of("entries/" + at, files["entries/" + at])
        payloads = payloads_of("payloads/" + at, files["payloads/" + at])
        need(leaves and len(leaves) == len(payloads), at + ": entries and payloads differ")
        for leaf, payload in zip(leaves, payloads):
            chain.entry(leaf, payload)
            found.append(leaf_hash(leaf))
    need(chain.index == end and end <= head.size, "entries beyond the range")
    proof = hashes("range-proof")
    root = range_root(0, head.size, start, found, proof)
    need(root == head.root and not proof, "the entries are not those of the signed tree")
    return end - start, chain.erased


def tile_path(number):
    text = "%03d" % (number % 1000)
    while number >= 1000:
        number //= 1000
        text = "x%03d/%s" % (number % 1000, text)
    return text


def directory(path, key):
    def read(name, number, width):
        stem = os.path.join(path, name, tile_path(number))
        for file in ([] if width == 256 else ["%s.p/%d" % (stem, width)]) + [stem]:
            if os.path.exists(file):
                with open(file, "rb") as opened:
                    return file, opened.read()
        raise Bad(stem + " is missing")

    with open(os.path.join(path, "checkpoint"), "rb") as opened:
        head = Checkpoint(opened.read())
    need(head.by(key), "checkpoint: not signed by the key")
    chain, hashes = Chain(0), []
    for number in range((head.size + 255) // 256):
        width = min(256, head.size - number * 256)
        file, data = read("tile/entries", number, width)
        with open(os.path.join(path, "payload", tile_path(number)), "rb") as opened:
            payloads = payloads_of(opened.name, opened.read())
        leaves = leaves_of(file, data)[:width]
        need(len(leaves) == width and len(payloads) >= width, "entries are missing")
        for leaf, payload in zip(leaves, payloads):
            chain.entry(leaf, payload)
        hashes += [leaf_hash(leaf) for leaf in leaves]
    level, row = 0, hashes
    while row:
        for number in range((len(row) + 255) // 256):
            part = row[number * 256 : number * 256 + 256]
            file, data = read("tile/%d" % level, number, len(part))
            need(data[: 32 * len(part)] == b"".join(part), file + ": not its entries' hashes")
        full = [row[i * 256 : i * 256 + 256] for i in range(len(row) // 256)]
        level, row = level + 1, [range_root(0, 256, 0, part, []) for part in full]
    root = range_root(0, head.size, 0, hashes, []) if hashes else EMPTY
    need(root == head.root, "checkpoint: not the tree of the entries")
    return head.size, chain.erased


def main():
    what = sys.argv[1]
    try:
        key = Key(sys.argv[2])
        entries, erased = (directory if os.path.isdir(what) else bundle)(what, key)
    except Bad as problem:
        print("refused: %s" % problem)
        return 1
    except (KeyError, ValueError, IndexError, struct.error, OSError, tarfile.TarError) as error:
        print("refused: malformed: %s: %s" % (type(error).__name__, error))
        return 1
    print("accepted: %d entries, %d erased" % (entries, erased))
    return 0


if __name__ == "__main__":
    sys.exit(main())
