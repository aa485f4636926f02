// Spans and rows of an answer choose each other: a span shows its rows, a row shows its spans.
"use strict";
(() => {
  const numbers = (element) => (element.dataset.spans ?? "").split(" ").filter(Boolean);

  // The marks may have been moved into the conversation, so the scope is the whole page part.
  const scopeOf = (element) => element.closest("[data-chat]") ?? element.closest("[data-sources]");
  const marks = (scope) => {
    const chosen = scope.querySelector(".message.chosen");
    return (chosen ?? scope).querySelectorAll(".span[data-spans]");
  };

  const choose = (scope, spans, row) => {
    const wanted = new Set(spans);
    scope.classList.toggle("filtering", true);
    scope.classList.toggle("by-row", Boolean(row));
    for (const mark of marks(scope)) mark.classList.toggle("on", numbers(mark).some((n) => wanted.has(n)));
    for (const card of scope.querySelectorAll(".source")) {
      card.classList.toggle("on", row ? card === row : numbers(card).some((n) => wanted.has(n)));
    }
    for (const pick of scope.querySelectorAll("[data-pick]")) {
      pick.setAttribute("aria-pressed", String(pick.closest(".source") === row));
    }
    const clear = scope.querySelector("[data-clear]");
    if (clear) clear.hidden = false;
  };

  const clear = (scope) => {
    scope.classList.remove("filtering", "by-row");
    for (const element of scope.querySelectorAll(".span.on, .source.on")) element.classList.remove("on");
    for (const pick of scope.querySelectorAll("[data-pick]")) pick.setAttribute("aria-pressed", "false");
    const button = scope.querySelector("[data-clear]");
    if (button) button.hidden = true;
  };
  window.openledgerClearSources = clear;

  document.addEventListener("click", (event) => {
    const mark = event.target.closest(".span[data-spans]");
    const pick = event.target.closest("[data-pick]");
    const reset = event.target.closest("[data-clear]");
    const scope = scopeOf(event.target);
    if (!scope) return;
    if (mark) {
      event.preventDefault();
      const message = mark.closest(".message");
      if (message && !message.classList.contains("chosen")) {
        message.querySelector("[data-who]")?.click(); // another answer's panel first
        return;
      }
      if (mark.classList.contains("on")) return clear(scope);
      choose(scope, numbers(mark));
      scope.querySelector(".source.on")?.scrollIntoView({ block: "nearest" });
    } else if (pick) {
      const row = pick.closest(".source");
      if (row.classList.contains("on") && scope.classList.contains("by-row")) return clear(scope);
      choose(scope, numbers(row), row);
    } else if (reset) {
      clear(scope);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const scope = document.querySelector(".filtering");
    if (scope) clear(scope);
  });
})();
