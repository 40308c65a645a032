(() => {
  const list = document.getElementById("cards"), headline = document.getElementById("headline");
  let after = Number(document.body.dataset.after), failed = 0;
  const show = news => {
    after = news.after;
    if (news.headline) headline.innerHTML = news.headline;
    if (!news.cards) return;
    document.getElementById("empty")?.remove();
    const made = document.createElement("template");
    made.innerHTML = news.cards;
    for (const card of made.content.querySelectorAll("[data-key]")) {
      list.querySelector(`[data-key="${CSS.escape(card.dataset.key)}"]`)?.remove();
      card.classList.add("new");
    }
    list.prepend(made.content);
    document.dispatchEvent(new Event("cards-added"));
  };
  const ask = async () => {
    try {
      const answer = await fetch(`/news?after=${after}`);
      if (answer.status === 409) return location.reload();
      if (!answer.ok) throw new Error(answer.status);
      show(await answer.json());
      failed = 0;
    } catch {
      failed += 1;
      if (failed === 3) headline.querySelector(".state").textContent = "watch has ended; this page stands still";
    }
    setTimeout(ask, failed ? 5000 : 1500);
  };
  setTimeout(ask, 500);
})();
