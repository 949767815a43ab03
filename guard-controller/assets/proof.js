// Verifies the proof of one entry in the browser: RFC 6962 hashing, C2SP tlog-proof and signed-note.
// The key is the one that was typed here, or else the one that the page came with.
"use strict";
(() => {
  const box = document.querySelector("#proof");
  if (!box) return;
  const state = document.querySelector("#proof-state");
  const facts = document.querySelector("#proof-facts");
  const trusted = document.querySelector("#trusted-key");
  const KEPT = "guard-trusted-log-key";
  const ED25519 = 1;

  const unbase64 = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const bytesOf = (text) => new TextEncoder().encode(text);
  const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (two) => parseInt(two, 16));
  const sha256 = async (...parts) =>
    new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer()));
  const node = (left, right) => sha256(Uint8Array.of(1), left, right);
  const must = (holds, otherwise) => { if (!holds) throw new Error(otherwise); };

  // RFC 9162, 2.1.3.2: the root that an inclusion proof leads to.
  const rootFrom = async (leaf, index, size, path) => {
    let [at, last, hash] = [index, size - 1, leaf];
    for (const sibling of path) {
      must(last > 0, "the proof is too long");
      if (at % 2 === 1 || at === last) {
        hash = await node(sibling, hash);
        while (at % 2 === 0 && at !== 0) [at, last] = [at / 2, Math.floor(last / 2)];
      } else {
        hash = await node(hash, sibling);
      }
      [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
    }
    must(last === 0, "the proof is too short");
    return hash;
  };

  const parse = (text) => {
    const cut = text.indexOf("\n\n");
    const head = text.slice(0, cut).split("\n");
    must(cut > 0 && head.shift() === "c2sp.org/tlog-proof@v1", "this is no tlog-proof");
    const extra = head.shift();
    must(extra?.startsWith("extra "), "the proof has no leaf");
    const index = head.shift();
    must(/^index (0|[1-9][0-9]*)$/.test(index ?? ""), "the proof has no index");
    const note = text.slice(cut + 2);
    const end = note.indexOf("\n\n");
    must(end > 0, "the checkpoint is not signed");
    const [origin, size, root] = note.slice(0, end).split("\n");
    must(/^[1-9][0-9]*$/.test(size ?? ""), "the checkpoint has no size");
    return {
      leaf: unbase64(extra.slice(6)),
      index: Number(index.slice(6)),
      path: head.map(unbase64),
      origin,
      size: Number(size),
      root: unbase64(root ?? ""),
      signed: bytesOf(note.slice(0, end + 1)),
      signatures: note.slice(end + 2).split("\n").filter((line) => line.startsWith("\u2014 ")),
    };
  };

  // NAME+HASH+BASE64: an Ed25519 key as signed-note writes it; a name may have a `+`, base64 too.
  const verifies = async (text, proof) => {
    const parts = /^(.+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text);
    must(parts, "the key is no verifier key");
    const [, name, id, encoded] = parts;
    const key = unbase64(encoded);
    must(key.length === 33 && key[0] === ED25519, "the key is no Ed25519 key");
    must(hex((await sha256(bytesOf(name + "\n"), key)).slice(0, 4)) === id, "the key's hash differs");
    if (name !== proof.origin) return false;
    const verifier = await crypto.subtle.importKey("raw", key.slice(1), "Ed25519", false, ["verify"]);
    for (const line of proof.signatures) {
      const [, by, signature] = line.split(" ");
      const bytes = unbase64(signature ?? "");
      if (by !== name || hex(bytes.slice(0, 4)) !== id) continue;
      if (await crypto.subtle.verify("Ed25519", verifier, bytes.slice(4), proof.signed)) return true;
    }
    return false;
  };

  const verify = async () => {
    const said = [];
    must(globalThis.crypto?.subtle, "this page came over an insecure connection, where browsers do not verify: use guard audit prove");
    const data = box.dataset;
    const proof = parse(data.proof);
    must(proof.index === Number(data.index), "the proof is of another entry");
    const leaf = await sha256(Uint8Array.of(0), proof.leaf);
    must(hex(leaf) === document.querySelector("#leaf-hash").textContent.trim(), "the proof is of another leaf");
    const root = await rootFrom(leaf, proof.index, proof.size, proof.path);
    must(hex(root) === hex(proof.root), "the entry is not in the tree of the checkpoint");
    said.push(`Entry ${proof.index} is in the tree of ${proof.size} entries of ${proof.origin}.`);
    const own = trusted.value.trim();
    const keys = own ? [own] : data.keys.split("\n").filter(Boolean);
    let by = null;
    for (const key of keys) if (await verifies(key, proof)) by = key;
    must(by, own ? "the key that you gave has not signed the checkpoint" : "no key of the log has signed the checkpoint");
    said.push(own
      ? "Its checkpoint is signed by the key that you gave."
      : `Its checkpoint is signed by the key that this page came with: compare it with the one that you know, or type that one here. ${by}`);
    const says = JSON.parse(new TextDecoder().decode(proof.leaf));
    if (data.payload === undefined) {
      said.push("Its payload was erased, so there is nothing to compare.");
      return said;
    }
    const hash = await sha256(unhex(data.salt), bytesOf(data.payload));
    must(hex(hash) === says.payload, "the record is not the one that was logged");
    const record = JSON.parse(data.payload);
    must(record.host === says.host && record.boot === says.boot && record.sequence === says.seq, "leaf and record disagree");
    must(record.event === says.class, "leaf and record disagree about what happened");
    said.push("The record, as its host sent it, is the one that was logged.");
    return said;
  };

  const show = async () => {
    let said, good = true;
    try { said = await verify(); } catch (error) { said = [String(error.message ?? error)]; good = false; }
    state.textContent = good ? "Verified in this page." : "NOT verified.";
    state.className = good ? "note good" : "note bad";
    facts.replaceChildren(...said.map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }));
  };

  try { trusted.value = localStorage.getItem(KEPT) ?? ""; } catch { /* Not kept, then. */ }
  trusted.addEventListener("change", () => {
    try { localStorage.setItem(KEPT, trusted.value.trim()); } catch { /* Not kept, then. */ }
    show();
  });
  document.querySelector("#verify-proof").addEventListener("click", show);
  show();
})();
