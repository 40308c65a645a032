"use strict";
(() => {
  const form = document.getElementById("filters"), list = document.getElementById("cards");
  const query = document.getElementById("q"), shown = document.getElementById("shown");
  if (!form) return;
  form.hidden = false;
  const texts = new WeakMap();
  let first = shown.textContent;
  const text = card => {
    if (!texts.has(card)) texts.set(card, card.textContent.toLowerCase());
    return texts.get(card);
  };
  const filters = () => [...form.querySelectorAll("select")].filter(one => one.value);
  const matches = (card, words, chosen) =>
    chosen.every(one => one.dataset.filter === "flag"
      ? card.dataset.flags.split(" ").includes(one.value)
      : card.dataset[one.dataset.filter] === one.value) &&
    words.every(word => text(card).includes(word));
  const apply = () => {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean), chosen = filters();
    let count = 0;
    for (const card of list.children) {
      card.hidden = !matches(card, words, chosen);
      count += !card.hidden;
    }
    shown.textContent = words.length || chosen.length
      ? `${count.toLocaleString("en")} of ${list.children.length.toLocaleString("en")} match` : first;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", event => event.preventDefault());
  document.addEventListener("cards-added", () => {
    first = `${list.children.length.toLocaleString("en")} shown`;
    apply();
  });
  const move = step => {
    const cards = [...list.children].filter(card => !card.hidden);
    if (!cards.length) return;
    const at = cards.indexOf(document.activeElement.closest(".card"));
    const next = cards[Math.min(cards.length - 1, Math.max(0, at + step))];
    next.tabIndex = -1;
    next.focus();
    next.scrollIntoView({block: "nearest"});
  };
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "/") { event.preventDefault(); query.focus(); }
    if (event.key === "j") move(1);
    if (event.key === "k") move(-1);
  });
})();
