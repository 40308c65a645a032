"use strict";
(() => {
  const $ = id => document.getElementById(id);
  const token = document.querySelector("meta[name=token]").content;
  const waiting = [];
  let items = [], at = 0, saved = 0, sending = false;

  const decided = item => item.review && item.review !== "flag";
  const unsure = item => item.review === "flag" || (!item.review && item.flags.length > 0);
  const trouble = words => { $("trouble").hidden = !words; $("trouble").textContent = words; };

  const row = item => {
    const made = document.createElement("li"), open = document.createElement("button");
    const tag = document.createElement("span"), text = document.createElement("span");
    made.dataset.key = item.key;
    open.type = "button";
    open.className = "pick";
    tag.className = "tag";
    text.dir = "auto";
    open.append(tag, " ", text);
    open.addEventListener("click", () => go(items.indexOf(item)));
    made.append(open);
    item.row = made;
    paint(item);
    return made;
  };
  const paint = item => {
    const [tag, , text] = item.row.firstChild.childNodes;
    tag.textContent = item.review || "–";
    text.textContent = item.caption.slice(0, 300);
    item.row.dataset.review = item.review;
  };
  const counts = () => {
    const done = items.filter(decided).length, flags = items.filter(item => item.review === "flag").length;
    $("counts").textContent = `${done} of ${items.length} decided, ${flags} flagged`;
  };
  const show = () => {
    const item = items[at];
    if (!item) return;
    $("editor").hidden = true;
    $("caption").hidden = false;
    $("caption").textContent = item.caption;
    $("caption").dataset.key = item.key;
    $("image").textContent = item.image;
    $("flags").textContent = item.flags.join(" ");
    $("decision").hidden = !item.review;
    $("decision").textContent = item.by ? `${item.review} by ${item.by}` : item.review;
    const picture = $("picture");
    picture.hidden = true;
    $("blank").hidden = false;
    picture.alt = item.caption;
    picture.src = item.blank ? "data:," : `/picture/${item.key}`;
    for (const one of document.querySelectorAll("[aria-current]")) one.removeAttribute("aria-current");
    item.row.firstChild.setAttribute("aria-current", "true");
  };
  $("picture").addEventListener("load", () => { $("picture").hidden = false; $("blank").hidden = true; });
  const go = to => {
    if (!items.length) return;
    at = Math.min(items.length - 1, Math.max(0, to));
    show();
  };
  const next = wanted => {
    for (let step = 1; step <= items.length; step += 1) {
      const to = (at + step) % items.length;
      if (wanted(items[to])) return go(to);
    }
    return false;
  };
  const undecided = item => !item.review;

  const send = async () => {
    if (sending) return;
    sending = true;
    while (waiting.length) {
      const {item, decision, text} = waiting[0];
      try {
        const answer = await fetch("/decide", {
          method: "POST",
          headers: {"Content-Type": "application/json", "X-Token": token},
          body: JSON.stringify({key: item.key, decision, text, seen: item.seen}),
        });
        const said = await answer.json();
        if (answer.status === 409) {
          Object.assign(item, said.item);
          trouble(`${item.by || "somebody"} has decided on this caption meanwhile; look at it again`);
          at = items.indexOf(item);
          show();
        } else if (answer.ok) {
          Object.assign(item, said.item);
          saved += 1;
          $("saved").textContent = saved;
          if (waiting.length === 1) trouble("");
        } else if (answer.status === 507) throw new Error(said.error);
        else trouble(`not saved: ${said.error}`);
        waiting.shift();
        paint(item);
        counts();
      } catch (error) {
        trouble(`${waiting.length} not saved, trying again: ${error.message}`);
        await new Promise(done => setTimeout(done, 2000));
      }
    }
    sending = false;
  };
  const decide = (decision, text) => {
    const item = items[at];
    if (!item || waiting.some(one => one.item === item)) return;
    item.review = decision;
    item.by = "";
    if (text !== undefined) item.caption = text;
    paint(item);
    counts();
    waiting.push({item, decision, text});
    send();
    if (next(undecided) === false) show();
  };
  const edit = () => {
    if (!items[at]) return;
    $("caption").hidden = true;
    $("editor").hidden = false;
    $("text").value = items[at].caption;
    $("text").focus();
  };
  const save = () => {
    const text = $("text").value.trim();
    if (text) decide("edit", text);
  };
  const acts = {
    accept: () => decide("accept"), reject: () => decide("reject"), flag: () => decide("flag"), edit,
    unsure: () => next(unsure) === false && next(undecided), next: () => next(undecided),
    back: () => go(at - 1), on: () => go(at + 1),
  };
  const keys = {
    a: "accept", e: "edit", r: "reject", x: "reject", f: "flag", u: "unsure", n: "next",
    k: "back", j: "on", ArrowLeft: "back", ArrowRight: "on",
  };
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.id === "text") {
      if (event.key === "Escape") { show(); event.target.blur(); }
      if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); save(); event.target.blur(); }
      return;
    }
    if (event.target.matches("input, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "/") { event.preventDefault(); $("q").focus(); return; }
    if (keys[event.key]) { event.preventDefault(); acts[keys[event.key]](); }
  });
  $("keys").addEventListener("click", event => {
    const button = event.target.closest("button");
    if (button) acts[button.dataset.act]();
  });
  $("editor").addEventListener("submit", event => event.preventDefault());
  $("filters").addEventListener("submit", event => event.preventDefault());
  $("filters").addEventListener("input", () => {
    const words = $("q").value.toLowerCase().split(/\s+/).filter(Boolean), which = $("which").value;
    for (const item of items) {
      const text = `${item.caption} ${item.image}`.toLowerCase();
      item.row.hidden = !(words.every(word => text.includes(word)) && (!which || (item.review || "none") === which));
    }
  });
  addEventListener("beforeunload", event => { if (waiting.length) event.preventDefault(); });
  fetch("/items").then(answer => answer.json()).then(said => {
    items = said.items;
    $("cards").classList.toggle("many", items.length > 500);
    $("cards").append(...items.map(row));
    counts();
    const first = items.findIndex(undecided);
    go(Math.max(0, first));
  }).catch(error => trouble(`the captions cannot be loaded: ${error.message}`));
})();
