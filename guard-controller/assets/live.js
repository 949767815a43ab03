// What changes by itself, and the keyboard. Every page works without this file.
"use strict";
(() => {
  const root = document.documentElement;
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  root.classList.add("js");
  // What the server last sent of each live part, before anything here changed it.
  const last = new Map(all("[data-live]").map((part) => [part.id, part.outerHTML]));

  // ---- Time. The server's clock counts: deadlines are its own.
  const skew = Number(document.body.dataset.now) - Date.now();
  const now = () => Date.now() + skew;
  const two = (number) => String(number).padStart(2, "0");
  const clock = (ms) => {
    const seconds = Math.max(0, Math.ceil(ms / 1000));
    const hours = Math.floor(seconds / 3600);
    const rest = two(Math.floor(seconds / 60) % 60) + ":" + two(seconds % 60);
    return hours > 0 ? hours + ":" + rest : rest;
  };
  const ago = (ms) => {
    const seconds = Math.max(0, Math.floor(ms / 1000));
    if (seconds < 60) return seconds + " s ago";
    if (seconds < 3600) return Math.floor(seconds / 60) + " min ago";
    return Math.floor(seconds / 3600) + " h ago";
  };
  const SOON_MS = 60000;
  const tick = () => {
    for (const element of all("[data-deadline]")) {
      const left = Number(element.dataset.deadline) - now();
      element.textContent = left > 0 ? clock(left) + " left" : "time is up";
      element.classList.toggle("soon", left < SOON_MS);
    }
    for (const bar of all("[data-deadline-bar]")) {
      bar.value = Math.max(0, Number(bar.dataset.deadlineBar) - now());
    }
    for (const element of all("[data-since]")) {
      element.textContent = ago(now() - Number(element.dataset.since));
    }
  };
  tick();
  setInterval(tick, 1000);

  // ---- The one-time link of a new user, in full.
  for (const element of all("[data-link]")) {
    element.textContent = location.origin + element.dataset.link;
  }

  // ---- Live parts: the page is read again and what differs is replaced.
  const holds = () => new Set(all("[data-hold]").map((row) => row.dataset.hold));
  const say = (text) => { const box = one("#announce"); if (box) box.textContent = text; };
  const replace = (fresh) => {
    const before = holds();
    for (const old of all("[data-live]")) {
      const next = fresh.getElementById(old.id);
      // A part with a key holds a form: it changes only with its key, or typed words would go.
      const same = next && old.dataset.key !== undefined && old.dataset.key === next.dataset.key;
      if (!next || same || last.get(old.id) === next.outerHTML) continue;
      last.set(old.id, next.outerHTML);
      const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      const open = all("details", old).map((details) => details.open);
      const adopted = document.importNode(next, true);
      all("details", adopted).forEach((details, at) => { details.open = Boolean(open[at]); });
      old.replaceWith(adopted);
      const again = focused && all("a", adopted).find((link) => link.getAttribute("href") === focused);
      if (again) again.focus({ preventScroll: true });
      if (old.dataset.key !== undefined) {
        say(one("h2", adopted).textContent);
        armed = null;
      }
    }
    document.title = fresh.title;
    const rows = all("[data-hold]");
    const added = before.size || rows.length ? rows.filter((row) => !before.has(row.dataset.hold)) : [];
    for (const row of added) row.classList.add("new");
    if (added.length === 1) say("New request: " + one(".row-main", added[0]).textContent.trim());
    if (added.length > 1) say(added.length + " new requests");
    mark();
    tick();
  };
  // The same page; what was sent with a form is not sent again, so the address must be one to GET.
  let reading = false;
  let again = false;
  const refresh = async () => {
    if (reading) { again = true; return; }
    reading = true;
    do {
      again = false;
      try {
        const headers = { "X-Guard-Live": "1" };
        const answer = await fetch(location.href, { headers, cache: "no-store" });
        if (answer.redirected) { location.reload(); return; }
        if (answer.ok) replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } catch { /* The stream's own reconnect refreshes. */ }
      if (again) await new Promise((done) => setTimeout(done, PAUSE_MS));
    } while (again);
    reading = false;
  };
  // Two hundred holds at once are a few reads, not two hundred.
  const PAUSE_MS = 100;

  // ---- One stream for all tabs: browsers allow few connections to one server.
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("guard-live") : null;
  const linkBox = one("#link");
  const linkState = (up) => { if (linkBox) linkBox.hidden = up; };
  const heard = (message) => {
    if (message === "down") { linkState(false); return; }
    linkState(true);
    refresh();
  };
  if (channel) channel.onmessage = (event) => heard(event.data);
  const tell = (message) => { if (channel) channel.postMessage(message); heard(message); };
  const listen = () => new Promise(() => {
    let first = true;
    const open = () => {
      const stream = new EventSource("/api/v1/events");
      for (const name of ["hold", "host", "session", "resync"]) {
        stream.addEventListener(name, () => tell(name));
      }
      stream.addEventListener("ready", () => {
        // Between two streams something may have happened; before the first one too.
        tell(first ? "first" : "again");
        first = false;
      });
      stream.onerror = () => {
        if (stream.readyState !== EventSource.CLOSED) return;
        // Refused (signed out, too many): the browser does not try again by itself.
        stream.close();
        tell("down");
        refresh();
        setTimeout(open, 3000);
      };
    };
    open();
  });
  if (document.body.dataset.livePage !== undefined && one("[data-live]")) {
    if (navigator.locks) navigator.locks.request("guard-live", listen);
    else listen();
  }

  // ---- Keyboard.
  let chosen = null;
  const rowsNow = () => all("[data-hold]");
  const mark = () => {
    for (const row of rowsNow()) row.classList.toggle("chosen", row.dataset.hold === chosen);
  };
  const move = (step) => {
    const rows = rowsNow();
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.dataset.hold === chosen);
    const to = at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + step));
    chosen = rows[to].dataset.hold;
    mark();
    one("a", rows[to]).focus();
  };
  let armed = null;
  const arm = (verdict) => {
    const form = one("#decide");
    const reason = one("#reason");
    if (!form || !reason || one("fieldset", form).disabled) return false;
    armed = verdict;
    for (const button of all("button[name=verdict]", form)) {
      button.classList.toggle("armed", button.value === verdict);
    }
    const hint = one("#hint");
    const word = verdict === "allow" ? "approves" : "denies";
    if (hint) hint.textContent = "Enter " + word + " with this reason. Esc leaves.";
    reason.focus();
    return true;
  };
  const disarm = () => {
    armed = null;
    for (const button of all("button.armed")) button.classList.remove("armed");
    if (document.activeElement) document.activeElement.blur();
  };
  const submit = () => {
    const form = one("#decide");
    const button = one("button[name=verdict][value=" + armed + "]", form);
    if (form.reportValidity()) form.requestSubmit(button);
  };
  const go = (selector, fallback) => {
    const link = one(selector);
    if (link) location.assign(link.href);
    else if (fallback) location.assign(fallback);
  };
  const help = () => { const box = one("#help"); if (box) (box.open ? box.close() : box.showModal()); };
  const openChosen = (hash) => {
    const row = rowsNow().find((row) => row.dataset.hold === chosen);
    if (row) location.assign(one("a", row).href + hash);
  };
  const keys = {
    "j": () => move(1),
    "k": () => move(-1),
    "?": help,
    "a": () => arm("allow") || openChosen("#approve"),
    "d": () => arm("deny") || openChosen("#deny"),
    "n": () => go("#next"),
    "q": () => go("#none", "/"),
  };
  document.addEventListener("keydown", (event) => {
    const inField = event.target.closest("input, textarea, select");
    if (event.key === "Escape" && inField) { disarm(); return; }
    if (event.target.id === "reason" && event.key === "Enter" && !event.shiftKey && armed && !event.isComposing) {
      event.preventDefault();
      submit();
      return;
    }
    if (inField || event.ctrlKey || event.metaKey || event.altKey || one("dialog[open]")) return;
    const action = keys[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  document.addEventListener("focusin", (event) => {
    const row = event.target.closest("[data-hold]");
    if (row) { chosen = row.dataset.hold; mark(); }
  });
  document.addEventListener("click", (event) => { if (event.target.closest("[data-help]")) help(); });
  // One decision, one request: a second click while the first is under way does nothing.
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "decide") return;
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "1";
  });
  if (location.hash === "#approve") arm("allow");
  if (location.hash === "#deny") arm("deny");
})();
